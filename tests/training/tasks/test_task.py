"""The protocol of a task: the library's own tasks keep it, and so does the one that people copy from the page."""

import inspect
import re
from pathlib import Path

import pytest
import torch

import supernet
from supernet.data.batches import Batch
from supernet.training import tasks
from supernet.training.tasks import Classification, Detection, MultiLabel, Task

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"
MEMBERS = sorted(name for name in vars(Task) if not name.startswith("_"))


def of_the_page():
    """The example of a task, made of the code of the page."""
    (code,) = (b for b in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M) if "class Grades" in b)
    names = {"__name__": __name__}
    exec(code, names)
    return names["Grades"]()


@pytest.mark.parametrize(
    "make",
    [Classification, MultiLabel, lambda: Detection(("cell",)), of_the_page],
    ids=["one", "several", "boxes", "own"],
)
def test_a_task_has_all_that_the_protocol_asks_for(make):
    task = make()
    assert {"score", "distillation", "chance", "chance_without_labels", "regularised"} <= set(MEMBERS)
    for name in MEMBERS:
        asked, own = getattr(Task, name), getattr(task, name)
        if callable(asked):
            assert list(inspect.signature(own).parameters) == list(inspect.signature(asked).parameters)[1:], name


def test_the_task_of_the_page_learns_from_a_teacher_and_is_scored():
    task, batch = of_the_page(), Batch(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 2, 0]))
    logits = (4 * torch.eye(3)[torch.tensor([1, 1, 0, 0])]).requires_grad_()  # near, right, far, right
    (gradient,) = torch.autograd.grad(task.distillation((logits, -logits), logits), logits)
    torch.testing.assert_close(gradient, torch.zeros(4, 3))
    assert task.score_sum(logits, batch) == 3
    assert task.scores([task.tally((logits, -logits), batch)]) == {"within_one": 0.75}
    assert task.chance([task.tally(logits, batch)]) == 1.0
    near = [abs(grade - drawn) <= 1 for grade in range(5) for drawn in range(5)]
    assert task.chance_without_labels(5) == sum(near) / 25


def test_every_task_is_offered():
    assert set(tasks.__all__) - set(supernet.tasks.__all__) == {
        *("CLASSIFICATION", "Output", "SoftLoss", "soft_cross_entropy")  # for those who write a task
    }
