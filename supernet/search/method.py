"""The class `Method`: the parts of a search method, independent of data, space and size of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from supernet.estimation.limits import Limits
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.progressive.stages import Stage
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Strategy, limited
from supernet.space.architecture import Decision
from supernet.space.choosers import Undecided
from supernet.space.darts import DARTS_OPERATIONS, Darts
from supernet.training.schedules import Cosine

_FEW_STEPS = SearchRecipe(least_steps=11, schedule=Cosine(0.05, 0.001))  # its epochs and warm-up are set below


def adam(lr: float = 3e-4, betas: tuple[float, float] = (0.5, 0.999)) -> Callable[..., torch.optim.Optimizer]:
    """Adam for the alphas, with the weight decay of 1e-3 that DARTS has (Liu et al. 2019, section 3.1).

    Args:
        lr: the learning rate.
        betas: how fast the means of the gradient and of its square forget.

    Returns:
        parameters -> optimiser.

    Example:
        >>> adam(6e-4)([torch.zeros(8, requires_grad=True)]).defaults["lr"]
        0.0006
    """
    return partial(torch.optim.Adam, lr=lr, betas=betas, weight_decay=1e-3)


@dataclass(frozen=True)
class Method:
    """A method: what it searches with, which is the same for all data, spaces and sizes.

    Args:
        name: the name, as in tables and in the settings.
        strategy: (name of the space, decisions, *, optimizer, seed) -> `Strategy`; without `optimizer` where that is
            None.
        optimizer: parameters -> the optimiser of the alphas; None for a method without alphas.
        chooser: what is built at each place of the supernet that is not decided yet.
        seven_operations: the search leaves "none" out of the eight operations of the DARTS space. Spaces with other
            operations keep all of theirs: there "none" is a candidate on purpose.
        stages: what each stage of the search changes; () for a search in one stage.
        monitor: when the collapse monitor looks, and what follows.
        recipe: the published search on CIFAR-10.
        keeps: the settings of `recipe` that make the method what it is, so that any other recipe gets them, too.
        rate_chosen: whether the learning rate of the alphas was set by hand, so that `few_steps` leaves it alone.
        few_steps_rate: the learning rate of alphas that Adam moves in a search of few steps.
        few_steps_parts: parts of the strategy for a search of few steps, by name, in place of the published ones: those
            whose strength is in steps or epochs of the published search. `with_parts` leaves out what it sets by hand.

    Example:
        >>> from supernet.search.methods import darts
        >>> mine = replace(darts().with_parts(single_level=True), name="mine")
        >>> mine.name, mine.recipe.epochs
        ('mine', 50)
    """

    name: str
    strategy: Callable[..., Strategy]
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    chooser: Undecided = field(default_factory=Undecided)
    seven_operations: bool = False
    stages: tuple[Stage, ...] = ()
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    recipe: SearchRecipe = field(default_factory=SearchRecipe)
    keeps: tuple[str, ...] = ()
    rate_chosen: bool = False
    few_steps_rate: float = 0.01  # Adam moves each alpha by about its rate a step: 3e-4 leads nowhere in a hundred
    few_steps_parts: Mapping[str, Any] = field(default_factory=dict)

    def with_parts(self, **parts: Any) -> Method:
        """The same method with other parts of its strategy.

        Args:
            parts: settings of the strategy by name, such as `operations=Sigmoid()`; those that are not named stay.

        Returns:
            The changed method.
        """
        left = {name: part for name, part in self.few_steps_parts.items() if name not in parts}
        return replace(self, strategy=partial(self.strategy, **parts), few_steps_parts=left)

    def with_rate(self, lr: float) -> Method:
        """The same method with another learning rate of the alphas; a method without alphas stays as it is.

        Args:
            lr: the learning rate of the optimiser of the alphas.

        Returns:
            The changed method.
        """
        return (
            self
            if self.optimizer is None
            else replace(self, optimizer=partial(self.optimizer, lr=lr), rate_chosen=True)
        )

    def with_recipe(self, recipe: SearchRecipe) -> Method:
        """The same method with another recipe; the settings that it `keeps` stay as they are.

        Args:
            recipe: the recipe of the search.

        Returns:
            The changed method.

        Example:
            >>> from supernet.search.methods import r_darts_l2
            >>> r_darts_l2().with_recipe(SearchRecipe(epochs=5)).recipe.weight_decay
            0.0081
        """
        return replace(self, recipe=replace(recipe, **{name: getattr(self.recipe, name) for name in self.keeps}))

    def few_steps(self, *, epochs: int = 8, batch_size: int = 64) -> Method:
        """Returns the method for a search of a hundred steps, as on the handwritten digits, instead of 20,000.

        The learning rate of the weights is larger, and where Adam moves the alphas so is theirs; an epoch has 11 steps
        or more. A term of the loss that is made for the published number of steps has a strength for few.

        Args:
            epochs: how many; the alphas do not change in the first, unless it is the only one.
            batch_size: images in a batch.

        Returns:
            The changed method.

        Example:
            >>> from supernet.search.methods import darts
            >>> recipe = darts().few_steps(epochs=4).recipe
            >>> recipe.epochs, recipe.warm_up, recipe.least_steps
            (4, 1, 11)
        """
        recipe = replace(_FEW_STEPS, epochs=epochs, warm_up=min(1, epochs - 1), batch_size=batch_size)
        moved_by_adam = isinstance(self.optimizer, partial) and self.optimizer.func is torch.optim.Adam
        faster = moved_by_adam and not self.rate_chosen
        short = self.with_rate(self.few_steps_rate) if faster else self
        return (short.with_parts(**self.few_steps_parts) if self.few_steps_parts else short).with_recipe(recipe)

    def chooser_for(self, space: Any) -> Undecided:
        """Returns the chooser that builds the supernet of this space.

        Args:
            space: the space, such as `Darts()`.

        Returns:
            The method's chooser, without "none" where `seven_operations` says so.
        """
        whole = isinstance(space, Darts) and space.operations == DARTS_OPERATIONS and not space.table
        return replace(self.chooser, excluded=("none",)) if self.seven_operations and whole else self.chooser

    def make_strategy(
        self, space: str, decisions: Mapping[str, Decision], *, seed: int = 0, limits: Limits | None = None
    ) -> Strategy:
        """The strategy for the decisions of a supernet, at its start.

        Args:
            space: the name of the space.
            decisions: the supernet's decisions by name.
            seed: of everything that the strategy draws.
            limits: what the architecture that is found may cost; None: anything.

        Returns:
            The strategy.

        Raises:
            InputError: there are limits, and it cannot keep them.
        """
        given: dict[str, Any] = {} if self.optimizer is None else {"optimizer": self.optimizer}
        return limited(self.strategy, limits)(space, decisions, seed=seed, **given)
