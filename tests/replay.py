"""A capture for CUDA graphs that replays by running the functions again."""

import torch

from supernet.execution.cuda_graphs import Recorded


class Replay:
    """Stands in for CUDA's capture: results are always written into the same tensors, as a graph does."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, forward, backward):
        self.recorded += 1
        for _ in range(2):  # trial runs
            outputs = forward()
            if backward is not None:
                backward(outputs)
        outputs = forward()
        latest = [outputs]
        gradients = backward(outputs) if backward is not None else []
        gradients = [None if g is None else g.clone() for g in gradients]  # some are expanded

        @torch.no_grad()
        def forth():
            self.replayed += 1
            latest[0] = forward()
            for mine, new in zip(outputs, latest[0], strict=True):
                mine.detach().copy_(new)

        @torch.no_grad()
        def back():
            with torch.enable_grad():
                new = backward(latest[0])
            for mine, value in zip(gradients, new, strict=True):
                if mine is not None:
                    mine.copy_(value)

        return Recorded(outputs, forth, gradients, back)
