"""What a step does that would make it wait for a GPU, seen on a processor."""

from torch.utils._python_dispatch import TorchDispatchMode

_HOST = {
    "_local_scalar_dense": "reads a number",
    "nonzero": "reads how many there are",
    "lift_fresh": "sends numbers",
    "fill_": "writes a number",
}


class Waiting(TorchDispatchMode):
    """Within it, `seen` is what goes between host and device: PyTorch's operations by what they do."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if (what := _HOST.get(func._schema.name.removeprefix("aten::"))) is not None:
            self.seen.append(what)
        return func(*args, **(kwargs or {}))


def waits(function, *args):
    """What a call would wait for that is not the first one: that may send what it keeps."""
    function(*args)
    with Waiting() as waiting:
        function(*args)
    return waiting.seen
