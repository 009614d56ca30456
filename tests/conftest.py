"""One thread a test process: the networks are tiny, and processes that share cores would wait for each other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)
