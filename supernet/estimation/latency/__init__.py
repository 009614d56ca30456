"""Measured latency: tables of what the parts of a space's networks take, and measurements of whole networks."""
