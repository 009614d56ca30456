"""Zero-cost proxies: scores of a network that was never trained, from a batch or two of images."""
