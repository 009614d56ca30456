"""Records what the original code of DARTS and of PC-DARTS computes, for tests/genotypes/test_original_checkpoints.py.

    python tests/genotypes/original/record.py PATH_TO_DARTS/cnn PATH_TO_PC_DARTS

imports the originals' own modules from clones of github.com/quark0/darts and github.com/yuhuixu1993/PC-DARTS, gives
every tensor of their networks values drawn from its name, runs them in float64 on the CPU and writes figures.json
beside this file. Nothing of the originals is kept here but names, shapes and the numbers that came out.
"""

import importlib
import json
import sys
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values that depend on the name alone (numpy's RandomState is frozen: the same for ever)."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy(np.abs(values) + 0.5 if name.endswith("running_var") else 0.5 * values)


def fill_state(network: torch.nn.Module) -> dict[str, list[int]]:
    state = {n: fill(n, tuple(t.shape)) for n, t in network.state_dict().items() if not n.endswith("batches_tracked")}
    network.load_state_dict(state, strict=False)
    return {name: list(value.shape) for name, value in state.items()}


def images(count: int, size: int) -> torch.Tensor:
    return fill(f"images{count}x{size}", (count, 3, size, size))


def search(model_search, architect) -> dict:
    network = model_search.Network(4, 5, 3, torch.nn.CrossEntropyLoss())
    shapes = fill_state(network)
    for name, alphas in (("alphas_normal", network.alphas_normal), ("alphas_reduce", network.alphas_reduce)):
        alphas.data = fill(name, tuple(alphas.shape))
    x, y = images(4, 16), torch.tensor([0, 1, 2, 4])
    network.eval()
    evaluated = network(x)
    network.train()
    logits = network(x)
    gradients = torch.autograd.grad(F.cross_entropy(logits, y), network.arch_parameters())

    fill_state(network)
    settings = SimpleNamespace(momentum=0.9, weight_decay=3e-4, arch_learning_rate=3e-4, arch_weight_decay=1e-3)
    optimizer = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    for name, parameter in network.named_parameters():
        optimizer.state[parameter]["momentum_buffer"] = 0.1 * fill("momentum " + name, tuple(parameter.shape))
    unrolled = architect.Architect(network, settings)
    unrolled.optimizer.step = lambda: None
    x2, y2 = images(5, 16)[:4], torch.tensor([3, 1, 0, 2])
    unrolled.step(x2, y2, x, y, 0.025, optimizer, unrolled=True)
    return {
        "shapes": shapes,
        "evaluated": evaluated.tolist(),
        "logits": logits.tolist(),
        "first_order": [g.tolist() for g in gradients],
        "second_order": [a.grad.tolist() for a in network.arch_parameters()],
    }


def final(network: torch.nn.Module, size: int) -> dict:
    shapes = fill_state(network)
    network.drop_path_prob = 0.0
    x = images(3, size)
    network.eval()
    evaluated = network(x)[0]
    network.train()
    logits, auxiliary = network(x)
    return {
        "shapes": shapes,
        "evaluated": evaluated.tolist(),
        "logits": logits.tolist(),
        "auxiliary": None if auxiliary is None else auxiliary.tolist(),
    }


def search_partial(model_search, like: dict[str, list[int]]) -> dict:
    """PC-DARTS' search network; of its shapes only those are kept that differ from `like`, DARTS' of the same names.

    Four times DARTS' channels here: a quarter of them is operated on, so the operations have the same shapes.
    """
    network = model_search.Network(16, 5, 3, torch.nn.CrossEntropyLoss())
    shapes = fill_state(network)
    assert shapes.keys() == like.keys()
    names = ("alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce")
    for name in names:
        getattr(network, name).data = fill(name, tuple(getattr(network, name).shape))
    x, y = images(4, 16), torch.tensor([0, 1, 2, 4])
    network.eval()
    evaluated = network(x)
    network.train()
    logits = network(x)
    gradients = torch.autograd.grad(F.cross_entropy(logits, y), [getattr(network, name) for name in names])
    return {
        "shapes": {name: shape for name, shape in shapes.items() if shape != like[name]},
        "evaluated": evaluated.tolist(),
        "logits": logits.tolist(),
        "first_order": [g.tolist() for g in gradients],
    }


def modules(path: str, *names: str) -> list:
    """Modules of a folder; those of the other original, which have the same names, are forgotten."""
    for name in ("architect", "genotypes", "model", "model_search", "operations", "utils"):
        sys.modules.pop(name, None)
    sys.path.insert(0, path)
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(path)


def main(darts: str, pc_darts: str) -> None:
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.nn.Module.cuda = lambda self, *_, **__: self
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    architect, genotypes, model, model_search = modules(darts, "architect", "genotypes", "model", "model_search")
    cifar = [model.NetworkCIFAR(4, 5, 4, True, getattr(genotypes, n)) for n in ("DARTS_V2", "AmoebaNet", "NASNet")]
    imagenet = model.NetworkImageNet(4, 5, 4, True, genotypes.DARTS_V1)
    imagenet.global_pooling = torch.nn.AdaptiveAvgPool2d(1)  # theirs wants 7x7: 224x224 images, too large to record
    imagenet.auxiliary_head.features[1] = torch.nn.AdaptiveAvgPool2d(2)
    searched = search(model_search, architect)
    figures = {
        "search": searched,
        "darts_v2": final(cifar[0], 32),
        "amoebanet_a": final(cifar[1], 32),
        "nasnet_a": final(cifar[2], 32),
        "imagenet_darts_v1": final(imagenet, 64),
        "pc_darts": search_partial(modules(pc_darts, "model_search")[0], searched["shapes"]),
    }
    Path(__file__).with_name("figures.json").write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
