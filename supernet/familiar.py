"""The name under which people know a searched detector: the same calls, with another import and another model."""

from __future__ import annotations

from pathlib import Path

from supernet.deployment.loading import load
from supernet.deployment.onnx_predictor import OnnxPredictor
from supernet.deployment.predictor import Predictor


def NAS(model: str | Path) -> Predictor | OnnxPredictor:
    """Loads a model, as `supernet.load` does.

    Args:
        model: the name of a model that comes with the library (`supernet-zoo` lists them), a file, or a run.

    Returns:
        The model: call it with pictures.

    Raises:
        InputError: there is no such model, in one line.

    Example:
        >>> import numpy as np
        >>> results = NAS("digits")(np.zeros((8, 8), np.uint8))
        >>> results[0].names[results[0].probs.top1] in "0123456789"
        True
    """
    return load(model)
