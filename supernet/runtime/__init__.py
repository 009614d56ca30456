"""Where a loop runs: seeds, checkpoints, interruption and reports."""
