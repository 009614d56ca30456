"""The one network that keeps a limit: its genotype, and on request its weights as they are in the supernet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from supernet.deployment.bundle import NAME, save_bundle
from supernet.estimation.forms import Form
from supernet.estimation.limits import Limits
from supernet.genotypes.drawing import save_drawings
from supernet.runtime.errors import InputError
from supernet.runtime.files import check_directory
from supernet.runtime.reading import is_file
from supernet.runtime.text import quantity
from supernet.search.black_box.fronts import Front, Point
from supernet.search.measured_winner import Trial, in_order, measured_winner
from supernet.search.progressive.subnetworks import subnetwork
from supernet.space.architecture import Architecture
from supernet.training.evaluation import evaluate

from ..console import say
from ..latencies import LATENCY, Latencies
from ..records.summary import write_json
from .settings import SETTINGS, network_there, say_what_is_replaced
from .units import in_words
from .writing import Asked

GENOTYPE, NETWORK = "genotype.json", "network.json"


def chosen(asked: Asked, front: Front, limit: float, weights: bool, console: Console) -> None:
    """Chooses the best network within the limit, writes it, and says what it is."""
    try:
        best = front.at_most(limit)
    except InputError as error:
        raise InputError(str(error).replace("limit=", "--at-most ", 1)) from None
    folder = asked.output / f"at_most_{limit:.12g}"
    if folder.exists():
        check_directory(folder, files=(GENOTYPE, NETWORK, NAME))
    trials: Sequence[Trial] = ()
    if front.cost == LATENCY and asked.latencies is not None:
        best, trials = _measured(asked, front, limit, asked.latencies, console)
    folder.mkdir(exist_ok=True)
    if not weights:
        _check_model(folder, best.architecture)
    say_what_is_replaced(folder / NETWORK, network_there(folder / NETWORK), asked.settings, console)
    best.architecture.save(folder / GENOTYPE)
    save_drawings(best.architecture, folder)
    costs = asked.all_costs(best.architecture)
    words = ", ".join(in_words(name, value) for name, value in costs.items())
    say(f"At most {in_words(front.cost, limit)}: {front.score} {best.score:.4f} by the supernet; {words}", console)
    known: dict[str, Any] = {"limit": {front.cost: limit}, f"{front.score} by the supernet": best.score, "costs": costs}
    known[SETTINGS] = dict(asked.settings)
    known["measured"] = [{"predicted": t.predicted, "measured": t.measured, "kept": t.kept} for t in trials]
    if weights:
        known |= _take_weights(asked, best.architecture, folder, console)
    write_json(folder / NETWORK, known)
    model = f" and {NAME}" if weights else ""
    say(
        f"Written: {GENOTYPE}{model} in {folder}. With the settings of the run, genotype={folder / GENOTYPE} trains it",
        console,
    )


def _check_model(folder: Path, architecture: Architecture) -> None:
    """Refuses to put a genotype beside the model file of another network."""
    if not is_file(folder / NAME):
        return
    try:
        same = Architecture.load(folder / GENOTYPE) == architecture
    except InputError:
        same = False
    if not same:
        raise InputError(
            f"{folder / NAME}: is of another network than the one that is chosen now; --weights replaces it, too, and "
            "--output FOLDER keeps both"
        )


def check_wanted(asked: Asked, limit: float, weights: bool) -> None:
    """Finds before anything is judged what cannot be: a limit that nothing keeps, weights of smaller networks."""
    material = asked.material
    _, least = Limits(asked.costs, {}).cheapest(asked.cost, material.decisions)
    if isinstance(asked.costs[asked.cost], Form) and limit < least:  # of a function the least is not known
        raise InputError(
            f"--at-most {limit:g}: no architecture costs so little ({asked.cost}); the cheapest has {least:.6g}"
        )
    assert material.restored is not None
    if weights and _plain(material.restored.space) != _plain(material.space):
        raise InputError(
            "--weights: the networks of this run's supernet are of another size than its final ones, which the limit "
            "is for; leave it out, and train the network"
        )


def _measured(
    asked: Asked, front: Front, limit: float, latencies: Latencies, console: Console
) -> tuple[Point, Sequence[Trial]]:
    """The best point that keeps the limit when it is measured."""
    if reason := latencies.why_not_measured():
        say(f"supernet-pareto: not measured, because {reason}", console)
        return front.at_most(limit), ()
    costs, material = asked.costs, asked.material
    within = {p.architecture: p for p in sorted(front.tried, key=lambda p: (-p.score, p.cost)) if p.cost <= limit}

    def predict(architecture: Architecture) -> float:
        return costs.of(LATENCY, architecture)

    found = measured_winner(
        in_order(within, predict),
        predict,
        lambda architecture: latencies.milliseconds(costs.network(architecture), material.shape),
        limit,
        cheapest=front.points[0].architecture,
    )
    for trial in found.trials:
        verdict = "keeps the limit" if trial.kept else f"breaks the limit of {limit:g} ms"
        say(f"Measured {trial.measured:.4g} ms, predicted {trial.predicted:.4g} ms: {verdict}", console)
    if not found.winner.kept:
        raise InputError(
            f"--at-most {limit:g}: no network kept it when it was measured; the fastest of {len(found.trials)} took "
            f"{found.winner.measured:.4g} ms"
        )
    return within[found.winner.architecture], found.trials


def _take_weights(asked: Asked, architecture: Architecture, folder: Path, console: Console) -> dict[str, Any]:
    """Writes the network with the supernet's weights as a model file, and says what its accuracy is."""
    material, job = asked.material, asked.material.job_for("--weights")
    assert material.restored is not None
    data, space = job.data, material.space
    try:
        taken = subnetwork(material.restored, architecture, outputs=material.outputs, factories=material.factories)
    except InputError as error:
        raise InputError(f"--weights: {str(error).removeprefix('restored: ')}") from None
    images = data.test.open().to(job.device)
    test = evaluate(taken.network, images, data.augmentation, batch_size=100, device=job.device, task=job.task)
    score = job.task.score
    known = {f"validation {score}": taken.valid.score, f"test {score}": test.score}
    save_bundle(
        folder / NAME,
        taken.network,
        space=space,
        architecture=architecture,
        classes=data.classes,
        augmentation=data.augmentation,
        shape=data.shape,
        provenance={"data": data.name, "seed": job.seed, "weights": "of the supernet, not trained on", **known},
        answer=job.task.answer,
    )
    say(
        f"With the supernet's weights, and norms measured on {quantity(taken.images, 'training image')}: {score} "
        f"{taken.valid.score:.4f} on the {quantity(len(material.restored.problem.valid), 'image')} by which it was "
        f"chosen, {test.score:.4f} on the {quantity(len(data.test), 'test image')}",
        console,
    )
    return known


def _plain(space: Any) -> Any:
    """The space without an auxiliary head, which serves training."""
    return replace(space, auxiliary=False) if any(f.name == "auxiliary" for f in fields(space)) else space
