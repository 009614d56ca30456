"""The search methods of the literature: one function for each, with the values that its authors published.

A method is made of parts (`Method`). Most are first-order DARTS with one or two other parts, and say no more than
those. The values are those of the search on CIFAR-10, from the papers and from the code that the authors released;
`Method.few_steps` makes a small search of any of them. The file is long because it is a catalogue: an entry is read by
itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from supernet.search.black_box.evolution import AgingEvolution, SposEvolution
from supernet.search.black_box.policies import ControllerPolicy, IndependentPolicy
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.black_box.reinforce import ReinforceStrategy, Updates
from supernet.search.black_box.rewards import KILO_PARAMETERS, AbsoluteReward, quality
from supernet.search.black_box.sandwich import SandwichStrategy
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.differentiable.architects import first_order, neumann, unrolled, unrolled_exact
from supernet.search.differentiable.discretisers import argmax, limit_skips, threshold
from supernet.search.differentiable.gradient import GradientStrategy, uniform, zero
from supernet.search.differentiable.objectives import BetaDecay, ZeroOne
from supernet.search.differentiable.operation_early_stopping import OperationEarlyStopping
from supernet.search.differentiable.optimizers import ExponentiatedGradient
from supernet.search.differentiable.projection import Projection
from supernet.search.differentiable.relaxations import (
    BinaryGates,
    Dirichlet,
    Gumbel,
    Sigmoid,
    Simplex,
    Softmax,
    Uniform,
)
from supernet.search.differentiable.weight_transforms import Adversarial, AuxiliarySkip, RandomSmoothing
from supernet.search.method import Method, adam
from supernet.search.progressive.shrinking import Shrinking
from supernet.search.progressive.stages import Stage
from supernet.search.recipe import SearchRecipe
from supernet.space.choosers import Undecided
from supernet.training.schedules import Cosine

__all__ = [
    "Method",
    "adam",
    "aging",
    "beta_darts",
    "bignas",
    "darts",
    "darts_2nd",
    "darts_2nd_exact",
    "darts_minus",
    "darts_pt",
    "darts_pt_fixed",
    "drnas",
    "drnas_progressive",
    "enas",
    "fair_darts",
    "fairnas",
    "fbnet",
    "gaea",
    "gaea_pc_darts",
    "gdas",
    "idarts",
    "oles",
    "once_for_all",
    "p_darts",
    "pc_darts",
    "proxyless",
    "proxyless_r",
    "r_darts_ada",
    "r_darts_dp",
    "r_darts_es",
    "r_darts_l2",
    "random_search",
    "sdarts_adv",
    "sdarts_rs",
    "snas",
    "spos",
    "tunas",
]


def __dir__() -> list[str]:
    """What the tab key offers: the methods, and what they are made with."""
    return __all__


def darts() -> Method:
    """DARTS, first order: a softmax over the operations of each edge, the alphas follow the validation loss.

    Source: Liu, Simonyan and Yang 2019, "DARTS: Differentiable Architecture Search" (ICLR), section 2.3 with xi = 0.

    Example:
        >>> darts().recipe.batch_size
        64
    """
    strategy = partial(GradientStrategy, operations=Softmax(), inputs=None, architect=first_order, discretiser=argmax)
    return Method("darts", strategy, adam())


def darts_2nd(epsilon: float = 0.01) -> Method:
    """DARTS, second order: the gradient after one virtual step of the weights, by finite differences.

    Source: Liu, Simonyan and Yang 2019, "DARTS: Differentiable Architecture Search" (ICLR), equations 7 and 8.

    Args:
        epsilon: the distance of the differences, before it is divided by the norm of the validation gradient.

    Example:
        >>> darts_2nd(epsilon=0.001).strategy.keywords["architect"].keywords
        {'epsilon': 0.001}
    """
    return replace(darts().with_parts(architect=partial(unrolled, epsilon=epsilon)), name="darts_2nd")


def darts_2nd_exact() -> Method:
    """DARTS, second order, with the exact product of the mixed second derivative.

    Source: Liu, Simonyan and Yang 2019, "DARTS: Differentiable Architecture Search" (ICLR), equation 7.

    Example:
        >>> darts_2nd_exact().name
        'darts_2nd_exact'
    """
    return replace(darts().with_parts(architect=unrolled_exact), name="darts_2nd_exact")


def idarts(terms: int = 3) -> Method:
    """iDARTS: the implicit gradient, by a Neumann series with exact Hessian-vector products.

    Source: Zhang, Su, Pan, Chang, Abbasnejad and Haffari 2021, "iDARTS: Differentiable Architecture Search with
    Stochastic Implicit Gradients" (ICML). The authors step the weights several times between two steps of the alphas;
    here it is once, as in DARTS. Their code has a diagonal in place of the Hessian.

    Args:
        terms: of the series; the authors' K = 2 is the powers 0, 1 and 2.

    Example:
        >>> idarts(terms=2).strategy.keywords["architect"].keywords
        {'terms': 2}
    """
    return replace(darts().with_parts(architect=partial(neumann, terms=terms)), name="idarts")


def pc_darts(channel_divisor: int = 4) -> Method:
    """PC-DARTS: operations see one channel in four, and the edges into a node have weights of their own.

    Source: Xu, Xie, Zhang, Chen, Qi, Tian and Xiong 2020, "PC-DARTS: Partial Channel Connections for Memory-Efficient
    Architecture Search" (ICLR), sections 3.2 and 3.3.

    Args:
        channel_divisor: operations see the first 1 / `channel_divisor` of the channels.

    Example:
        >>> pc_darts(channel_divisor=2).chooser.channel_divisor
        2
    """
    return replace(
        darts().with_parts(inputs=Softmax()),
        name="pc_darts",
        optimizer=adam(6e-4),
        chooser=Undecided(channel_divisor=channel_divisor),
        recipe=SearchRecipe(batch_size=256, schedule=Cosine(0.1, 0.0), warm_up=15),
    )


def gdas(start: float = 10.0, end: float = 0.1) -> Method:
    """GDAS: one operation an edge runs, drawn by the Gumbel-max trick, and the gradient passes straight through.

    Source: Dong and Yang 2019, "Searching for a Robust Neural Architecture in Four GPU Hours" (CVPR), equations 3 and
    4. The authors' code steps the weights before the alphas; here the order is that of DARTS. Their search network has
    6 cells. A node of theirs gets its two best pairs of operation and input, which may be of one input; here they are
    of two, as in DARTS.

    Args:
        start: the temperature at the start of the search.
        end: the temperature at its end.

    Example:
        >>> gdas(start=5.0).strategy.keywords["operations"]
        Gumbel(hard=True, start=5.0, end=0.1, decay='linear')
    """
    return replace(
        darts().with_parts(operations=Gumbel(hard=True, start=start, end=end)),
        name="gdas",
        chooser=Undecided(single=True),
        recipe=SearchRecipe(epochs=250, batch_size=256, nesterov=True, weight_decay=5e-4),
    )


def snas(start: float = 1.0, end: float = 0.03) -> Method:
    """SNAS: draws from the Concrete distribution; the weights and the alphas learn from the same loss.

    Source: Xie, Zheng, Liu and Lin 2019, "SNAS: Stochastic Neural Architecture Search" (ICLR), equation 5. The
    temperature falls as in the authors' code with --temp_annealing. Their code takes both gradients from one pass
    under one draw; here the alphas' step and the weights' step have a pass and a draw each. The authors train on all
    images; here a tenth of them watches the search. `objectives.ExpectedCost` is their cost term.

    Args:
        start: the temperature at the start of the search.
        end: the temperature at its end.

    Example:
        >>> snas().strategy.keywords["single_level"]
        True
    """
    return replace(
        darts().with_parts(operations=Gumbel(hard=False, start=start, end=end), single_level=True),
        name="snas",
        recipe=SearchRecipe(epochs=150, share=0.9),
    )


def fbnet(start: float = 5.0, end: float = 5.0 * math.exp(-0.045 * 90)) -> Method:
    """FBNet: a soft Gumbel draw whose temperature falls exponentially; all operations run.

    Source: Wu, Dai, Zhang, Wang, Sun, Wu, Tian, Vajda, Jia and Keutzer 2019, "FBNet: Hardware-Aware Efficient ConvNet
    Design via Differentiable Neural Architecture Search" (CVPR), section 4.1. The authors alternate epochs of the
    weights, on 80 % of the images, with epochs of the alphas, on the rest; here the steps alternate. They train some
    architectures drawn in the end and keep the best; here it is the most probable one. A search of another length
    starts and ends at the same temperatures. No batch size is published.

    Args:
        start: the temperature at the start of the search.
        end: the temperature at its end, after 90 published epochs.

    Example:
        >>> relaxation = fbnet().strategy.keywords["operations"]
        >>> round(relaxation.temperature(10 / 90), 4), round(5 * math.exp(-0.045 * 10), 4)
        (3.1881, 3.1881)
    """
    adam = partial(torch.optim.Adam, lr=0.01, betas=(0.9, 0.999), weight_decay=5e-4)
    return replace(
        darts().with_parts(operations=Gumbel(start=start, end=end, decay="exponential")),
        name="fbnet",
        optimizer=adam,
        recipe=SearchRecipe(epochs=90, share=0.8, schedule=Cosine(0.1, 0.0), weight_decay=1e-4, warm_up=10),
    )


def proxyless(paths: Literal["all", "two"] = "all", every: int = 5) -> Method:
    """ProxylessNAS-G: binary gates, one of which is open, and the gradient of all of them.

    Source: Cai, Zhu and Han 2019, "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware" (ICLR),
    section 3.2, and the authors' search/imagenet_arch_search.py: 40 epochs of warm-up and 120 more. 5,000 images of
    50,000 judge, as in their section 4.1. The authors' warm-up has a rate of its own; here one cosine serves both
    parts. In their code the alphas of an edge on which "none" was drawn do not learn, not even from the latency; here
    they do. `proxyless_r` is the form that learns by REINFORCE.

    Args:
        paths: "all": every option learns. "two": two drawn ones do, which keep their probability together.
        every: the alphas take one step in so many of the network.

    Example:
        >>> proxyless(paths="two").strategy.keywords["operations"]
        BinaryGates(paths='two')
    """
    recipe = SearchRecipe(epochs=160, batch_size=256, share=0.9, nesterov=True, weight_decay=4e-5, warm_up=40)
    return replace(
        darts().with_parts(operations=BinaryGates(paths), every=every),
        name="proxyless",
        optimizer=_policy_adam(1e-3),
        chooser=Undecided(single=True, gates=True),
        few_steps_parts={"every": 1},
        recipe=replace(recipe, schedule=Cosine(0.025, 0.0)),
    )


def drnas() -> Method:
    """DrNAS in one stage: the weights of each edge are drawn from a Dirichlet distribution, all channels are used.

    Source: Chen, Wang, Cheng, Tang and Hsieh 2021, "DrNAS: Dirichlet Neural Architecture Search" (ICLR). The sizes are
    those of DARTS. The regulariser is the weight decay of the alphas, which is the default of the authors' code;
    `objectives.DirichletAnchor` is the other one.

    Example:
        >>> drnas().strategy.keywords["operations"]
        Dirichlet()
    """
    return replace(
        darts().with_parts(operations=Dirichlet()), name="drnas", optimizer=adam(6e-4), seven_operations=True
    )


def drnas_progressive() -> Method:
    """DrNAS in two stages: one channel in six, then the best four operations of each edge on one channel in four.

    Source: Chen, Wang, Cheng, Tang and Hsieh 2021, "DrNAS: Dirichlet Neural Architecture Search" (ICLR), the authors'
    DARTS-space/train_search.py. Both stages have 25 epochs, 20 cells and 36 channels. The authors' pooling has no norm
    in the search. `weight_inheritance` says how the widening differs.

    Example:
        >>> [stage.channel_divisor for stage in drnas_progressive().stages]
        [6, 4]
    """
    whole = Stage(length=0.5, depth=2.5, width=2.25, channel_divisor=6, keep=4, schedule="whole")
    return replace(
        drnas(),
        name="drnas_progressive",
        stages=(whole, replace(whole, channel_divisor=4, keep=None, inherit_weights=True)),
        recipe=SearchRecipe(schedule=Cosine(0.1, 0.0), warm_up=20),
    )


def p_darts(dropouts: tuple[float, float, float] = (0.1, 0.4, 0.7), most_skips: int = 2) -> Method:
    """P-DARTS: three searches, each in a deeper network with fewer operations an edge.

    Source: Chen, Xie, Wu and Tian 2019, "Progressive Differentiable Architecture Search: Bridging the Depth Gap between
    Search and Evaluation" (ICCV), and the authors' train_search.py. The stages have 25 epochs each, and 5, 11 and 17
    cells.

    Args:
        dropouts: of each stage, after skip connections, at the start.
        most_skips: skip connections that a normal cell may have in the end.

    Example:
        >>> [stage.keep for stage in p_darts().stages]
        [5, 3, None]
    """
    sizes = zip((0.625, 1.375, 2.125), (5, 3, None), dropouts, strict=True)
    return replace(
        darts().with_parts(discretiser=partial(limit_skips, most=most_skips, group="normal"), clip=5.0),
        name="p_darts",
        optimizer=adam(6e-4),
        stages=tuple(Stage(length=0.3333, depth=d, keep=k, skip_dropout=p) for d, k, p in sizes),
        recipe=SearchRecipe(epochs=75, batch_size=96, schedule=Cosine(0.025, 0.0), warm_up=30),
    )


def fair_darts(weight: float = 10.0, form: Literal["l2", "l1"] = "l2", least: float = 0.85) -> Method:
    """FairDARTS: each operation has a sigmoid of its own, a zero-one loss, and a threshold in the end.

    Source: Chu, Zhou, Zhang and Li 2020, "Fair DARTS: Eliminating Unfair Advantages in Differentiable Architecture
    Search" (ECCV). "none" is no candidate in any space. A node keeps its strongest edge where none reaches the
    threshold; the authors' code would leave it without input. In a search of few steps the zero-one loss pushes each
    sigmoid as hard as in the authors' space, however few there are, and the rate is the one with which sigmoids can
    reach the threshold.

    Args:
        weight: of the zero-one loss.
        form: of the zero-one loss: of squares or of absolute values.
        least: the threshold on the sigmoids.

    Example:
        >>> fair_darts().chooser.excluded
        ('none',)
    """
    parts = {"operations": Sigmoid(), "discretiser": partial(threshold, least=least), "start": zero}
    return replace(
        darts().with_parts(terms={"zero_one": ZeroOne(weight, form)}, **parts),
        name="fair_darts",
        optimizer=adam(3e-3, (0.9, 0.999)),
        few_steps_rate=0.1,  # ten times that of DARTS, as the authors have it
        few_steps_parts={"terms": {"zero_one": ZeroOne(weight, form, among=196)}},
        chooser=Undecided(excluded=("none",)),
        recipe=SearchRecipe(batch_size=128, schedule=Cosine(0.005, 0.001)),
    )


def darts_minus(start: float = 1.0, decay: Literal["linear", "cosine"] = "linear") -> Method:
    """DARTS-: an auxiliary skip connection beside the operations of every edge, which fades.

    Source: Chu, Wang, Zhang, Lu, Wei and Yan 2021, "DARTS-: Robustly Stepping out of Performance Collapse Without
    Indicators" (ICLR), equation 5. At stride 2 it is a factorised reduction of its own. The authors' fades epoch by
    epoch and takes part in the validation during the search; here it fades step by step and does not.

    Args:
        start: the weight of the auxiliary skip connection at the start.
        decay: how it falls to zero.

    Example:
        >>> darts_minus().chooser.auxiliary
        True
    """
    return replace(
        darts().with_parts(transforms={"auxiliary_skip": AuxiliarySkip(start, decay)}),
        name="darts_minus",
        chooser=Undecided(auxiliary=True),
    )


def sdarts_rs(start: float = 0.03, end: float = 0.3) -> Method:
    """SDARTS-RS: the weights of the network learn under random noise on the weights of the operations.

    Source: Chen and Hsieh 2020, "Stabilizing Differentiable Architecture Search via Perturbation-based Regularization"
    (ICML), section 3.2.

    Args:
        start: how far the noise reaches at the start.
        end: how far it reaches at the end.

    Example:
        >>> sdarts_rs(end=0.1).strategy.keywords["transforms"]["random_smoothing"]
        RandomSmoothing(start=0.03, end=0.1)
    """
    return replace(
        darts().with_parts(transforms={"random_smoothing": RandomSmoothing(start, end)}),
        name="sdarts_rs",
        seven_operations=True,
    )


def sdarts_adv(start: float = 0.03, end: float = 0.3, steps: int = 7) -> Method:
    """SDARTS-ADV: the weights of the network learn against the worst weights of the operations nearby.

    Source: Chen and Hsieh 2020, "Stabilizing Differentiable Architecture Search via Perturbation-based Regularization"
    (ICML), section 3.2.

    Args:
        start: how far the attack reaches at the start.
        end: how far it reaches at the end.
        steps: of the attack.

    Example:
        >>> sdarts_adv(steps=3).strategy.keywords["transforms"]["adversarial"]
        Adversarial(start=0.03, end=0.3, steps=3)
    """
    return replace(
        darts().with_parts(transforms={"adversarial": Adversarial(start, end, steps)}),
        name="sdarts_adv",
        seven_operations=True,
    )


def r_darts_l2(weight_decay: float = 81e-4) -> Method:
    """R-DARTS (L2): DARTS, second order, under strong weight decay.

    Source: Zela, Elsken, Saikia, Marrakchi, Brox and Hutter 2020, "Understanding and Robustifying Differentiable
    Architecture Search" (ICLR). This is one of its searches. The method is four of them, with 9e-4, 27e-4, 81e-4 and
    243e-4, and the cell with the best validation accuracy after retraining.

    Args:
        weight_decay: of the network's weights.

    Example:
        >>> r_darts_l2(weight_decay=27e-4).recipe.weight_decay
        0.0027
    """
    recipe = SearchRecipe(weight_decay=weight_decay)
    return replace(darts_2nd(), name="r_darts_l2", recipe=recipe, keeps=("weight_decay",))


def r_darts_dp(drop_path: float = 0.2) -> Method:
    """R-DARTS (DP): DARTS, second order, under drop path that grows with the epochs.

    Source: Zela, Elsken, Saikia, Marrakchi, Brox and Hutter 2020, "Understanding and Robustifying Differentiable
    Architecture Search" (ICLR). The authors let CutOut grow with it, which the search here does not have. This is one
    of its searches. The method is four of them, with 0, 0.2, 0.4 and 0.6, and the cell with the best validation
    accuracy after retraining.

    Args:
        drop_path: the probability, in the last epoch, that an image does without an edge.

    Example:
        >>> r_darts_dp(drop_path=0.4).recipe.drop_path
        0.4
    """
    recipe = SearchRecipe(drop_path=drop_path)
    return replace(darts_2nd(), name="r_darts_dp", recipe=recipe, keeps=("drop_path",))


def r_darts_es(window: int = 5, delta: int = 4, rise: float = 1.3) -> Method:
    """DARTS-ES: DARTS, second order, which stops early with the architecture from before lambda_max rose.

    Source: Zela, Elsken, Saikia, Marrakchi, Brox and Hutter 2020, "Understanding and Robustifying Differentiable
    Architecture Search" (ICLR). A search of fewer than 24 epochs is never stopped: the monitor looks every other epoch,
    and judges none before the tenth.

    Args:
        window: looks in a local mean of lambda_max.
        delta: looks between the two means that are compared.
        rise: how many times larger the later mean may be.

    Example:
        >>> r_darts_es().monitor.on_rise
        'stop'
    """
    looks = MonitorSettings(every=2, batch_size=64, iterations=30, tolerance=0.001, on_rise="stop")
    return replace(darts_2nd(), name="r_darts_es", monitor=replace(looks, window=window, delta=delta, rise=rise))


def r_darts_ada(factor: float = 10.0, most: float = 0.03) -> Method:
    """DARTS-ADA: DARTS, second order; where lambda_max rises, back to the epoch before and on with more weight decay.

    Source: Zela, Elsken, Saikia, Marrakchi, Brox and Hutter 2020, "Understanding and Robustifying Differentiable
    Architecture Search" (ICLR). It looks as `r_darts_es` does, so a search of fewer than 24 epochs never goes back. The
    figures are those of the authors' DARTS-ADA_search.sh; the default of their code is three times, up to 0.0243.

    Args:
        factor: the weight decay is multiplied by it each time.
        most: the largest weight decay.

    Example:
        >>> r_darts_ada().monitor.on_rise
        'adapt'
    """
    monitor = replace(r_darts_es().monitor, on_rise="adapt", factor=factor, most=most)
    return replace(darts_2nd(), name="r_darts_ada", monitor=monitor)


def beta_darts(weight: float = 50.0) -> Method:
    """beta-DARTS: the logsumexp of the alphas is added to their loss, by a factor that grows.

    Source: Ye, Li, Li, Chen, Fan and Ouyang 2022, "beta-DARTS: Beta-Decay Regularization for Differentiable
    Architecture Search" (CVPR). In a search of few steps, of any length, the factor ends at 0.03 of what it has after
    the authors' 50 epochs, because their rate of the alphas, 3e-4, is 0.03 of that of few steps. Under the authors'
    factor the noise of such steps would be larger than the differences that the term leaves between the alphas.

    Args:
        weight: by how much the factor grows in 100 epochs.

    Example:
        >>> beta_darts(weight=25.0).strategy.keywords["terms"]["beta_decay"].weight
        25.0
    """
    return replace(
        darts().with_parts(terms={"beta_decay": BetaDecay(weight)}),
        name="beta_darts",
        seven_operations=True,
        few_steps_parts={"terms": {"beta_decay": BetaDecay(weight=0.03 * weight / 2, span=None)}},
    )


def gaea(lr: float = 0.1, floor: float = 1e-5) -> Method:
    """GAEA DARTS: the parameters are weights on the simplex, which move by exponentiated gradient.

    Source: Li, Khodak, Balcan and Talwalkar 2021, "Geometry-Aware Gradient Algorithms for Neural Architecture Search"
    (ICLR). The authors take the cell of the epoch with the best validation accuracy; here it is that of the last epoch.

    Args:
        lr: the learning rate of the weights on the simplex.
        floor: the smallest weight before they are normalised.

    Example:
        >>> gaea().strategy.keywords["operations"]
        Simplex()
    """
    return replace(
        darts().with_parts(operations=Simplex(), start=uniform),
        name="gaea",
        optimizer=partial(ExponentiatedGradient, lr=lr, floor=floor),
    )


def gaea_pc_darts(channel_divisor: int = 4) -> Method:
    """GAEA PC-DARTS: PC-DARTS with all weights on the simplex, which learn from the first epoch on.

    Source: Li, Khodak, Balcan and Talwalkar 2021, "Geometry-Aware Gradient Algorithms for Neural Architecture Search"
    (ICLR). The cell is that of the last epoch, as in `gaea`. The floor under the weights of operations is under those
    of inputs, too.

    Args:
        channel_divisor: operations see the first 1 / `channel_divisor` of the channels.

    Example:
        >>> gaea_pc_darts().recipe.warm_up
        0
    """
    like = pc_darts(channel_divisor)
    return replace(
        gaea().with_parts(inputs=Simplex()),
        name="gaea_pc_darts",
        chooser=like.chooser,
        recipe=replace(like.recipe, warm_up=0),
    )


def oles(threshold: float = 0.4, every: int = 20, accumulated: bool = True) -> Method:
    """OLES: an operation stops learning once its gradients on the two halves of the data disagree.

    Source: Jiang, Ji, Zhu, Yuan and Huang 2023, "Operation-Level Early Stopping for Robustifying Differentiable NAS"
    (NeurIPS), and the authors' train_search.py. That code sums 21 cosines and divides by 20; here it is the mean of 20.

    Args:
        threshold: the mean cosine below which an operation stops.
        every: steps between two judgements.
        accumulated: the training gradient is compared with the sum of both, as in the authors' code, and not with the
            validation gradient alone, as in the paper.

    Example:
        >>> oles().stages[0].wrapper.keywords
        {'threshold': 0.4, 'every': 20, 'accumulated': True}
    """
    stops = partial(OperationEarlyStopping, threshold=threshold, every=every, accumulated=accumulated)
    return replace(darts(), name="oles", stages=(Stage(wrapper=stops),))


def darts_pt(batches: int | None = None) -> Method:
    """DARTS-PT: after DARTS, one decision after the other is made by how much the supernet loses without an option.

    Source: Wang, Cheng, Chen, Tang and Hsieh 2021, "Rethinking Architecture Selection in Differentiable NAS" (ICLR),
    algorithm 1. Five epochs lie between two of the 17 rounds: 80 epochs after the 50, from a tenth of the learning
    rate. The authors' code trains one epoch more after the last round, and ends at 1e-3 and not at a tenth of it.

    Args:
        batches: of the architecture's half of the data, which judge a trial; None: all of that half.

    Example:
        >>> darts_pt(batches=4).stages[1].wrapper.keywords
        {'batches': 4}
    """
    chosen = Stage(
        inherit_weights=True, rate=0.1, warm_up=0.0, length=1.6, wrapper=partial(Projection, batches=batches)
    )
    return replace(darts(), name="darts_pt", seven_operations=True, stages=(Stage(), chosen))


def darts_pt_fixed(batches: int | None = None) -> Method:
    """DARTS-PT with fixed alphas: every operation counts alike until it is judged.

    Source: Wang, Cheng, Chen, Tang and Hsieh 2021, "Rethinking Architecture Selection in Differentiable NAS" (ICLR),
    section 5.

    Args:
        batches: of the architecture's half of the data, which judge a trial; None: all of that half.

    Example:
        >>> darts_pt_fixed().strategy.keywords["operations"]
        Uniform()
    """
    return replace(darts_pt(batches).with_parts(operations=Uniform()), name="darts_pt_fixed")


def random_search(candidates: int = 1000, batches: int = 10, finalists: int = 10) -> Method:
    """Random search with shared weights: the supernet trains random paths, and the best of many random cells is kept.

    Source: Li and Talwalkar 2019, "Random Search and Reproducibility for Neural Architecture Search" (UAI). It is the
    baseline for all others; its search has the sizes of DARTS. The authors' draws have "none" among the operations,
    ours do not.

    Args:
        candidates: architectures that are tried in the end.
        batches: of validation data, on which each of them is tried.
        finalists: the best of them are tried on all validation data.

    Example:
        >>> random_search(candidates=100).strategy.keywords["candidates"]
        100
    """
    strategy = partial(UniformStrategy, candidates=candidates, batches=batches, finalists=finalists)
    return Method("random_search", strategy, chooser=Undecided(single=True))


def spos(candidates: int = 1000, batches: int = 125, finalists: int = 1, probability: float = 0.1) -> Method:
    """SPOS: the supernet trains one uniformly drawn path a step, and evolution finds the best path in the end.

    Source: Guo, Zhang, Mu, Heng, Liu, Wei and Sun 2020, "Single Path One-Shot Neural Architecture Search with Uniform
    Sampling" (ECCV), sections 3.2 and 3.4, and the authors' code: 20 generations of 50, each judged on 8,000 images.
    They search ImageNet in a space without cells; the search here has the sizes of DARTS. They recalibrate the norms
    for each candidate and train paths of 290 to 360 million multiply-adds; here each batch's own statistics judge, and
    all paths train.

    Args:
        candidates: architectures that are tried in the end, 50 a generation.
        batches: of validation data, on which each of them is tried.
        finalists: the best of them are tried on all validation data.
        probability: with which a mutant's answers are drawn anew, each by itself.

    Example:
        >>> spos().strategy.keywords["explorer"].keywords
        {'probability': 0.1}
    """
    explorer = partial(SposEvolution, probability=probability)
    return replace(
        random_search(candidates, batches, finalists).with_parts(sampler="uniform", explorer=explorer), name="spos"
    )


def fairnas(candidates: int = 1000, batches: int = 125, finalists: int = 1, probability: float = 0.1) -> Method:
    """FairNAS: every operation of every edge runs once in each step of the network, whose gradients are added up.

    Source: Chu, Zhang and Xu 2021, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural Architecture
    Search" (ICCV), algorithm 1. The authors search ImageNet, and in the end accuracy, multiply-adds and parameters
    together by NSGA-II; here the end is that of `spos`, and the search has the sizes of DARTS.

    Args:
        candidates: architectures that are tried in the end, 50 a generation.
        batches: of validation data, on which each of them is tried.
        finalists: the best of them are tried on all validation data.
        probability: with which a mutant's answers are drawn anew, each by itself.

    Example:
        >>> fairnas().strategy.keywords["sampler"]
        'fair'
    """
    return replace(spos(candidates, batches, finalists, probability).with_parts(sampler="fair"), name="fairnas")


def bignas(random: int = 2, candidates: int = 1000, batches: int = 10, finalists: int = 10) -> Method:
    """BigNAS: the sandwich rule with in-place distillation, in spaces whose sizes are nested.

    Source: Yu, Jin, Liu, Bender, Kindermans, Tan, Huang, Song, Pang and Le 2020, "BigNAS: Scaling Up Neural
    Architecture Search with Big Single-Stage Models" (ECCV). The settings are those of AttentiveNAS (Wang, Li, Gong and
    Chandra 2021), the published code of it, whose soft labels have dropout in them; here they have none. The authors
    end in a grid that gets finer; here many architectures are judged.

    Args:
        random: networks between the largest and the smallest in a step.
        candidates: architectures that are tried in the end.
        batches: of validation data, on which each of them is tried.
        finalists: the best of them are tried on all validation data.

    Example:
        >>> bignas().strategy.keywords["random"]
        2
    """
    strategy = partial(SandwichStrategy, random=random, candidates=candidates, batches=batches, finalists=finalists)
    recipe = SearchRecipe(
        epochs=360,
        batch_size=256,
        share=0.9,
        schedule=Cosine(0.1, 0.0, warm_up=5),
        nesterov=True,
        weight_decay=1e-5,
        clip=math.inf,
        drop_path=0.2,
    )
    return Method("bignas", strategy, chooser=Undecided(single=True), recipe=recipe)


def once_for_all(
    candidates: int = 1000, batches: int = 125, finalists: int = 1, distillation: float = 1.0, paths: int = 4
) -> Method:
    """Once-for-all: progressive shrinking, from the largest network to all sizes that are nested in it.

    Source: Cai, Gan, Wang, Zhang and Han 2020, "Once-for-All: Train One Network and Specialize it for Efficient
    Deployment" (ICLR), and the authors' train_ofa_net.py. First the largest network learns; then kernels, depths and
    expansions open, in two stages each but for kernels. Rates are those of one of the authors' processes, 64 images.
    The first stage's network teaches in evaluation mode; the authors' does in training mode. Widths, squeezes and
    activations, which their space leaves alone, open with expansions and kernels. Their evolution asks a predictor of
    the accuracy 50,000 times; here it asks the supernet.

    Args:
        candidates: architectures that are tried in the end, 100 a generation.
        batches: of validation data, on which each of them is tried.
        finalists: the best of them are tried on all validation data.
        distillation: times the cross entropy with the teacher's answers is added to the loss.
        paths: networks a step once expansions open; half as many when depths open, and one when kernels do.

    Example:
        >>> [stage.shrinking.paths for stage in once_for_all().stages]
        [1, 1, 2, 2, 4, 4]
    """

    def stage(rate: float, epochs: int, paths: int, **opened: int) -> Stage:
        shrinking = Shrinking(opened, max(1, paths), distillation)
        return Stage(length=epochs / 180, rate=rate / (2.6 / 32), inherit_weights=True, shrinking=shrinking)

    explorer = partial(SposEvolution, population=100, parents=25, mutants=50, crossovers=50)
    return replace(
        random_search(candidates, batches, finalists).with_parts(explorer=explorer),
        name="once_for_all",
        stages=(
            Stage(
                shrinking=Shrinking(dict.fromkeys(("kernel", "squeeze", "activation", "depth", "expand", "width"), 1))
            ),
            stage(0.03, 120, 1, depth=1, expand=1, width=1),
            stage(0.0025, 25, paths // 2, depth=2, expand=1, width=1),
            stage(0.0075, 120, paths // 2, expand=1, width=1),
            stage(0.0025, 25, paths, expand=2, width=2),
            stage(0.0075, 120, paths),
        ),
        recipe=SearchRecipe(
            epochs=180,
            share=0.9,
            schedule=Cosine(2.6 / 32, 0.0),
            nesterov=True,
            weight_decay=3e-5,
            clip=math.inf,
        ),
    )


def aging(
    candidates: int = 1000, batches: int = 10, finalists: int = 10, population: int = 100, sample: int = 25
) -> Method:
    """Regularised evolution on a supernet that was trained by uniform paths: the oldest of a population dies.

    Source: Real, Aggarwal, Huang and Le 2019, "Regularized Evolution for Image Classifier Architecture Search" (AAAI).
    The authors train each candidate by itself, 20,000 of them; here the supernet judges, as in `random_search`.

    Args:
        candidates: architectures that are tried in the end.
        batches: of validation data, on which each of them is tried.
        finalists: the best of them are tried on all validation data.
        population: how many live at a time.
        sample: how many of them are drawn, of which the best has a child.

    Example:
        >>> aging(population=10, sample=3).strategy.keywords["explorer"].keywords
        {'population': 10, 'sample': 3}
    """
    explorer = partial(AgingEvolution, population=population, sample=sample)
    return replace(random_search(candidates, batches, finalists).with_parts(explorer=explorer), name="aging")


def enas(entropy: float = 1e-4, candidates: int = 10, hidden: int = 64) -> Method:
    """ENAS: an LSTM draws the paths, and learns from their accuracy while the network learns from its draws.

    Source: Pham, Guan, Zoph, Le and Dean 2018, "Efficient Neural Architecture Search via Parameter Sharing" (ICML), and
    the authors' scripts/cifar10_micro_search.sh. They alternate an epoch of the network with 30 steps of the
    controller, of ten paths each; here it learns at every tenth step of the network. Their learning rate of the weights
    restarts, their controller chooses inputs by attention. `reinforce.Baseline` says how the baseline differs.

    Args:
        entropy: times the entropy of a draw is added to its reward.
        candidates: draws in the end, on one validation batch, of which the best is the answer.
        hidden: the size of the LSTM's state.

    Example:
        >>> enas().recipe.epochs, enas().strategy.keywords["updates"].batches
        (150, 10)
    """
    strategy = partial(
        ReinforceStrategy,
        policy=partial(ControllerPolicy, hidden=hidden, layers=1, tanh=1.1, reduction=2.5),
        reward=quality,
        updates=Updates(batches=10),
        memory=0.99,
        entropy=entropy,
        candidates=candidates,
        batches=1,
    )
    recipe = SearchRecipe(
        epochs=150,
        batch_size=160,
        share=0.9,
        schedule=Cosine(0.05, 0.0005),
        nesterov=True,
        weight_decay=1e-4,
        drop_path=0.4,
    )
    optimizer = partial(torch.optim.Adam, lr=0.0035, betas=(0.0, 0.999), eps=1e-3, weight_decay=0.0)
    return Method("enas", strategy, optimizer, Undecided(single=True), recipe=recipe)


def proxyless_r(paths: int = 10, warm_up: float = 0.25) -> Method:
    """ProxylessNAS-R: logits draw the paths, and learn from the accuracies of ten of them on one validation batch.

    Source: Cai, Zhu and Han 2019, "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware" (ICLR),
    section 3.3.2, and the authors' search/imagenet_arch_search.py. They search ImageNet, for 40 epochs of warm-up and
    120 more with 300 steps of the logits in each; here there is one at every step, and the search has the sizes of
    DARTS. `rewards.PowerReward` is their reward for a target hardware. Their baseline is to 99 % the mean of the same
    ten rewards; here it is that of the other nine.

    Args:
        paths: architectures that are judged on one validation batch.
        warm_up: the share of the search in which the logits do not learn.

    Example:
        >>> proxyless_r().strategy.keywords["updates"].paths
        10
    """
    strategy = partial(
        ReinforceStrategy,
        policy=partial(IndependentPolicy, spread=1e-3),
        reward=quality,
        updates=Updates(paths=paths, warm_up=warm_up),
        memory=0.01,
    )
    return Method("proxyless_r", strategy, _policy_adam(1e-3), Undecided(single=True))


def tunas(
    target: float | None = None,
    weight: float = -0.1,
    warm_up: float = 0.25,
    growth: float = 10.0,
    costs: str | Mapping[str, float] | None = None,
) -> Method:
    """TuNAS: an absolute reward for a target cost, a warm-up of the operations, and a rate of the logits that grows.

    Source: Bender, Liu, Chen, Chu, Cheng, Kindermans and Le 2020, "Can Weight Sharing Outperform Random Architecture
    Search? An Investigation With TuNAS" (CVPR), and the authors' tunas/mobile_architecture_search.py. The rate is 3e-4
    times the batch over 256. They search ImageNet under the latency of a phone, judge on four times as many images as
    they train on, and draw one path for both; here the search has the sizes of DARTS, and the costs are parameters.

    Args:
        target: the cost that is wanted; None: the limit on it, and where there is none, that of random architectures.
        weight: of the distance from the target.
        warm_up: the share of the search in which the logits do not learn, and edges run all operations less and less
            often.
        growth: by what the rate of the logits is multiplied until the end.
        costs: the name of a cost of the final networks, such as "macs" or "latency", or costs by the names of
            operations; None: thousands of parameters at 16 channels, of the operations of cells.

    Example:
        >>> tunas().strategy.keywords["updates"]
        Updates(paths=1, batches=1, every=1, warm_up=0.25, growth=10.0, clip=None)
    """
    strategy = partial(
        ReinforceStrategy,
        policy=partial(IndependentPolicy),
        reward=AbsoluteReward(KILO_PARAMETERS if costs is None else costs, target, weight),
        updates=Updates(warm_up=warm_up, growth=growth),
        memory=0.95,
        operation_warm_up=warm_up,
    )
    return Method("tunas", strategy, _policy_adam(7.5e-5), Undecided(single=True))


def _policy_adam(lr: float) -> partial[torch.optim.Adam]:
    return partial(torch.optim.Adam, lr=lr, betas=(0.0, 0.999), weight_decay=0.0)
