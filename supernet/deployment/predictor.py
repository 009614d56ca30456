"""Uses a trained network: it takes images in many forms and returns the probabilities of named classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.deployment.bundle import NAME, save_bundle
from supernet.deployment.pictures import Images, Pictures, classified
from supernet.deployment.results import Result
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder
from supernet.space import Space
from supernet.space.architecture import Architecture


class Predictor:
    """A trained network with all that is needed to use it: call it with images. `supernet.load` returns one.

    Args:
        network: a module in evaluation mode, from normalised images (N, channels, height, width) to (N, classes).
        space: the space that built the network, a frozen dataclass of settings.
        architecture: the network's genotype.
        classes: the names of the classes, in the order of the network's outputs.
        shape: the (channels, height, width) of the images that the network is given.
        augmentation: how images are normalised.
        provenance: how the model was made, such as the seed, and its accuracies.

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
    ) -> None:
        self.network, self.space, self.architecture = network, space, architecture
        self.classes, self.shape = classes, shape
        self.augmentation, self.provenance = augmentation, dict(provenance)

    def __repr__(self) -> str:
        return f"Predictor({self.space.name}, {len(self.classes)} classes, images {self.shape}, {self.provenance})"

    def to(self, device: str | torch.device) -> Predictor:
        """Moves the network to a device, where images will follow it; returns the predictor itself."""
        self.network.to(device)
        return self

    def save(self, path: str | Path) -> None:
        """Writes the model to one file, which `supernet.load` reads. An older file is replaced by a whole one.

        Args:
            path: the file, by custom with the ending .safetensors; its folder must exist.

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
        )

    @torch.inference_mode()
    def __call__(self, images: Images | Sequence[Images]) -> list[Result]:
        """Classifies images.

        Grey becomes colour where the network needs it, colour becomes grey, and other sizes are resized.

        Args:
            images: the path of a file or of a folder (all images in it, see `image_files`), a PIL image, an array
                (H, W), (H, W, C) or (N, H, W, C) of uint8, a tensor (C, H, W) or (N, C, H, W) of uint8 or of floats in
                [0, 1], or a list of such.

        Returns:
            One result for each image, in their order.

        Raises:
            InputError: an image is not understood, in one line.
        """
        device = next(self.network.parameters()).device
        pictures = Pictures(self.shape, self.augmentation.preparation)
        return classified(pictures.batches(images, device), self.probabilities, self.classes)

    @torch.inference_mode()
    def probabilities(self, pixels: Tensor) -> Tensor:
        """Runs the network on pixels that have its shape already.

        Args:
            pixels: (N, channels, height, width), floats in [0, 255] or uint8, on the network's device.

        Returns:
            The probabilities (N, classes), on the CPU.
        """
        logits: Tensor = self.network(self.augmentation.normalise(pixels.clone()))  # normalises floats in place
        return logits.float().softmax(1).cpu()
