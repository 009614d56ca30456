"""What each method is made of, value by value, as its authors have it: papers and the code they released.

The tables were written from those, not from the yamls: a value that changes in conf has to change here, with a reason.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from common import composed, slow_but
from supernet.experiments.instantiate import build

from supernet.search.differentiable.objectives import RelaxedWeights
from supernet.space.architecture import Decision

CONF = Path(__file__).parents[1] / "conf"
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
PARTS = ("chooser", "relaxation", "inputs", "architect", "optimizer", "objective", "discretiser")
GONE = object()
NESTED = ("bignas", "once_for_all")  # their spaces have nested sizes, which NAS-Bench-201 has not


@cache
def fixed(*words: str) -> dict[str, Any]:
    """All that a method decides, by dotted key."""
    settings = composed(*words)
    strategy = {k: v for k, v in settings["strategy"].items() if k not in HANDED_ON}
    blocks = {name: settings[name] for name in (*PARTS, "search", "monitor", "stages")}
    return dict(leaves("", {**blocks, "strategy": strategy}))


HANDED_ON = {  # by the strategy, from groups of their own
    "operations": "relaxation",
    "inputs": "inputs",
    "architect": "architect",
    "optimizer": "optimizer",
    "terms": "objective",
    "discretiser": "discretiser",
}


def leaves(key: str, value: Any):
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from leaves(f"{key}.{name}" if key else name, child)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, child in enumerate(value):
            yield from leaves(f"{key}.{number}", child)
    else:
        yield key, value.removeprefix("supernet.") if isinstance(value, str) else value


# DARTS, first order: Liu et al. 2019, sections 2 and 3.1; cnn/train_search.py and cnn/architect.py.
DARTS = {
    "chooser._target_": "space.choosers.Undecided",
    "chooser.channel_divisor": 1,
    "chooser.single": False,
    "chooser.gates": False,
    "chooser.excluded": [],
    "chooser.auxiliary": False,
    "relaxation._target_": "search.differentiable.relaxations.Softmax",
    "inputs": None,
    "architect._target_": "search.differentiable.architects.first_order",
    "architect._partial_": True,
    "optimizer._target_": "torch.optim.Adam",
    "optimizer._partial_": True,
    "optimizer.lr": 3e-4,
    "optimizer.betas": [0.5, 0.999],
    "optimizer.weight_decay": 1e-3,
    "objective": {},
    "discretiser._target_": "search.differentiable.discretisers.argmax",
    "discretiser._partial_": True,
    "search._target_": "search.recipe.SearchRecipe",
    "search.epochs": 50,
    "search.batch_size": 64,
    "search.share": 0.5,
    "search.schedule._target_": "training.schedules.Cosine",
    "search.schedule.start": 0.025,
    "search.schedule.end": 0.001,
    "search.schedule.warm_up": 0,
    "search.momentum": 0.9,
    "search.nesterov": False,
    "search.weight_decay": 3e-4,
    "search.clip": 5.0,
    "search.warm_up": 0,
    "search.skip_dropout": 0.0,
    "search.drop_path": 0.0,
    "search.balanced": False,
    "strategy._target_": "search.differentiable.gradient.GradientStrategy",
    "strategy._partial_": True,
    "strategy.transforms": {},
    "strategy.start._target_": "search.differentiable.gradient.small_normal",
    "strategy.start._partial_": True,
    "strategy.single_level": False,
    "strategy.clip": None,
    "strategy.every": 1,
    "stages": [],
    "monitor._target_": "search.collapse.settings.MonitorSettings",
    "monitor.every": 1,
    "monitor.batch_size": 8,
    "monitor.iterations": 8,
    "monitor.tolerance": 0.02,
    "monitor.recalibration": 4,
    "monitor.since": 0.5,
    "monitor.spared": ["reduce"],
    "monitor.many_skips": 0.5,
    "monitor.few_parametric": 0.25,
    "monitor.large_gap": 0.85,
    "monitor.window": 9,
    "monitor.delta": 8,
    "monitor.rise": 1.3,
    "monitor.not_before": 10,
    "monitor.on_rise": "go_on",
    "monitor.factor": 10.0,
    "monitor.most": 0.03,
}
SECOND_ORDER = {"architect._target_": "search.differentiable.architects.unrolled", "architect.epsilon": 0.01}
SEVEN = {"chooser.excluded": ["none"]}  # the lists in genotypes.py or spaces.py of these authors' code
# Xu et al. 2020: train_search.py and model_search.py
PC_DARTS = {
    "chooser.channel_divisor": 4,
    "search.batch_size": 256,
    "search.schedule.start": 0.1,
    "search.schedule.end": 0.0,
}
PC_DARTS_OWN = {
    "inputs": GONE,
    "inputs._target_": "search.differentiable.relaxations.Softmax",
    "search.warm_up": 15,
    "optimizer.lr": 6e-4,
}
# Zela et al. 2020: src/search/args.py and the scripts of DARTS-ES and DARTS-ADA
R_DARTS_ES = {
    **SECOND_ORDER,
    "monitor.every": 2,
    "monitor.batch_size": 64,
    "monitor.iterations": 30,
    "monitor.tolerance": 0.001,
    "monitor.window": 5,
    "monitor.delta": 4,
    "monitor.on_rise": "stop",
}
# Li et al. 2021: cnn/architect/architect_edarts.py and configs/cnn of gaea_release
GAEA = {
    "relaxation._target_": "search.differentiable.relaxations.Simplex",
    "optimizer._target_": "search.differentiable.optimizers.ExponentiatedGradient",
    "optimizer.lr": 0.1,
    "optimizer.floor": 1e-5,
    "optimizer.betas": GONE,
    "optimizer.weight_decay": GONE,
    "strategy.start._target_": "search.differentiable.gradient.uniform",
}
# Wang et al. 2021: sota/cnn/projection.py and darts-proj-sota.sh: 14 + 3 rounds, five epochs between two of them
DARTS_PT = {
    **SEVEN,
    "stages": GONE,
    "stages.0": {},
    "stages.1.inherit_weights": True,
    "stages.1.rate": 0.1,
    "stages.1.warm_up": 0.0,
    "stages.1.length": 5 * (14 + 3 - 1) / 50,
    "stages.1.wrapper._target_": "search.differentiable.projection.Projection",
    "stages.1.wrapper._partial_": True,
    "stages.1.wrapper.batches": None,
}
# Chen and Hsieh 2020: sota/cnn/train_search.py and attacker
SDARTS_RS, SDARTS_ADV = "strategy.transforms.random_smoothing", "strategy.transforms.adversarial"
SDARTS = {**SEVEN, "strategy.transforms": GONE}
FBNET_ALPHAS = {"optimizer.lr": 0.01, "optimizer.betas": [0.9, 0.999], "optimizer.weight_decay": 5e-4}
PROXYLESS_ALPHAS = {"optimizer.lr": 1e-3, "optimizer.betas": [0.0, 0.999], "optimizer.weight_decay": 0.0}
# Chen et al. 2021: DARTS-space/train_search.py
DRNAS = {**SEVEN, "relaxation._target_": "search.differentiable.relaxations.Dirichlet", "optimizer.lr": 6e-4}
GUMBEL = {"relaxation._target_": "search.differentiable.relaxations.Gumbel", "relaxation.decay": "linear"}


def stages(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"stages": GONE, **{f"stages.{n}.{k}": v for n, row in enumerate(rows) for k, v in row.items()}}


NO_ALPHAS = {
    "chooser.single": True,
    **{key: GONE for key in DARTS if key.startswith("strategy.") and not key.startswith("strategy._")},
}
UNIFORM = {
    **NO_ALPHAS,
    "strategy._target_": "search.black_box.random_search.UniformStrategy",
    "strategy.sampler": "uniform",
    "strategy.explorer": None,
    "strategy.candidates": 1000,
    "strategy.batches": 10,
    "strategy.finalists": 10,
}
SPOS = {
    "strategy.candidates": 20 * 50,
    "strategy.batches": 40 * 200 // 64,
    "strategy.finalists": 1,
    "strategy.explorer": GONE,
    "strategy.explorer._target_": "search.black_box.evolution.SposEvolution",
    "strategy.explorer._partial_": True,
    "strategy.explorer.population": 50,
    "strategy.explorer.parents": 10,
    "strategy.explorer.mutants": 25,
    "strategy.explorer.crossovers": 25,
    "strategy.explorer.probability": 0.1,
}
REINFORCE = {
    **NO_ALPHAS,
    "optimizer.betas": [0.0, 0.999],
    "optimizer.weight_decay": 0.0,
    "strategy._target_": "search.black_box.reinforce.ReinforceStrategy",
    "strategy.policy._target_": "search.black_box.policies.IndependentPolicy",
    "strategy.policy._partial_": True,
    "strategy.reward._target_": "search.black_box.rewards.quality",
    "strategy.reward._partial_": True,
    "strategy.updates._target_": "search.black_box.reinforce.Updates",
    "strategy.updates.paths": 1,
    "strategy.updates.batches": 1,
    "strategy.updates.every": 1,
    "strategy.updates.warm_up": 0.0,
    "strategy.updates.growth": 1.0,
    "strategy.updates.clip": None,
    "strategy.entropy": 0.0,
    "strategy.operation_warm_up": 0.0,
    "strategy.candidates": 0,
    "strategy.batches": None,
}


def shrinking(epochs: int, rate: float, paths: int, **opened: int) -> dict[str, Any]:
    """A stage of Cai et al. 2020: train_ofa_net.py; the largest network for 180 epochs at 2.6 for 32 x 64 images."""
    first = epochs == 180
    learning = {} if first else {"inherit_weights": True, "length": epochs / 180, "rate": rate / (2.6 / 32)}
    teaching = {} if first else {"shrinking.distillation": 1.0}
    several = {"shrinking.paths": paths} if paths > 1 else {}
    options = {f"shrinking.open.{kind}": count for kind, count in opened.items()} or {"shrinking.open": {}}
    kind = {"shrinking._target_": "search.progressive.shrinking.Shrinking"}
    return {**learning, **kind, **options, **several, **teaching}


PUBLISHED: dict[str, dict[str, Any]] = {
    "darts": {},
    "darts_2nd": SECOND_ORDER,
    "darts_2nd_exact": {"architect._target_": "search.differentiable.architects.unrolled_exact"},
    # Zhang et al. 2021: K = 2
    "idarts": {"architect._target_": "search.differentiable.architects.neumann", "architect.terms": 3},
    "pc_darts": {**PC_DARTS, **PC_DARTS_OWN},
    # Dong and Yang 2019: search-opts/GDAS-NASNet-CIFAR.config and the script's --tau_max 10 --tau_min 0.1
    "gdas": {
        **GUMBEL,
        "chooser.single": True,
        "relaxation.hard": True,
        "relaxation.start": 10.0,
        "relaxation.end": 0.1,
        "search.epochs": 250,
        "search.batch_size": 256,
        "search.weight_decay": 5e-4,
        "search.nesterov": True,
    },
    # Xie et al. 2019: train_search.py with --temp_annealing
    "snas": {
        **GUMBEL,
        "relaxation.hard": False,
        "relaxation.start": 1.0,
        "relaxation.end": 0.03,
        "search.epochs": 150,
        "search.share": 0.9,
        "strategy.single_level": True,
    },
    # Chen et al. 2019: train_search.py, the README's rates of dropout
    "p_darts": {
        "search.epochs": 75,
        "search.batch_size": 96,
        "search.schedule.end": 0.0,
        "search.warm_up": 30,
        "optimizer.lr": 6e-4,
        "strategy.clip": 5.0,
        "discretiser._target_": "search.differentiable.discretisers.limit_skips",
        "discretiser.most": 2,
        "discretiser.group": "normal",
        **stages(
            {"length": 0.3333, "depth": 5 / 8, "keep": 5, "skip_dropout": 0.1},
            {"length": 0.3333, "depth": 11 / 8, "keep": 3, "skip_dropout": 0.4},
            {"length": 0.3333, "depth": 17 / 8, "skip_dropout": 0.7},
        ),
    },
    # Chu, Zhou, Zhang and Li 2020: fairdarts/train_search.py, separate_loss.py, utils.py
    "fair_darts": {
        **SEVEN,
        "relaxation._target_": "search.differentiable.relaxations.Sigmoid",
        "objective": GONE,
        "objective.zero_one._target_": "search.differentiable.objectives.ZeroOne",
        "objective.zero_one.weight": 10.0,
        "objective.zero_one.form": "l2",
        "objective.zero_one.among": None,
        "discretiser._target_": "search.differentiable.discretisers.threshold",
        "discretiser.least": 0.85,
        "optimizer.lr": 3e-3,
        "optimizer.betas": [0.9, 0.999],
        "search.batch_size": 128,
        "search.schedule.start": 0.005,
        "strategy.start._target_": "search.differentiable.gradient.zero",
    },
    # Chu, Wang et al. 2021: src/search/model_search.py, scripts/run_darts_minus.sh
    "darts_minus": {
        "chooser.auxiliary": True,
        "strategy.transforms": GONE,
        "strategy.transforms.auxiliary_skip._target_": "search.differentiable.weight_transforms.AuxiliarySkip",
        "strategy.transforms.auxiliary_skip.start": 1.0,
        "strategy.transforms.auxiliary_skip.decay": "linear",
    },
    "r_darts_l2": {**SECOND_ORDER, "search.weight_decay": 81e-4},
    "r_darts_dp": {**SECOND_ORDER, "search.drop_path": 0.2},
    "r_darts_es": R_DARTS_ES,
    "r_darts_ada": {**R_DARTS_ES, "monitor.on_rise": "adapt"},
    "sdarts_rs": {
        **SDARTS,
        f"{SDARTS_RS}._target_": "search.differentiable.weight_transforms.RandomSmoothing",
        f"{SDARTS_RS}.start": 0.03,
        f"{SDARTS_RS}.end": 0.3,
    },
    "sdarts_adv": {
        **SDARTS,
        f"{SDARTS_ADV}._target_": "search.differentiable.weight_transforms.Adversarial",
        f"{SDARTS_ADV}.start": 0.03,
        f"{SDARTS_ADV}.end": 0.3,
        f"{SDARTS_ADV}.steps": 7,
    },
    "drnas": DRNAS,
    "drnas_progressive": {
        **DRNAS,
        "search.schedule.start": 0.1,
        "search.schedule.end": 0.0,
        "search.warm_up": 20,
        **stages(
            {"length": 0.5, "depth": 20 / 8, "width": 36 / 16, "channel_divisor": 6, "keep": 4, "schedule": "whole"},
            {
                "length": 0.5,
                "depth": 20 / 8,
                "width": 36 / 16,
                "channel_divisor": 4,
                "inherit_weights": True,
                "schedule": "whole",
            },
        ),
    },
    # Wu et al. 2019 (FBNet), section 4.1
    "fbnet": {
        **GUMBEL,
        "relaxation.hard": False,
        "relaxation.start": 5.0,
        "relaxation.end": 5.0 * math.exp(-0.045 * 90),
        "relaxation.decay": "exponential",
        "search.epochs": 90,
        "search.warm_up": 10,
        "search.share": 0.8,
        "search.schedule.start": 0.1,
        "search.schedule.end": 0.0,
        "search.weight_decay": 1e-4,
        **FBNET_ALPHAS,
    },
    # Cai et al. 2019: search/imagenet_arch_search.py, search/nas_manager.py; 5,000 of 50,000 images: section 4.1
    "proxyless": {
        "chooser.single": True,
        "chooser.gates": True,
        "relaxation._target_": "search.differentiable.relaxations.BinaryGates",
        "relaxation.paths": "all",
        "search.epochs": 40 + 120,
        "search.warm_up": 40,
        "search.batch_size": 256,
        "search.share": 45_000 / 50_000,
        "search.schedule.start": 0.025,
        "search.schedule.end": 0.0,
        "search.nesterov": True,
        "search.weight_decay": 4e-5,
        "strategy.every": 5,
        **PROXYLESS_ALPHAS,
    },
    "darts_pt": DARTS_PT,
    "darts_pt_fixed": {**DARTS_PT, "relaxation._target_": "search.differentiable.relaxations.Uniform"},
    # Ye et al. 2022: optimizers/darts/architect.py, weights = 0 + 50*epoch/100
    "beta_darts": {
        **SEVEN,
        "objective": GONE,
        "objective.beta_decay._target_": "search.differentiable.objectives.BetaDecay",
        "objective.beta_decay.weight": 50.0,
        "objective.beta_decay.span": 100,
    },
    "gaea": GAEA,
    "gaea_pc_darts": {
        **GAEA,
        **PC_DARTS,
        "inputs": GONE,
        "inputs._target_": "search.differentiable.relaxations.Simplex",
    },
    # Jiang et al. 2023: train_search.py
    "oles": stages(
        {
            "wrapper._target_": "search.differentiable.operation_early_stopping.OperationEarlyStopping",
            "wrapper._partial_": True,
            "wrapper.threshold": 0.4,
            "wrapper.every": 20,
            "wrapper.accumulated": True,
        }
    ),
    # Li and Talwalkar 2019: searchers/random_weight_share.py
    "random_search": {
        **UNIFORM,
    },
    # Guo et al. 2020: src/Search/search.py, src/Search/tester.py (40 batches of 200 images)
    "spos": {**UNIFORM, **SPOS},
    # Chu, Zhang and Xu 2021, algorithm 1; the evolution is that of SPOS
    "fairnas": {**UNIFORM, **SPOS, "strategy.sampler": "fair"},
    # Yu et al. 2020, section 3.1; Wang et al. 2021 (AttentiveNAS): configs/train_attentive_nas_models.yml
    "bignas": {
        **NO_ALPHAS,
        "strategy._target_": "search.black_box.sandwich.SandwichStrategy",
        "strategy.random": 4 - 2,
        "strategy.distillation": None,  # as the task has it: of one label an image the cross entropy with soft labels
        "strategy.clip_value": 1.0,
        "strategy.zero_residuals": True,
        "strategy.explorer": None,
        "strategy.candidates": 1000,
        "strategy.batches": 10,
        "strategy.finalists": 10,
        "search.epochs": 360,
        "search.batch_size": 256,
        "search.share": 0.9,
        "search.schedule.start": 0.1,
        "search.schedule.end": 0.0,
        "search.schedule.warm_up": 5,
        "search.nesterov": True,
        "search.weight_decay": 1e-5,
        "search.clip": math.inf,
        "search.drop_path": 0.2,
    },
    # Cai et al. 2020: train_ofa_net.py, ofa/nas/search_algorithm/evolution.py
    "once_for_all": {
        **UNIFORM,
        **SPOS,
        "strategy.explorer.population": 100,
        "strategy.explorer.parents": 25,
        "strategy.explorer.mutants": 50,
        "strategy.explorer.crossovers": 50,
        "search.epochs": 180,
        "search.share": 0.9,
        "search.schedule.start": 2.6 / 32,
        "search.schedule.end": 0.0,
        "search.nesterov": True,
        "search.weight_decay": 3e-5,
        "search.clip": math.inf,
        **stages(
            shrinking(180, 2.6 / 32, 1, kernel=1, squeeze=1, activation=1, depth=1, expand=1, width=1),
            shrinking(120, 3e-2, 1, depth=1, expand=1, width=1),
            shrinking(25, 2.5e-3, 2, depth=2, expand=1, width=1),
            shrinking(120, 7.5e-3, 2, expand=1, width=1),
            shrinking(25, 2.5e-3, 4, expand=2, width=2),
            shrinking(120, 7.5e-3, 4),
        ),
    },
    # Real et al. 2019, section 3
    "aging": {
        **UNIFORM,
        "strategy.explorer": GONE,
        "strategy.explorer._target_": "search.black_box.evolution.AgingEvolution",
        "strategy.explorer._partial_": True,
        "strategy.explorer.population": 100,
        "strategy.explorer.sample": 25,
        "strategy.explorer.distinct": True,
        "strategy.explorer.together": 1,
    },
    # Pham et al. 2018: scripts/cifar10_micro_search.sh, src/cifar10/main.py (LSTM), src/utils.py (Adam)
    "enas": {
        **REINFORCE,
        "search.epochs": 150,
        "search.batch_size": 160,
        "search.share": 45_000 / 50_000,
        "search.schedule.start": 0.05,
        "search.schedule.end": 0.0005,
        "search.nesterov": True,
        "search.weight_decay": 1e-4,
        "search.drop_path": 1 - 0.6,
        "optimizer.lr": 0.0035,
        "optimizer.eps": 1e-3,
        "strategy.policy._target_": "search.black_box.policies.ControllerPolicy",
        "strategy.policy.hidden": 64,
        "strategy.policy.layers": 1,
        "strategy.policy.tanh": 1.1,
        "strategy.policy.reduction": 2.5,
        "strategy.updates.batches": 10,
        "strategy.memory": 0.99,
        "strategy.entropy": 1e-4,
        "strategy.candidates": 10,
        "strategy.batches": 1,
    },
    # Cai et al. 2019: search/imagenet_arch_search.py, search/nas_manager.py
    "proxyless_r": {
        **REINFORCE,
        "optimizer.lr": 1e-3,
        "strategy.policy.spread": 1e-3,
        "strategy.updates.paths": 10,
        "strategy.updates.warm_up": 40 / (40 + 120),
        "strategy.memory": 0.01,  # rl_baseline_decay_weight 0.99 is the share of the new mean
    },
    # Bender et al. 2020: tunas/mobile_architecture_search.py
    "tunas": {
        **REINFORCE,
        "optimizer.lr": 3e-4 * 64 / 256,
        "strategy.reward._target_": "search.black_box.rewards.AbsoluteReward",
        "strategy.reward._partial_": False,
        "strategy.reward.target": None,
        "strategy.reward.weight": -0.10,
        "strategy.updates.warm_up": 0.25,
        "strategy.updates.growth": 10.0,
        "strategy.memory": 0.95,
        "strategy.operation_warm_up": 0.25,
    },
}
# NAS-Bench-201. The benchmark's configs/nas-benchmark/algos (DARTS, GDAS, RANDOM) and scripts; the authors' own code.
BENCHMARK = {
    "search.schedule.start": 0.025,
    "search.schedule.end": 0.001,
    "search.batch_size": 64,
    "search.epochs": 50,
    "search.nesterov": True,
    "search.weight_decay": 5e-4,
    "search.warm_up": 0,
    "search.share": 0.5,
}
OWN_201 = {"search.epochs": 100, "search.nesterov": False, "search.weight_decay": 3e-4}
ALPHAS = {"optimizer.lr": 3e-4}
ALL_FIVE = {"chooser.excluded": []}
GAEA_201 = {
    "search.epochs": 25,
    "search.schedule.span": 50,
    "search.nesterov": False,
    "search.weight_decay": 3e-4,
    "chooser.excluded": ["none"],
}
PA_DA = {
    "search.epochs": 250,
    "search.batch_size": 256,
    "search.schedule.start": 0.05,
    "search.schedule.end": 0.0,
    "search.nesterov": False,
    "search.weight_decay": 2.5e-4,
}
DARTS_PT_201 = {**OWN_201, **ALL_FIVE, "stages.1.length": 5 * (6 - 1) / 100}
NASBENCH201: dict[str, dict[str, Any]] = {
    "gdas": {"search.epochs": 250},
    "random_search": {"search.epochs": 250, "strategy.candidates": 100, "strategy.batches": 8, "strategy.finalists": 1},
    "pc_darts": {**OWN_201, **ALPHAS},
    "snas": {**OWN_201, "relaxation.start": 10.0, "relaxation.end": 1.0, "strategy.single_level": False},
    "p_darts": {"search.epochs": 75, "search.warm_up": 30},
    "r_darts_l2": {"search.weight_decay": 81e-4},
    "sdarts_rs": {**OWN_201, **ALL_FIVE},
    "sdarts_adv": {**OWN_201, **ALL_FIVE},
    "drnas": {**OWN_201, **ALL_FIVE, **ALPHAS},
    "drnas_progressive": {
        **OWN_201,
        **ALL_FIVE,
        **ALPHAS,
        "search.warm_up": 20,
        **{f"stages.{n}.{size}": GONE for n in (0, 1) for size in ("depth", "width")},
        "stages.0.channel_divisor": 4,
        "stages.0.keep": 3,
        "stages.1.channel_divisor": 2,
    },
    "darts_pt": DARTS_PT_201,
    "darts_pt_fixed": DARTS_PT_201,
    "beta_darts": {**OWN_201, **ALL_FIVE},
    "fbnet": FBNET_ALPHAS,
    "proxyless": PROXYLESS_ALPHAS,
    "gaea": GAEA_201,
    "gaea_pc_darts": GAEA_201,
    # Lu et al. 2023 (PA-DA): nasbench201/train_baselines_201.py
    "spos": PA_DA,
    "fairnas": PA_DA,
    # RANDOM.config; NATS-Bench's exps/NATS-algos/regularized_ea.py
    "aging": {
        "search.epochs": 250,
        "strategy.candidates": 100,
        "strategy.batches": 8,
        "strategy.finalists": 1,
        "strategy.explorer.population": 10,
        "strategy.explorer.sample": 3,
    },
    # ENAS.config, ENAS.sh: 50 x 20 paths an epoch of 25,000 / 128 steps
    "enas": {
        "search.epochs": 310,
        "search.batch_size": 128,
        "search.schedule.start": 0.05,
        "search.schedule.end": 0.0005,
        "search.weight_decay": 2.5e-4,
        "optimizer.lr": 1e-3,
        "strategy.updates.paths": round(50 * 20 / (25_000 / 128)),
        "strategy.updates.batches": 4,
        "strategy.updates.clip": 5.0,
        "strategy.candidates": 100,
    },
}
# A search of few steps: what is strong by the published number of steps. DARTS' rate of 3e-4 is 0.01 there.
FEW_STEPS: dict[str, dict[str, Any]] = {
    # at the end of the authors' 50 epochs the factor is 25; and 25 times 3e-4 / 0.01
    "beta_darts": {"objective.beta_decay.weight": 0.75, "objective.beta_decay.span": None},
    # ten times DARTS' rate, 3e-3 to 3e-4; two kinds of cell of 14 edges with seven operations
    "fair_darts": {"optimizer.lr": 0.1, "objective.zero_one.among": 2 * 14 * 7},
    # a search of a hundred steps has none to spare
    "proxyless": {"strategy.every": 1},
}


POLICIES = ("enas", "proxyless_r", "tunas")


def together(*tables: dict[str, Any]) -> dict[str, Any]:
    merged = {key: value for table in tables for key, value in table.items()}
    return {key: value for key, value in merged.items() if value is not GONE}


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json.dumps(found, sort_keys=True, indent=0) == json.dumps(expected, sort_keys=True, indent=0)


def test_all_methods_are_in_the_table():
    assert sorted(PUBLISHED) == METHODS
    assert set(NASBENCH201) <= set(METHODS)
    own = {path.stem for path in (CONF / "settings_of" / "few_steps").glob("*.yaml")}
    assert own == set(FEW_STEPS)


@pytest.mark.parametrize("epochs", [4, 20, 50])
def test_few_steps_have_strengths_that_do_not_depend_on_the_number_of_epochs(epochs):
    """Nor on the number of operations; as published the first ends at 25 after 50 epochs, and at 2 after 4."""
    ends = {}
    for method, edges in [("beta_darts", 3), ("beta_darts", 10), ("fair_darts", 3), ("fair_darts", 10)]:
        short = composed(f"method={method}", "experiment=micro", f"search.epochs={epochs}")
        long = composed(f"method={method}", "experiment=cifar10", f"search.epochs={epochs}")
        decisions = {f"cell/1/{n}": Decision(f"cell/1/{n}", ("skip_connect", "nor_conv_3x3")) for n in range(edges)}
        alphas = {name: torch.zeros(2, dtype=torch.float64, requires_grad=True) for name in decisions}
        weights = {name: (4.0 + alpha).sigmoid() for name, alpha in alphas.items()}
        for settings in (short, long):
            (term,) = build(settings["objective"], "objective").values()
            value = term(RelaxedWeights(decisions, alphas, weights, 1.0, epochs))
            slope = torch.cat(torch.autograd.grad(value, list(alphas.values()), retain_graph=True)).mean()
            ends.setdefault((method, edges), []).append(slope.item())
    beta = [0.5 * factor / 3 for factor in (0.75, 0.5 * epochs)]  # d logsumexp = softmax, of the mean over edges
    assert ends["beta_darts", 3] == pytest.approx(beta)
    assert ends["beta_darts", 10] == pytest.approx([slope * 3 / 10 for slope in beta])
    sure = 1 / (1 + math.exp(-4))
    pushed = -10 * 2 * (sure - 0.5) * sure * (1 - sure)
    assert ends["fair_darts", 3] == pytest.approx([pushed / 196, pushed / 6])
    assert ends["fair_darts", 10] == pytest.approx([pushed / 196, pushed / 20])


@pytest.mark.parametrize("method", METHODS)
def test_every_value_of_a_method_is_the_published_one(method):
    same(fixed(f"method={method}", "experiment=cifar10"), together(DARTS, PUBLISHED[method]))


@pytest.mark.parametrize("method", [name for name in METHODS if name not in NESTED])
def test_every_value_on_nasbench201_is_the_published_one(method):
    words = ("experiment=nasbench201", "data=cifar10", f"method={method}")
    same(fixed(*words), together(DARTS, PUBLISHED[method], BENCHMARK, NASBENCH201.get(method, {})))
    space = composed(*words)["space"]
    channels = 24 if method in ("gaea", "gaea_pc_darts") else 16
    assert (space["channels"], space["cells"], space["stages"], space["nodes"]) == (channels, 5, 3, 3)
    assert space["operations"] == ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]


@pytest.mark.parametrize("method", METHODS)
def test_a_strategy_is_handed_the_parts(method):
    settings = composed(f"method={method}", "experiment=cifar10")
    black_box = "black_box" in settings["strategy"]["_target_"]
    taken = [name for name in HANDED_ON if name in settings["strategy"]]
    assert taken == ((["optimizer"] if method in POLICIES else []) if black_box else list(HANDED_ON))
    for name in taken:
        assert settings["strategy"][name] == settings[HANDED_ON[name]]


@pytest.mark.parametrize("experiment", slow_but(["laptop"], ["digits", "laptop", "micro"]))
@pytest.mark.parametrize("method", METHODS)
def test_few_steps_are_faster_for_alphas_that_adam_moves_and_for_no_other(method, experiment):
    """The sizes are the experiment's, what a method is made of its own."""
    faster = {} if method.startswith("gaea") else {"optimizer.lr": 1e-2}
    expected = together(DARTS, PUBLISHED[method], faster, FEW_STEPS.get(method, {}))
    found = fixed(f"method={method}", f"experiment={experiment}")
    for key, value in expected.items():
        if key == "optimizer.lr":
            assert found[key] == value
        elif key == "chooser.excluded" and method != "fair_darts":
            assert found[key] == (value if experiment == "laptop" else [])
        elif not key.startswith("search."):
            assert found[key] == value, key
    sizes = {"search.epochs": 8 if experiment == "laptop" else 20, "search.warm_up": 1, "search.schedule.start": 0.05}
    sizes |= {"search.batch_size": None, "search.least_steps": 11}  # both follow from the images
    plain = {k: v for k, v in {**DARTS, **sizes}.items() if k.startswith("search.")}
    own = {k: v for k, v in PUBLISHED[method].items() if k in ("search.weight_decay", "search.drop_path")}
    if method not in ("r_darts_l2", "r_darts_dp"):
        own = {}
    same({k: v for k, v in found.items() if k.startswith("search.")}, {**plain, **own})


@pytest.mark.parametrize(
    ("space", "left"),
    [
        ("darts", ["none"]),
        ("darts_digits", ["none"]),
        ("darts_quick", ["none"]),
        ("darts_detection", ["none"]),
        ("s3", []),
        ("s4", []),
        ("micro", []),
    ],
)
def test_seven_operations_are_those_of_the_darts_space(space, left):
    """Elsewhere "none" is a candidate on purpose; whoever wants it back in the DARTS space can have it."""
    assert composed("method=drnas", f"space={space}")["chooser"]["excluded"] == left
    assert composed("method=drnas", f"space={space}", "candidates=full")["chooser"]["excluded"] == []
    assert composed("method=darts", f"space={space}")["chooser"]["excluded"] == []
    assert composed("method=fair_darts", f"space={space}")["chooser"]["excluded"] == ["none"]


OTHER_PARTS = {
    "architect=conjugate_gradient": {"iterations": 10, "damping": 0.1},
    "objective=dirichlet_anchor": {"dirichlet_anchor": {"_target_": "DirichletAnchor", "weight": 1e-3}},
    "objective=entropy": {"entropy": {"_target_": "Entropy", "weight": 1e-3}},
    "objective=expected_cost": {
        "expected_cost": {
            "_target_": "ExpectedCost",
            "weight": 1e-2,
            # of 16 channels, in thousands: weights of two (sep) or one (dil) depthwise and pointwise convolutions, or
            # of a whole one (nor)
            "costs": {
                **dict.fromkeys(("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"), 0.0),
                "sep_conv_3x3": 2 * (16 * 9 + 16 * 16) / 1000,
                "sep_conv_5x5": 2 * (16 * 25 + 16 * 16) / 1000,
                "dil_conv_3x3": (16 * 9 + 16 * 16) / 1000,
                "dil_conv_5x5": (16 * 25 + 16 * 16) / 1000,
                "nor_conv_1x1": 16 * 16 / 1000,
                "nor_conv_3x3": 16 * 16 * 9 / 1000,
            },
        }
    },
}


@pytest.mark.parametrize("word", OTHER_PARTS)
def test_parts_that_no_method_has(word):
    group = word.split("=")[0]
    found, expected = dict(leaves("", composed(word)[group])), dict(leaves("", OTHER_PARTS[word]))
    targets = {key: value for key, value in found.items() if not key.startswith("_")}
    same(
        {
            k: v.removeprefix("search.differentiable.objectives.") if isinstance(v, str) else v
            for k, v in targets.items()
        },
        expected,
    )
    if group == "architect":
        assert (found["_target_"], found["_partial_"]) == ("search.differentiable.architects.conjugate_gradient", True)


def test_other_choices_of_a_part():
    assert composed("relaxation=gumbel")["relaxation"]["start"] == 10.0
    gumbel = composed("relaxation=gumbel")["relaxation"]
    assert (gumbel["hard"], gumbel["start"], gumbel["end"]) == (False, 10.0, 0.1)
    assert composed("monitor=off")["monitor"]["every"] == 0
