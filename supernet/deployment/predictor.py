"""Uses a trained network: it takes images in many forms and says what is in them, by the names of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.deployment.answers import ONE_LABEL, Answer, Objects
from supernet.deployment.asking import answered, asked_of, bgr_of, scored
from supernet.deployment.bundle import NAME, save_bundle
from supernet.deployment.description import Description, settings_of
from supernet.deployment.explaining import Explanation, explained, on_picture
from supernet.deployment.pictures import Images, Pictures
from supernet.deployment.results import Result
from supernet.execution.engines import engine
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder
from supernet.runtime.text import quantity
from supernet.space import Space
from supernet.space.architecture import Architecture


class Predictor:
    """A trained network with all that is needed to use it: call it with images. `supernet.load` returns one.

    Args:
        network: a module in evaluation mode, from normalised images (N, channels, height, width) to (N, classes), or to
            what the head of `answer` makes. Its cells are set to the fast way to run.
        space: the space that built the network, a frozen dataclass of settings.
        architecture: the network's genotype.
        classes: the names of the classes, in the order of the network's outputs.
        shape: the (channels, height, width) of the images that the network is given.
        augmentation: how images are normalised.
        provenance: how the model was made, such as the seed, and its accuracies.
        answer: what the network's output says.
        report: what was measured of the model, plain values, such as its operating points; None: nothing.
        card: what a person should know before using it, plain values; None: nothing.

    Example:
        >>> import tempfile, torch, supernet
        >>> space, cell = supernet.Darts(channels=4, cells=3), supernet.published("darts_v2")
        >>> network = space.network(supernet.Decided(cell), (1, 8, 8), 2).eval()
        >>> model = Predictor(
        ...     network,
        ...     space=space,
        ...     architecture=cell,
        ...     classes=("cat", "dog"),
        ...     shape=(1, 8, 8),
        ...     augmentation=supernet.data.Augmentation(mean=(0.5,), std=(0.5,)),
        ...     provenance={},
        ... )
        >>> image = torch.zeros(1, 8, 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.safetensors")
        ...     again = supernet.load(f"{folder}/model.safetensors")
        >>> torch.equal(again(image)[0].probs.data, model(image)[0].probs.data)
        True
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        space: Space,
        architecture: Architecture,
        classes: tuple[str, ...],
        shape: tuple[int, int, int],
        augmentation: Augmentation,
        provenance: Mapping[str, str | float | int | None],
        answer: Answer = ONE_LABEL,
        report: Mapping[str, Any] | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = engine("fused", next(network.parameters()).device).apply(network)
        self.space, self.architecture = space, architecture
        self.classes, self.shape = classes, shape
        self.augmentation, self.provenance = augmentation, dict(provenance)
        self.answer, self.report, self.card = answer, dict(report or {}), dict(card or {})

    @property
    def names(self) -> dict[int, str]:
        """The name of each class by its number."""
        return dict(enumerate(self.classes))

    @property
    def description(self) -> Description:
        """What a file says of the model besides its weights."""
        return Description(
            self.space.name,
            settings_of(self.space),
            self.architecture,
            self.classes,
            self.shape,
            self.augmentation,
            self.provenance,
            self.answer,
            self.report,
            self.card,
        )

    def __repr__(self) -> str:
        classes = quantity(len(self.classes), "class")
        return f"Predictor({self.space.name}, {classes}, images {self.shape}, {self.provenance})"

    def to(self, device: str | torch.device) -> Predictor:
        """Moves the network to a device, where images will follow it; returns the predictor itself."""
        self.network.to(device)
        return self

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Writes the model to one file, which `supernet.load` reads. An older file is replaced by a whole one.

        Args:
            path: the file, by custom with the ending .safetensors; its folder must exist.
            half: whether weights are stored in half precision, which halves the file and rounds them to 11 bits; the
                loaded network computes in single precision as ever.

        Raises:
            InputError: the path is a folder, or its folder does not exist.
            OSError: the file cannot be written.
        """
        path = Path(path)
        if is_folder(path):
            raise InputError(f"path={path}: a folder; give a file, such as {path / NAME}")
        if not is_folder(path.parent):
            raise InputError(f"path={path}: there is no folder {path.parent}; make it first")
        save_bundle(
            path,
            self.network,
            space=self.space,
            architecture=self.architecture,
            classes=self.classes,
            augmentation=self.augmentation,
            shape=self.shape,
            provenance=self.provenance,
            answer=self.answer,
            report=self.report,
            card=self.card,
            half=half,
        )

    @overload
    def __call__(
        self,
        source: Images | Sequence[Any],
        *,
        conf: float | None = ...,
        iou: float | None = ...,
        max_det: int | None = ...,
        classes: Sequence[int | str] | int | str | None = ...,
        channels: str = ...,
        skip_unreadable: bool = ...,
        stream: Literal[False] = ...,
    ) -> list[Result]: ...
    @overload
    def __call__(
        self,
        source: Images | Sequence[Any],
        *,
        conf: float | None = ...,
        iou: float | None = ...,
        max_det: int | None = ...,
        classes: Sequence[int | str] | int | str | None = ...,
        channels: str = ...,
        skip_unreadable: bool = ...,
        stream: Literal[True],
    ) -> Iterator[Result]: ...
    def __call__(
        self,
        source: Images | Sequence[Any],
        *,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
        classes: Sequence[int | str] | int | str | None = None,
        channels: str = "rgb",
        skip_unreadable: bool = False,
        stream: bool = False,
    ) -> list[Result] | Iterator[Result]:
        """Says what is in pictures.

        Grey becomes colour where the network needs it, colour becomes grey, and pictures of other sizes are resized as
        those of the training were. Boxes come in the pixels of each picture as it was given.

        Args:
            source: the path of a file or of a folder (all images in it, see `image_files`), a pattern such as
                "photos/*.jpg", an address of http or https, a PIL image, an array (H, W), (H, W, C) or (N, H, W, C) of
                uint8 with red first, a tensor (C, H, W) or (N, C, H, W) of uint8 or of floats in [0, 1]; or a list of
                such, mixed and of any sizes, or a generator, of which no more is asked for than a batch takes.
            conf: the least confidence of an object, in [0, 1]; None: the model's own, which for each class had the best
                F1 on the validation images. Where a picture can have several labels, the least probability of each in
                place of the model's thresholds.
            iou: by how much two boxes of a class may overlap, as intersection over union, in [0, 1]; None: the model's
                own, mostly 0.6.
            max_det: objects of a picture at most; None: 300.
            classes: of the objects that are looked for, by name or number; None: all.
            channels: "bgr" where arrays have blue first, as those of OpenCV.
            skip_unreadable: whether pictures that cannot be read are left out, with one warning that counts them, as
                long as there is another one.
            stream: whether results are to come one after the other, which takes memory for one batch alone.

        Returns:
            One result for each picture that was read, in their order: a list, or with `stream` an iterator.

        Raises:
            InputError: a picture is not understood, a setting is out of its range, or one is given that this model has
                no use for, in one line.
        """
        asked = asked_of(self.names, self.answer, conf=conf, iou=iou, max_det=max_det, classes=classes)
        pictures = Pictures(self.shape, self.augmentation.preparation, bgr_of(channels), skip_unreadable)
        device = next(self.network.parameters()).device
        results = answered(
            pictures, source, self.values, self.answer, self.names, asked, device=device, explainer=self._explained
        )
        return results if stream else list(results)

    predict = __call__

    @torch.inference_mode()
    def values(self, pixels: Tensor) -> Tensor:
        """Runs the network on pixels that have its shape already.

        Args:
            pixels: (N, channels, height, width), floats in [0, 255] or uint8, on the network's device.

        Returns:
            On the CPU: probabilities (N, classes), or of a detector its output (N, places, classes + 8).
        """
        output: Tensor = self.network(self.augmentation.normalise(pixels.clone()))  # normalises floats in place
        return self.answer.values(output.float()).cpu()

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Runs a classifier on pixels that have its shape already.

        Args:
            pixels: (N, channels, height, width), floats in [0, 255] or uint8, on the network's device.

        Returns:
            The probabilities (N, classes), on the CPU.

        Raises:
            InputError: the model is a detector.
        """
        if isinstance(self.answer, Objects):
            raise InputError("model: a detector, which has boxes and no probabilities of an image; call it, or .values")
        return self.values(pixels)

    def _explained(self, result: Result, target: int | None) -> Explanation:
        """Where the network looked for a class, or for a box of a result."""
        assert result.picture is not None
        device = next(self.network.parameters()).device
        images = self.augmentation.normalise(result.picture.prepared().unsqueeze(0).to(device))
        score, label = scored(result, target)
        return Explanation(on_picture(explained(self.network, images, score), result.picture), label, result.picture)
