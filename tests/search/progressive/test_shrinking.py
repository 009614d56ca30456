"""Progressive shrinking: what each stage opens, whose weights it goes on with, and who teaches."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.run import Run
from supernet.search import methods
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.progressive.search import StagedSearch, build_stage, check_stages, search_stages
from supernet.search.progressive.shrinking import Distilled, Several, Shrinking, Teacher
from supernet.search.progressive.stages import Stage, resolve_stages
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.space import mobile
from supernet.space.architecture import check, matters
from supernet.space.choosers import Decided, Undecided
from supernet.space.inverted_residual import Style
from supernet.space.mobile import Mobile
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import decisions_of
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification, MultiLabel

SHAPE = (1, 8, 8)
BLOCKS = mobile.Stage((8,), depths=(1, 2, 3), kernels=(3, 5, 7), expansions=(3, 4, 6))
SPACE = Mobile((BLOCKS,), stem=8, head=16, stem_stride=1, dropout=0.0, style=Style(kernel_transforms=True))
FIRST = Stage(shrinking=Shrinking(open={"kernel": 1, "depth": 1, "expand": 1}))


def stage(distillation=1.0, paths=2, **opened) -> Stage:
    return Stage(inherit_weights=True, shrinking=Shrinking(opened, paths, distillation))


def planned(stages, space=SPACE, strategy=UniformStrategy) -> StagedSearch:
    method = replace(methods.random_search(), strategy=strategy).with_parts(candidates=2, finalists=1, batches=1)
    recipe = SearchRecipe(epochs=1, batch_size=6, schedule=Cosine(0.05))
    resolved = resolve_stages(stages, space, recipe, SHAPE, 3)
    return StagedSearch(resolved, method.chooser_for(space), method.make_strategy, SHAPE, 3)


def half(seed: int) -> Resident:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (12, *SHAPE), generator=stream, dtype=torch.uint8)
    return Resident(images, torch.arange(12) % 3)


def batch() -> Batch:
    stream = torch.Generator().manual_seed(3)
    return Batch(torch.randn(6, *SHAPE, generator=stream), torch.randint(3, (6,), generator=stream))


def step_of(supernet) -> Step:
    optimizer = torch.optim.SGD(supernet.parameters(), 0.1)
    return Step(supernet, batch(), batch(), Classification(), optimizer, 0.5)


def test_a_stage_opens_the_largest_options_of_the_kinds_it_names():
    search = planned([FIRST, stage(depth=2, expand=1), stage()])
    opened = [build_stage(search, 0).supernet.decisions]
    before = build_stage(search, 0)
    for number in (1, 2):
        before = build_stage(search, number, before=before)
        opened.append(before.supernet.decisions)
    first, second, last = ({n: d.options for n, d in decisions.items()} for decisions in opened)
    assert {len(options) for options in first.values()} == {1}
    assert (first["stage1/depth"], first["stage1/2/kernel"], first["stage1/3/expand"]) == (("3",), ("7",), ("6",))
    assert second["stage1/depth"] == ("2", "3")
    assert second["stage1/3/kernel"] == ("3", "5", "7")
    assert second["stage1/3/expand"] == ("6",)
    assert last["stage1/1/expand"] == ("3", "4", "6")


def test_sizes_of_blocks_beyond_the_depth_are_not_drawn():
    """In once-for-all's code they are, though nothing has them."""
    search = planned([Stage(shrinking=Shrinking(paths=4))])
    built = build_stage(search, 0)
    strategy = built.inner
    shallow = 0
    for number in range(20):
        drawn = strategy._drawn(number)
        check(drawn, built.supernet.decisions)
        assert set(drawn) == {n for n, d in built.supernet.decisions.items() if matters(d, drawn)}
        shallow += "stage1/3/kernel" not in drawn
    assert 0 < shallow < 20


def test_each_stage_goes_on_with_the_weights_of_the_one_before():
    """The largest network computes the same: opened kernels start as their middles, opened widths are sorted."""
    search = planned([FIRST, stage(), stage()])
    first = build_stage(search, 0)
    second = build_stage(search, 1, before=first)
    images, answers = batch().images, []
    for built in (first, second):
        largest = {n: torch.eye(len(d.options))[-1] for n, d in built.supernet.decisions.items()}
        answers.append(built.supernet.eval()(images, largest))
    torch.testing.assert_close(*answers)
    names = [n for n, _ in second.supernet.named_parameters() if ".transforms." in n]
    assert len(names) == 2 * 3
    assert not [n for n, _ in first.supernet.named_parameters() if ".transforms." in n]


def test_the_teacher_is_the_first_stages_network_in_evaluation_mode():
    """In training mode, as in once-for-all's code, what it says of an image would depend on the others."""
    search = planned([FIRST, stage(depth=2, expand=1), stage()])
    first = build_stage(search, 0)
    state = {name: tensor.clone() for name, tensor in first.supernet.state_dict().items()}
    second = build_stage(search, 1, before=first)
    third = build_stage(search, 2, before=second)
    assert second.teacher is third.teacher is not None
    assert third.teacher.supernet is first.supernet
    images = batch().images
    whole, alone = third.teacher(images), torch.cat([third.teacher(image[None]) for image in images])
    torch.testing.assert_close(whole, alone)
    assert not whole.requires_grad
    assert isinstance(third.strategy, Distilled)
    step = step_of(third.supernet)
    third.strategy.backward(step, third.strategy.samples(step))
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.supernet.state_dict().items())
    assert all(parameter.grad is None for parameter in first.supernet.parameters())


def test_of_several_labels_the_teachers_probabilities_are_learnt_one_by_one():
    search = planned([FIRST, stage(distillation=0.5, paths=1)])
    first = build_stage(search, 0)
    built = build_stage(search, 1, before=first)
    twin = build_stage(search, 1, before=build_stage(search, 0)).supernet
    taught = first.supernet(batch().images, {n: torch.ones(1) for n in first.supernet.decisions})
    labels = (torch.arange(taught.numel()) % 2).view_as(taught)
    step = replace(step_of(built.supernet), train=Batch(batch().images, labels), task=MultiLabel())
    (weights,) = built.strategy.samples(step)
    logits = twin(batch().images, weights)
    wanted = [F.binary_cross_entropy_with_logits(logits, each) for each in (labels.float(), taught.sigmoid())]
    ((loss, _),) = built.strategy.backward(step, [weights])
    torch.testing.assert_close(loss, (wanted[0] + 0.5 * wanted[1]).detach())


def test_several_networks_a_step_learn_from_labels_and_teacher_and_their_gradients_are_added_up():
    search = planned([FIRST, stage(distillation=0.5, paths=3)])
    first = build_stage(search, 0)
    built = build_stage(search, 1, before=first)
    twin = build_stage(search, 1, before=build_stage(search, 0)).supernet
    step = step_of(built.supernet)
    paths = built.strategy.samples(step)
    assert len(paths) == 3
    assert any(not torch.equal(paths[0][name], paths[1][name]) for name in paths[0])
    passes = built.strategy.backward(step, paths)
    taught, total = first.supernet(batch().images, {n: torch.ones(1) for n in first.supernet.decisions}), 0.0
    for weights, (loss, _) in zip(paths, passes, strict=True):
        logits = twin(batch().images, weights)
        soft = -(taught.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        own = F.cross_entropy(logits, batch().labels) + 0.5 * soft
        torch.testing.assert_close(loss, own.detach())
        total = total + own
    total.backward()
    for mine, theirs in zip(built.supernet.parameters(), twin.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_all_stages_run_and_end_in_a_network():
    stages = [FIRST, stage(depth=1, expand=1, paths=1), stage(depth=2, expand=1), stage(expand=2), stage()]
    search = planned(stages)
    check_stages(search)
    found = search_stages(search, half(0), half(1), Augmentation((0.0,), (1.0,)))
    assert found == search_stages(search, half(0), half(1), Augmentation((0.0,), (1.0,)))
    check(found.architecture, decisions_of(SPACE, shape=SHAPE, outputs=3))
    assert SPACE.network(Decided(found.architecture), SHAPE, 3)(batch().images).shape == (6, 3)


def test_a_strategys_state_goes_through_the_wrappers():
    built = build_stage(planned([Stage(shrinking=Shrinking(paths=2))]), 0)
    assert isinstance(built.strategy, Several)
    step = step_of(built.supernet)
    built.strategy.samples(step)
    again = build_stage(planned([Stage(shrinking=Shrinking(paths=2))]), 0).strategy
    again.load_state_dict(built.strategy.state_dict())
    for one, other in zip(built.strategy.samples(step), again.samples(step), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_is_told_in_one_line():
    with pytest.raises(InputError, match=r"^open.kernal: the space has no open size of this kind"):
        check_stages(planned([Stage(shrinking=Shrinking({"kernal": 1}))]))
    with pytest.raises(InputError, match=r"the space has no open size at all; .* nested, such as ofa_mbv3$"):
        check_stages(planned([Stage(shrinking=Shrinking({"kernel": 1}))], NasBench201(4, 1, 1, 2)))
    with pytest.raises(InputError, match=r"^stages\[0\].shrinking.distillation=1.0: there is no stage before"):
        planned([replace(stage(), inherit_weights=False)])
    with pytest.raises(InputError, match=r"^open.kernel=0: needs 1 option or more"):
        Shrinking({"kernel": 0})
    with pytest.raises(InputError, match=r"^paths=0"):
        Shrinking(paths=0)
    with pytest.raises(InputError, match=r"^distillation=-1"):
        Shrinking(distillation=-1)
    search = planned([Stage(), stage()])
    with pytest.raises(InputError, match=r"^distillation: the first stage trains several networks, and stage1/depth"):
        build_stage(search, 1, before=build_stage(search, 0))


def test_images_of_several_sizes_have_one_teacher():
    network = Mobile((mobile.Stage((8,)),), stem=8, head=8, resolutions=(8, 16)).network(
        Undecided(single=True), SHAPE, 3
    )
    supernet = Supernet(network)
    assert list(supernet.decisions) == ["resolution"]
    assert Teacher(supernet)(batch().images).shape == (6, 3)


def test_an_old_stage_is_told_by_the_old_words():
    """A checkpoint of a stage without shrinking goes on."""
    assert "shrinking" not in str(Stage(keep=3))
    assert str(FIRST).endswith(
        "shrinking=(open=[('depth', 1), ('expand', 1), ('kernel', 1)], paths=1, distillation=0.0)"
    )


@pytest.mark.parametrize("looks", [5, 9])
def test_stopped_in_a_later_stage_and_resumed_is_the_same(tmp_path, looks):
    """The teacher comes back from the first stage's checkpoint; a stage that opens something else is another search."""

    class Stop(Interruption):
        asked = 0

        def requested(self):
            self.asked += 1
            self.signal = 15 if self.asked > looks else None
            return self.asked > looks

    def run_of(name, interruption=None):
        return Run(checkpoint=tmp_path / f"{name}.pt", interruption=interruption or Interruption())

    stages = [FIRST, stage(depth=2, expand=1), stage()]
    data, stop = (half(0), half(1), Augmentation((0.0,), (1.0,))), Stop()
    with pytest.raises(Interrupted):
        search_stages(planned(stages), *data, run_of=lambda name: run_of(name, stop))
    assert (tmp_path / "search2.pt").exists()
    assert search_stages(planned(stages), *data, run_of=run_of) == search_stages(planned(stages), *data)
    with pytest.raises(InputError, match="stage is depth"):
        search_stages(planned([FIRST, stage(depth=3, expand=1), stage()]), *data, run_of=run_of)


def test_once_for_all_has_the_published_lengths_and_rates():
    """train_ofa_net.py: 64 images and one process; the largest network takes 180 epochs at 2.6 / 32."""
    method = methods.once_for_all()
    found = resolve_stages(method.stages, SPACE, method.recipe, SHAPE, 3)
    epochs = [each.recipe.epochs for each in found]
    rates = [each.recipe.schedule(0, each.recipe.epochs) for each in found]
    assert epochs == [180, 120, 25, 120, 25, 120]
    assert rates == pytest.approx([2.6 / 32, 0.03, 0.0025, 0.0075, 0.0025, 0.0075])
    assert [each.recipe.schedule(each.recipe.epochs, each.recipe.epochs) for each in found] == pytest.approx(6 * [0.0])
    decisions = decisions_of(SPACE, shape=SHAPE, outputs=3)
    opened = [
        {**{n: d.options for n, d in decisions.items()}, **each.shrinking.kept(decisions)} for each in method.stages
    ]
    kinds = [{n.rsplit("/", 1)[-1]: o for n, o in options.items()} for options in opened]
    assert [(len(k["kernel"]), len(k["depth"]), len(k["expand"])) for k in kinds] == [
        (1, 1, 1),
        (3, 1, 1),
        (3, 2, 1),
        (3, 3, 1),
        (3, 3, 2),
        (3, 3, 3),
    ]
