"""Mobile spaces: stages of inverted residual blocks whose sizes are searched.

A stage has some blocks of one width, of which the first divides height and width by its stride. How many blocks there
are, how wide they are, and of each block the kernel, the expansion, the activation and whether it has
squeeze-and-excite can be open. The space says which values there are, and how the weights of candidates are shared:

- **nested**: each size is a decision of its own ("stage2/1/kernel", "stage2/depth"), and smaller sizes are parts of the
  largest (once-for-all). A decision about a block that a smaller depth leaves out does not matter there.
- **separate**: each block is one decision ("stage2/1") among candidates such as "k3_e6", each with its own weights
  (FBNet, ProxylessNAS, SPOS). "skip_connect" leaves the block out where its input can pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, ClassVar, Literal, cast

from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.architecture import Architecture, Condition, Decision
from supernet.space.choices import SKIP
from supernet.space.choosers import Chooser
from supernet.space.dropout import Dropout
from supernet.space.elastic import Questions, Size
from supernet.space.heads import Feature, Outputs
from supernet.space.inverted_residual import (
    ACTIVATIONS,
    ElasticInvertedResidual,
    Form,
    InvertedResidual,
    OpenForm,
    Style,
    rounded,
)
from supernet.space.mobile_parts import (
    ElasticHead,
    MobileStage,
    Resize,
    convolution,
    drop_deeper_blocks_more,
    initialise,
)
from supernet.space.mobile_stages import LARGEST, SQUEEZE, Block, Candidate, Stage, candidates_of_block
from supernet.space.operations import Operation, Site

_MOST_STAGES = 64


@dataclass(frozen=True)
class Mobile:
    """The settings of a mobile network, and its builder; `supernet.spaces` has those of the literature.

    Norms learn scale and shift in the search, too: the supernet's parameters are those of the final network.

    Args:
        stages: from the first to the last.
        stem: channels of the first convolution.
        stem_stride: its stride; 1 for small images.
        stem_activation: after it.
        head: channels of the 1x1 convolution after the last stage; 0: none.
        hidden: width of a linear layer before the classifier; 0: none.
        hidden_bias: that layer has a bias.
        head_activation: after the head's convolution and the linear layer.
        dropout: of the classifier's inputs, in [0, 1).
        resolutions: sides of a square to which images are resized, from small to large; (): images stay as they are.
        sharing: how candidates share weights: "nested" or "separate".
        style: what all blocks have in common.

    Raises:
        InputError: a setting is out of its range, or settings do not go together.

    Example:
        >>> from supernet.space.survey import candidates_of
        >>> space = Mobile((Stage((16,), depths=(1, 2), kernels=(3, 5), expansions=(3, 6)),), stem=8, head=32)
        >>> candidates_of(space).count  # one block in 4 ways, or two in 16
        20
    """

    stages: tuple[Stage, ...]
    stem: int = 16
    stem_stride: int = 2
    stem_activation: str = "relu"
    head: int = 1280
    hidden: int = 0
    hidden_bias: bool = True
    head_activation: str = "relu"
    dropout: float = 0.2
    resolutions: tuple[int, ...] = ()
    sharing: Literal["nested", "separate"] = "nested"
    style: Style = field(default_factory=Style)

    name: ClassVar[str] = "mobile"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(_made(Stage, stage, "stages") for stage in self.stages))
        object.__setattr__(self, "style", _made(Style, self.style, "style"))
        object.__setattr__(self, "resolutions", tuple(self.resolutions))
        if not 1 <= len(self.stages) <= _MOST_STAGES:
            raise InputError(f"stages={len(self.stages)}: needs 1 to {_MOST_STAGES}")
        for name, least in {"stem": 1, "head": 0, "hidden": 0}.items():
            if type(value := getattr(self, name)) is not int or not least <= value <= LARGEST["channels"]:
                raise InputError(f"{name}={value}: needs a whole number from {least} to {LARGEST['channels']:,}")
        for name in ("stem_activation", "head_activation"):
            if (word := getattr(self, name)) not in ACTIVATIONS:
                raise InputError(f"{name}={word}: use one of {', '.join(ACTIVATIONS)}")
        if self.stem_stride not in (1, 2):
            raise InputError(f"stem_stride={self.stem_stride}: use 1 or 2")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"dropout={self.dropout}: needs to lie in [0, 1)")
        sides = self.resolutions
        if list(sides) != sorted(set(sides)) or not all(type(s) is int and 8 <= s <= 1 << 12 for s in sides):
            raise InputError(f"resolutions={list(sides)}: needs different sides from 8 to 4,096, from small to large")
        self._check_sharing()

    def _check_sharing(self) -> None:
        if self.sharing not in ("nested", "separate"):
            raise InputError(f"sharing={self.sharing}: use nested or separate")
        for number, stage in enumerate(self.stages, start=1):
            if self.sharing == "separate" and (len(stage.depths) > 1 or len(stage.channels) > 1):
                raise InputError(
                    f"sharing=separate: stage {number} has several depths or widths, which need nested weights; "
                    "use one of each, and skip=True for blocks that can be left out"
                )
            if self.sharing == "nested" and (stage.skip or stage.grouped):
                raise InputError(f"sharing=nested: stage {number} has skip or grouped, which need sharing='separate'")

    def resized(self, **sizes: Any) -> Mobile:
        """The same space with other settings, such as other `resolutions`.

        Args:
            sizes: settings of the space by name; those that are not named stay.

        Returns:
            The other space.
        """
        return replace(self, **sizes)

    def network(self, choose: Chooser, shape: tuple[int, int, int], outputs: Outputs) -> MobileNetwork:
        """Builds the network.

        Args:
            choose: answers at each open place.
            shape: of an image: channels, height, width.
            outputs: how many classes, or the head that makes something else of the maps.

        Returns:
            The network, a supernet's inside or a plain one, as `choose` answers.

        Raises:
            InputError: `choose` has no answer.
        """
        return MobileNetwork(self, choose, shape, outputs)

    def architecture(
        self, stages: Sequence[Sequence[Block | None]], *, widths: Sequence[int] = (), resolution: int | None = None
    ) -> Architecture:
        """The genotype of a network that is given block by block.

        Args:
            stages: the blocks of each stage; None for one that is left out. Separate blocks that are not given are
                left out, too.
            widths: of the stages; (): the largest of each.
            resolution: the side of images; None: the largest.

        Returns:
            The genotype, an answer to this space's questions.

        Raises:
            InputError: the space lacks a stage's or a block's size.

        Example:
            >>> space = Mobile((Stage((16,), depths=(1, 2), kernels=(3, 5)),), stem=8, head=32)
            >>> dict(space.architecture([[Block(kernel=5, expansion=6)]]).choices)
            {'stage1/depth': ('1',), 'stage1/1/kernel': ('5',)}
        """
        if len(stages) != len(self.stages) or len(widths) not in (0, len(stages)):
            raise InputError(
                f"stages={len(stages)}, widths={len(widths)}: the space has {quantity(len(self.stages), 'stage')}"
            )
        choices: dict[str, tuple[str, ...]] = {}

        def answer(name: str, values: Sequence[Any], value: Any, text: str) -> None:
            if value not in values:
                raise InputError(f"{name}={text}: is not in the space; it has {', '.join(map(str, values))}")
            if len(values) > 1:
                choices[name] = (text,)

        if self.resolutions:
            side = resolution or self.resolutions[-1]
            answer("resolution", self.resolutions, side, str(side))
        for number, (stage, blocks) in enumerate(zip(self.stages, stages, strict=True), start=1):
            width, blocks = widths[number - 1] if widths else stage.channels[-1], self._placed(stage, blocks)
            answer(f"stage{number}/width", stage.channels, width, str(width))
            answer(f"stage{number}/depth", stage.depths, len(blocks), str(len(blocks)))
            for place, block in enumerate(blocks, start=1):
                for name, values, value, text in self._of_block(f"stage{number}/{place}", stage, block):
                    answer(name, values, value, text)
        return Architecture(self.name, choices)

    def _placed(self, stage: Stage, blocks: Sequence[Block | None]) -> list[Block | None]:
        """The blocks of a stage as this sharing answers: as many as are there, or None for those left out."""
        if self.sharing == "nested":
            return [block for block in blocks if block is not None]
        return [*blocks, *[None] * (stage.depths[-1] - len(blocks))]

    def _of_block(self, name: str, stage: Stage, block: Block | None) -> Iterator[tuple[str, Sequence[Any], Any, str]]:
        """The decisions of a block, the values that they can have, its value, and the option that says so."""
        if block is None:
            block_name, options = name, [SKIP] if stage.skip else []
            yield block_name, [*options, ""], SKIP, SKIP
            return
        squeeze = stage.squeeze[-1] if block.squeeze is None else block.squeeze
        activation = stage.activations[0] if block.activation is None else block.activation
        if self.sharing == "separate":
            known = {option: form for option, form in candidates_of_block(stage).items() if form is not None}
            given = next(
                (
                    o
                    for o, f in known.items()
                    if f == (block.kernel, block.expansion, squeeze, activation, block.groups)
                ),
                "",
            )
            yield name, list(candidates_of_block(stage)), given or str(block), given
            return
        yield f"{name}/kernel", stage.kernels, block.kernel, str(block.kernel)
        yield f"{name}/expand", stage.expansions, block.expansion, f"{block.expansion:g}"
        yield f"{name}/squeeze", stage.squeeze, squeeze, SQUEEZE[squeeze]
        yield f"{name}/activation", stage.activations, activation, activation


def _made(kind: type[Any], given: Any, name: str) -> Any:
    """An object of a class, from one or from its settings as a model file or a settings file has them."""
    if isinstance(given, kind):
        return given
    if not isinstance(given, Mapping) or not set(given) <= (known := {f.name for f in fields(kind)}):
        unknown = ", ".join(sorted(set(given) - known)) if isinstance(given, Mapping) else given
        raise InputError(
            f"{name}: {unknown} is unknown; a {kind.__name__} has {', '.join(f.name for f in fields(kind))}"
        )
    return kind(**given)


class MobileNetwork(nn.Module):
    """Stem, stages of inverted residual blocks, 1x1 convolution, global pooling, classifier.

    `Mobile.network` builds it. A head takes the place of what comes after the stages. It gets what comes out before
    each stage that halves height and width, and after the last one: of strides 2, 4, 8, 16, 32 in most of these spaces.

    Args:
        space: the settings of the network.
        choose: answers at each open place.
        shape: the (channels, height, width) of an image.
        outputs: how many classes, or the head that makes something else of the maps.

    Raises:
        InputError: `choose` has no answer.
    """

    def __init__(self, space: Mobile, choose: Chooser, shape: tuple[int, int, int], outputs: Outputs) -> None:
        super().__init__()
        features = [] if isinstance(outputs, int) else _features(space)
        questions = Questions(choose)
        sides = {str(side): side for side in space.resolutions}
        self.resize = (
            Resize(questions.ask("resolution", sides, group="resolution"), shape[1:]) if sides else nn.Identity()
        )
        self.stem = convolution(shape[0], space.stem, 3, space.stem_stride, space.stem_activation, space.style)
        builder = _Blocks(space, choose, questions)
        self.stages = nn.ModuleList()
        width = Size.fixed(space.stem)
        for number, stage in enumerate(space.stages, start=1):
            made, width = builder.stage(f"stage{number}", stage, width)
            self.stages.append(made)
        self.head: nn.Module = nn.Identity()
        self.classifier: nn.Sequential | None = None
        self.prediction: nn.Module | None = None
        if isinstance(outputs, int):
            self._end_in_classifier(space, width, outputs)
        self.questions = questions.open
        drop_deeper_blocks_more([block for stage in self.stages for block in cast(MobileStage, stage).blocks])
        initialise(self)
        if not isinstance(outputs, int):
            self.prediction = outputs.build(features)

    def _end_in_classifier(self, space: Mobile, width: Size, classes: int) -> None:
        if width.open:
            self.head = ElasticHead(width, space.head, space.head_activation, space.style)
        elif space.head:
            self.head = convolution(width.largest, space.head, 1, 1, space.head_activation, space.style)
        last = space.head or width.largest
        layers: list[nn.Module] = []
        if space.hidden:
            layers = [nn.Linear(last, space.hidden, bias=space.hidden_bias), ACTIVATIONS[space.head_activation]()]
        dropout = [Dropout(space.dropout)] if space.dropout else []
        self.classifier = nn.Sequential(*layers, *dropout, nn.Linear(space.hidden or last, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (batch, channels, height, width) to logits (batch, classes), or to what the head gives."""
        x = self.stem(self.resize(images))
        maps = []
        for stage in self.stages:
            if self.prediction is not None and cast(MobileStage, stage).halves:
                maps.append(x)
            x = stage(x)
        if self.prediction is not None:
            found: Tensor = self.prediction(*maps, x)
            return found
        assert self.classifier is not None
        return self.classifier(self.head(x).mean(dim=(2, 3)))


def _features(space: Mobile) -> list[Feature]:
    """The maps that a head gets. Raises InputError where their size or their channels are open."""
    if space.resolutions:
        raise InputError(
            f"resolutions={list(space.resolutions)}: this network ends in a head, whose boxes are those of images that "
            "stay as they are; use none"
        )
    if several := [n for n, stage in enumerate(space.stages, start=1) if len(stage.channels) > 1]:
        raise InputError(
            f"stages: stage {several[0]} has several widths, and this network ends in a head, which reads maps of one; "
            "give each stage one width"
        )
    features, channels, stride = [], space.stem, space.stem_stride
    for stage in space.stages:
        features += [Feature(channels, stride)] if stage.stride == 2 else []
        channels, stride = stage.channels[-1], stride * stage.stride
    return [*features, Feature(channels, stride)]


class _Blocks:
    """Builds the stages of one network.

    Args:
        space: the settings.
        choose: answers at each open place.
        questions: those about numbers.
    """

    def __init__(self, space: Mobile, choose: Chooser, questions: Questions) -> None:
        self._space, self._choose, self._questions = space, choose, questions
        self._widths: tuple[int, ...] = (space.stem,)  # that the stage before can have
        self._blocks, self._all = 0, sum(stage.depths[-1] for stage in space.stages)

    def stage(self, name: str, stage: Stage, given: Size) -> tuple[MobileStage, Size]:
        """Builds a stage that is given so many channels, and says how many it gives."""
        widths = {str(channels): channels for channels in stage.channels}
        width = self._questions.ask(f"{name}/width", widths, group=name).size()
        depth = self._questions.ask(f"{name}/depth", {str(d): d for d in stage.depths}, group=name)
        blocks = nn.ModuleList()
        for place in range(1, max(int(d) for d in depth.values.values()) + 1):
            deeper = tuple(str(d) for d in stage.depths if d >= place)
            hangs = place > stage.depths[0] and depth.choice is not None
            when: tuple[Condition, ...] = ((f"{name}/depth", deeper),) if hangs else ()
            if self._space.sharing == "separate":
                block = self._separate(f"{name}/{place}", stage, given.largest, width.largest, place)
            else:
                block = self._nested(f"{name}/{place}", stage, given, width, place, when)
            blocks.append(block)
            given = width
            self._blocks += 1
        self._widths = stage.channels
        return MobileStage(blocks, depth, stage.stride == 2), width

    def _separate(self, name: str, stage: Stage, given: int, width: int, place: int) -> nn.Module:
        stride = stage.stride if place == 1 else 1
        passes = stride == 1 and given == width
        style, depth = self._space.style, self._blocks / self._all

        def block(candidate: Candidate | None, site: Site) -> nn.Module:
            if candidate is None:
                return nn.Identity()
            kernel, expansion, squeeze, activation, groups = candidate
            expanded = rounded(site.channels_in * expansion)
            sizes = site.channels_in, expanded, site.channels_out, kernel, site.stride
            return InvertedResidual(Form(*sizes, squeeze, activation, passes, groups), style, depth)

        candidates = {option: c for option, c in candidates_of_block(stage).items() if c is not None or passes}
        own: dict[str, Operation] = {option: partial(block, candidate) for option, candidate in candidates.items()}
        site = Site(given, width, stride)
        if len(own) == 1:
            return next(iter(own.values()))(site)
        return self._choose.operation(Decision(name, tuple(own), group=name.split("/")[0]), site, own)

    def _nested(
        self, name: str, stage: Stage, given: Size, width: Size, place: int, when: tuple[Condition, ...]
    ) -> nn.Module:
        # By what the space says and not by the answers: an open width that is the input's now and then adds nothing.
        passes = self._widths == stage.channels and len(stage.channels) == 1
        group = name.split("/")[0]
        ask = partial(self._questions.ask, group=group, when=when)
        ratios = {f"{ratio:g}": ratio for ratio in stage.expansions}
        expansion = ask(f"{name}/expand", ratios)
        values = [float(value) for value in expansion.values.values()]
        expanded = given.combined(expansion.places(), lambda channels, chosen: rounded(channels * values[chosen]))
        form = OpenForm(
            channels_in=given,
            expanded=expanded,
            channels_out=width,
            kernel=ask(f"{name}/kernel", {str(kernel): kernel for kernel in stage.kernels}),
            squeeze=ask(f"{name}/squeeze", {SQUEEZE[has]: has for has in stage.squeeze}),
            activation=ask(f"{name}/activation", {word: word for word in stage.activations}),
            stride=stage.stride if place == 1 else 1,
            residual=place > 1 or (stage.stride == 1 and passes),
        )
        depth = self._blocks / self._all
        if form.decisions or when:
            return ElasticInvertedResidual(form, self._space.style, depth, when)
        return InvertedResidual(form.of({}), self._space.style, depth)
