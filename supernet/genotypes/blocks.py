"""Describes and draws mobile networks block by block; they have no cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from supernet.runtime.files import replacing
from supernet.space.inverted_residual import Form, InvertedResidual
from supernet.space.mobile import MobileNetwork

if TYPE_CHECKING:  # Matplotlib is slow to import; only a drawing itself needs it
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = {3: "#0072B2", 5: "#D55E00", 7: "#009E73"}
_OTHER = "#CC79A7"
_MOST = 200  # blocks of a picture: a wider one cannot be looked at


@dataclass(frozen=True)
class PlacedBlock:
    """A block of a plain mobile network.

    Args:
        name: stage and place, such as "stage2/1".
        form: its sizes; None where it has been left out.
    """

    name: str
    form: Form | None


def blocks_of(network: nn.Module) -> list[PlacedBlock]:
    """Lists the blocks of a plain mobile network.

    Args:
        network: any module.

    Returns:
        Its inverted residual blocks, from the first to the last; none where it is no plain mobile network.

    Example:
        >>> from supernet import Decided, published, spaces
        >>> network = spaces.of("mobilenet_v2").network(Decided(published("mobilenet_v2")), (3, 224, 224), 10)
        >>> blocks_of(network)[1].name, blocks_of(network)[1].form.expanded
        ('stage2/1', 96)
    """
    if not isinstance(network, MobileNetwork):
        return []
    found = []
    for number, stage in enumerate(network.stages, start=1):
        assert isinstance(stage.blocks, nn.ModuleList)
        for place, block in enumerate(stage.blocks, start=1):
            if isinstance(block, InvertedResidual | nn.Identity):
                form = block.form if isinstance(block, InvertedResidual) else None
                found.append(PlacedBlock(f"stage{number}/{place}", form))
    return found


def block_lines(blocks: Sequence[PlacedBlock]) -> list[str]:
    """Writes blocks as a table of aligned columns.

    Args:
        blocks: of a network.

    Returns:
        The lines, the first one with the names of the columns; none without blocks.

    Example:
        >>> form = Form(16, 64, 24, kernel=3, stride=2, squeeze=True)
        >>> for line in block_lines([PlacedBlock("stage2/1", form), PlacedBlock("stage2/2", None)]):
        ...     print(line)
        block     in  inside  out  kernel  stride  squeeze  activation
        stage2/1  16      64   24       3       2      yes        relu
        stage2/2                                              left out
    """
    if not blocks:
        return []
    rows: list[tuple[str, ...]] = [("block", "in", "inside", "out", "kernel", "stride", "squeeze", "activation")]
    for block in blocks:
        form = block.form
        if form is None:
            rows.append((block.name, *[""] * 6, "left out"))
            continue
        sizes = form.channels_in, form.expanded, form.channels_out, form.kernel, form.stride
        rows.append((block.name, *map(str, sizes), "yes" if form.squeeze else "no", form.activation))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(w.rjust(n) for w, n in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def draw_blocks(blocks: Sequence[PlacedBlock]) -> Figure:
    """Draws blocks as bars from left to right: as high as their channels inside, with those that come out before them.

    The colour is the kernel's; a dotted line stands before a block that halves height and width.

    Args:
        blocks: of a network; those that are left out are no bars.

    Returns:
        The figure, which `savefig` writes.

    Example:
        >>> figure = draw_blocks([PlacedBlock("stage1/1", Form(16, 64, 24))])
        >>> figure.axes[0].get_ylabel()
        'channels'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    forms = [(block.name, block.form) for block in blocks if block.form is not None]
    figure = Figure(figsize=(max(4.0, 1.6 + 0.42 * len(forms)), 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    top = max((form.expanded for _, form in forms), default=1)
    for place, (_, form) in enumerate(forms):
        colour = _COLOURS.get(form.kernel, _OTHER)
        axes.bar(place, form.expanded, width=0.8, color=colour, alpha=0.45)
        axes.bar(place, form.channels_out, width=0.8, color=colour)
        if form.stride > 1:
            axes.axvline(place - 0.5, color="#777777", linestyle=":", linewidth=1)
        if form.squeeze:
            axes.text(place, form.expanded + 0.01 * top, "SE", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(forms)), [name.removeprefix("stage") for name, _ in forms], rotation=60, fontsize=8)
    axes.set(xlabel="stage/block", ylabel="channels", ylim=(0, 1.12 * top))
    kernels = sorted({form.kernel for _, form in forms})
    handles = [Patch(color=_COLOURS.get(kernel, _OTHER), label=f"{kernel} x {kernel}") for kernel in kernels]
    handles += [Patch(color="#777777", alpha=0.45, label="inside"), Patch(color="#777777", label="out")]
    place_above = (0.0, 1.0)  # beside the bars there may be no room
    axes.legend(handles=handles, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=place_above, ncols=3)
    return figure


def save_blocks(network: nn.Module, directory: Path) -> list[Path]:
    """Writes genotype.svg and genotype.png with the blocks of a plain mobile network.

    Args:
        network: any module.
        directory: where to write; it is made if it is not there.

    Returns:
        The files; none where it is no mobile network, or has hundreds of blocks.
    """
    blocks = blocks_of(network)
    if not 1 <= len(blocks) <= _MOST:
        return []
    figure = draw_blocks(blocks)
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {kind: directory / f"genotype.{kind}" for kind in ("svg", "png")}
    for kind, path in pictures.items():
        with replacing(path) as file:
            figure.savefig(file, format=kind)
    return [*pictures.values()]
