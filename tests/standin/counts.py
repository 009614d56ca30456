"""What small steps launch and move, as one line of JSON for each way to take them; `launches.json` keeps the bounds.

python -m tests.standin --count tests/standin/counts.py > tests/standin/launches.json
"""

import json
from dataclasses import replace
from typing import Any

import torch

from experiments.benchmarks.setting import Variant
from experiments.benchmarks.step_traffic import TINY, build, launches_of
from experiments.benchmarks.traffic import Traffic
from supernet.execution.step_graph import PATIENCE

DEVICE = torch.device("cuda")
DEFAULT = Variant("fused", as_product=True)
WHOLE, GROUPED = replace(DEFAULT, whole=True), replace(DEFAULT, executor="stacked")
MORE = {"first order": (WHOLE, GROUPED), "retraining": (WHOLE,)}


def minor_version() -> str:
    """Of PyTorch, on which launches depend."""
    return ".".join(torch.__version__.split(".")[:2])


def row_of(name: str, variant: Variant) -> dict[str, Any]:
    """What a step launches and moves after those in which libraries set themselves up and graphs are recorded."""
    step = build(name, TINY, variant, DEVICE)
    for _ in range(PATIENCE + 1 if variant.whole else 1):
        step()
    if variant.whole:
        return {"launches": launches_of(step, DEVICE)}
    launches = launches_of(step, DEVICE)
    with Traffic() as traffic:
        step()
    return {"launches": launches, "megabytes": round(traffic.total / 1e6, 1)}


def main() -> None:
    found: dict[str, Any] = {}
    for name in TINY.batches:
        for variant in (DEFAULT, *MORE.get(name, ())):
            found[f"{name}, {replace(variant, as_product=False)}"] = row_of(name, variant)
    print(json.dumps({"torch": minor_version(), "rows": found}, indent=1))


if __name__ == "__main__":
    main()
