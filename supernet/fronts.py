"""What a trained supernet offers for each cost, and its networks ready for use: `supernet.pareto`, `subnetwork`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from supernet.calls import check_kinds, folder_of
from supernet.data.dataset import Data
from supernet.deployment.predictor import Predictor
from supernet.estimation.scores import Score
from supernet.estimation.space_costs import SpaceCosts
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.exploration import costs_in_short, keeping, kept_run
from supernet.runtime.checkpoint import COSTS
from supernet.runtime.errors import InputError
from supernet.runtime.workers import Workers
from supernet.search.black_box.fronts import Front, ask_front
from supernet.search.progressive.restoring import Restored
from supernet.search.progressive.subnetworks import subnetwork as take_subnetwork
from supernet.space.architecture import Architecture
from supernet.space.survey import candidates_of

_NAME = "pareto"


def pareto(
    restored: Restored,
    costs: SpaceCosts,
    cost: str = "macs",
    *,
    score: Score | None = None,
    evaluations: int = 500,
    population: int = 50,
    seed: int = 0,
    directory: str | Path | None = None,
    progress: bool = False,
    workers: Workers | None = None,
) -> Front:
    """Asks a trained supernet for its whole front: for each cost the architecture of the best accuracy.

    NSGA-II proposes; it begins with the cheapest architecture and the largest one. It is `explore` with two objectives,
    for a score that knows one of them.

    Args:
        restored: the trained supernet, from `restore`.
        costs: of the final networks; "latency" is there where a table of measured times was given.
        cost: which of them, such as "macs", "latency", "parameters", "memory" or "bytes".
        score: judges; None: the supernet's accuracy (`supernet.scores.SupernetScore`).
        evaluations: how many architectures are judged at most.
        population: of NSGA-II.
        seed: of all draws, in [0, 2**32).
        directory: a folder for TensorBoard, pareto.csv and a checkpoint: the same call goes on from there. None:
            nothing is kept.
        progress: whether a bar is shown on a terminal.
        workers: `supernet.Workers(count=8)`: eight processes judge side by side; None: this one.

    Returns:
        The front, with its hypervolume. `at_most` gives the best architecture within a limit.

    Raises:
        InputError: a cost is not known, a number is out of its range, or the folder holds something else.

    Example:
        >>> import tempfile
        >>> import supernet
        >>> space, data = supernet.NasBench201(channels=4, cells=1, stages=1, nodes=2), supernet.data.digits()
        >>> search = {"method": supernet.methods.spos(candidates=2), "epochs": 1}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = supernet.find(space, data, directory=folder, **search)
        ...     restored = supernet.restore(folder, space, data, **search)
        >>> front = supernet.pareto(restored, supernet.SpaceCosts(space, data.shape, 10), "macs", evaluations=20)
        >>> best = front.at_most(20_000)
        >>> model = supernet.subnetwork(restored, best.architecture, data)
        >>> len(front.tried), best.cost <= 20_000, model.provenance["weights"]
        (20, True, 'of the supernet, not trained on')
    """
    check_kinds(seed=seed, directory=directory, evaluations=evaluations, population=population)
    check_kinds(workers=workers)
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: needs to lie between 0 and {2**32 - 1}")
    if not isinstance(restored, Restored):
        raise InputError(f"restored={str(restored)[:60]}: needs what supernet.restore gives")
    if not isinstance(costs, SpaceCosts):
        raise InputError(f"costs={str(costs)[:60]}: needs supernet.SpaceCosts(space, data.shape, classes)")
    problem, folder, console = restored.problem, folder_of(directory), Console(quiet=not progress)
    said = {f"search: {name}": str(value) for name, value in problem.run.fingerprint.items()}
    said |= {"cost": cost, "population": str(population)}
    if folder is not None:
        said[COSTS] = costs_in_short(costs, [cost], restored.decisions)
    run, rows = kept_run(folder, console, seed, said, progress, name=_NAME)
    with keeping(folder, run):
        return ask_front(
            candidates_of(restored.space, decisions=restored.decisions),
            score or SupernetScore(problem, batch_size=64),
            problem.task.score,
            costs,
            cost,
            evaluations=evaluations,
            decisions=restored.decisions,
            population=population,
            chance=problem.task.chance_without_labels(costs.outputs),
            seed=seed,
            run=run,
            rows=rows,
            workers=workers,
        )


def subnetwork(restored: Restored, architecture: Architecture, data: Data, *, images: int = 2000) -> Predictor:
    """Takes the network of an architecture out of a trained supernet, ready for use: nothing is trained again.

    Its norms are measured anew. A supernet that was trained path by path, or by the sandwich rule, has made its
    networks for this; the networks of one that was trained as a mixture are poor without a training of their own.

    Args:
        restored: the trained supernet, from `restore`.
        architecture: of its space, such as one of `pareto`.
        data: the images of that search.
        images: training images by which the norms are measured, at most.

    Returns:
        The model. Its provenance has its accuracy on the half of the images that architectures are judged by; on the
        test images `judge` tells it.

    Raises:
        InputError: the data are others, or no plain network has the weights of this supernet.
    """
    check_kinds(architecture=architecture, data=data, images=images)
    if data.shape != restored.problem.train.shape:
        raise InputError(f"data: images {data.shape}; the supernet is of images {restored.problem.train.shape}")
    taken = take_subnetwork(restored, architecture, outputs=restored.problem.task.outputs(data.classes), images=images)
    return Predictor(
        taken.network.cpu(),
        space=restored.space,  # type: ignore[arg-type]
        architecture=architecture,
        classes=data.classes,
        shape=data.shape,
        augmentation=data.augmentation,
        provenance={
            "data": data.name,
            "weights": "of the supernet, not trained on",
            f"validation {restored.problem.task.score}": taken.valid.score,
        },
        answer=restored.problem.task.answer,
    )
