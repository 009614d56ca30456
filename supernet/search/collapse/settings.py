"""The settings of the collapse monitor: when it measures, which values are signs, and what it does then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from supernet.runtime.errors import InputError
from supernet.search.strategy import Strategy, has_alphas


@dataclass(frozen=True)
class MonitorSettings:
    """When the monitor looks, what counts as a sign of a collapse, and what follows from a rise of lambda_max.

    More than twelve settings: each is a figure that the papers and our trials vary by itself.

    Args:
        every: it looks after the first epoch, then once in `every` epochs, and after the last; 0: never.
        batch_size: the number of validation images on which lambda_max is measured, 2 or more.
        iterations: the largest number of products with the Hessian for one lambda_max.
        tolerance: how exact lambda_max is, relative to itself.
        recalibration: the number of training batches that set the norms before the architecture is measured by itself.
        since: the part of the search before which no share or gap is a sign: architectures are nearly random there.
        spared: kinds of cells whose shares are no sign: in reduction cells skip connections have weights, and good ones
            have pooling, too.
        many_skips: a larger share of skip connections among kept edges is a sign; good published cells have a quarter.
        few_parametric: a smaller share of kept edges that learn weights is a sign; such cells have half and more.
        large_gap: a larger loss of accuracy from the supernet to the architecture by itself, as a part of the former,
            is a sign. Some is usual, three quarters in a sound search on the digits, since DARTS' weights stay far from
            one-hot; beyond 0.85 the architecture is at chance.
        window: the number of looks over which lambda_max is averaged. This and the next three settings are those of the
            code of Zela et al. 2020.
        delta: the number of looks between the newest mean and the older one with which it is compared.
        rise: a mean above `rise` times the older one is a rise.
        not_before: the first epoch, counted from 0, to which the older mean may belong.
        on_rise: "go_on" warns; "stop" ends with the architecture of the older mean's epoch (DARTS-ES); "adapt" goes
            back to that epoch with a larger weight decay (DARTS-ADA).
        factor: "adapt" multiplies the weight decay of the weights by it, above 1.
        most: the largest weight decay; a search that has reached it goes on without "adapt".

    Raises:
        InputError: a setting lies outside its range, or the monitor is to act and never looks.
    """

    every: int = 1
    batch_size: int = 8
    iterations: int = 8
    tolerance: float = 0.02
    recalibration: int = 4
    since: float = 0.5
    spared: tuple[str, ...] = ("reduce",)
    many_skips: float = 0.5
    few_parametric: float = 0.25
    large_gap: float = 0.85
    window: int = 9
    delta: int = 8
    rise: float = 1.3
    not_before: int = 10
    on_rise: Literal["go_on", "stop", "adapt"] = "go_on"
    factor: float = 10.0
    most: float = 0.03

    def __post_init__(self) -> None:
        share = "needs to lie in [0, 1], such as 0.5"
        allowed = {
            "every": (self.every >= 0, "needs 1 epoch or more, or 0 for never"),
            "batch_size": (self.batch_size >= 2, "needs at least 2, batch norm cannot do with less"),
            "iterations": (self.iterations >= 1, "needs 1 or more, such as 8"),
            "tolerance": (0.0 <= self.tolerance < 1.0, "needs to lie in [0, 1), such as 0.02"),
            "recalibration": (self.recalibration >= 1, "needs 1 batch or more, such as 4"),
            "since": (0.0 <= self.since <= 1.0, share),
            "many_skips": (0.0 <= self.many_skips <= 1.0, share),
            "few_parametric": (0.0 <= self.few_parametric <= 1.0, share),
            "large_gap": (0.0 <= self.large_gap <= 1.0, share),
            "window": (self.window >= 1, "needs 1 look or more, such as 5"),
            "delta": (self.delta >= 1, "needs 1 look or more, such as 4"),
            "rise": (self.rise > 0.0, "needs to be above 0, such as 1.3"),
            "not_before": (self.not_before >= 0, "needs 0 epochs or more, such as 10"),
            "on_rise": (self.on_rise in ("go_on", "stop", "adapt"), "use one of go_on, stop, adapt"),
            "factor": (1.0 < self.factor < math.inf, "needs to be above 1, such as 10"),
            "most": (0.0 < self.most < math.inf, "needs to be above 0, such as 0.03"),
        }
        for name, (right, way_out) in allowed.items():
            if not right:
                raise InputError(f"{name}={getattr(self, name)}: {way_out}")
        if self.on_rise != "go_on" and self.every == 0:
            raise InputError(f"on_rise={self.on_rise}: the monitor never looks (every=0); use every=1")

    def check(self, strategy: Strategy) -> None:
        """Raises InputError where the monitor is to act on a rise of lambda_max and the strategy has none."""
        if self.on_rise != "go_on" and not has_alphas(strategy):
            raise InputError(f"on_rise={self.on_rise}: this strategy has no alphas and so no lambda_max; use go_on")

    @property
    def reach(self) -> int:
        """The number of looks between now and the epoch of the older mean."""
        return self.window // 2 + self.delta

    def looks_after(self, epoch: int, epochs: int) -> bool:
        """Whether the monitor looks after this epoch, counted from 0."""
        return self.every > 0 and (epoch % self.every == 0 or epoch == epochs - 1)
