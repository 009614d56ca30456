"""Hypergradients against closed forms, brute force and each other, in float64."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.search.differentiable.architects import (
    Bilevel,
    conjugate_gradient,
    first_order,
    neumann,
    unrolled,
    unrolled_exact,
)
from supernet.training.sgd import SgdStep

RATE, MOMENTUM, DECAY = 0.3, 0.9, 0.1


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


A, B, C, D = randn(5, 5, seed=1), randn(5, 3, seed=2), randn(4, 5, seed=3), randn(4, seed=4)
A = A @ A.T / 5
W, ALPHA, VELOCITY = randn(5, seed=5), randn(3, seed=6), randn(5, seed=7)
STEP = SgdStep(RATE, MOMENTUM, DECAY, velocity=[VELOCITY[:2], VELOCITY[2:]])


def stepping(problem: Bilevel, **changes) -> Bilevel:
    """The problem with another step of the weights."""
    return replace(problem, inner_step=replace(problem.inner_step, **changes))


def quadratic() -> Bilevel:
    """L_train = w'Aw/2 + w'B alpha + alpha . w[:3]^2 / 2 and L_valid = |Cw - d|^2/2 + |alpha|^2/2, w in two tensors."""
    alpha = ALPHA.clone().requires_grad_()

    def train_loss(inner):
        w = torch.cat(list(inner))
        return w @ A @ w / 2 + w @ B @ alpha + (alpha * w[:3] ** 2).sum() / 2

    def valid_loss(inner):
        w = torch.cat(list(inner))
        return ((C @ w - D) ** 2).sum() / 2 + (alpha**2).sum() / 2

    inner = [W[:2].clone().requires_grad_(), W[2:].clone().requires_grad_()]
    return Bilevel(inner, [alpha], train_loss, valid_loss, STEP)


def closed_form(momentum=MOMENTUM, decay=DECAY, sign=-1.0) -> torch.Tensor:
    """The hypergradient of the quadratic problem by hand: alpha + (dw'/dalpha)' C'(Cw' - d)."""
    wide = torch.cat([torch.diag(W[:3]), torch.zeros(2, 3, dtype=torch.float64)])  # of alpha . w[:3]^2 / 2
    slope = A @ W + B @ ALPHA + torch.cat([ALPHA * W[:3], torch.zeros(2, dtype=torch.float64)])
    virtual = W - RATE * (momentum * VELOCITY + slope + decay * W)
    return ALPHA + sign * RATE * (B + wide).T @ C.T @ (C @ virtual - D)


@pytest.mark.parametrize("epsilon", [0.0, -0.01, float("nan")])
def test_no_difference_over_no_step(epsilon):
    with pytest.raises(InputError, match=r"^epsilon="):
        unrolled(quadratic(), epsilon)


@pytest.mark.parametrize("architect", [unrolled, unrolled_exact])
def test_unrolled_equals_the_closed_form(architect):
    (gradient,) = architect(quadratic())
    torch.testing.assert_close(gradient, closed_form(), rtol=1e-9, atol=1e-11)
    looks_ahead = stepping(quadratic(), nesterov=True)  # a quadratic problem's differences are exact
    torch.testing.assert_close(architect(looks_ahead), unrolled_exact(looks_ahead), rtol=1e-9, atol=1e-11)
    assert (architect(looks_ahead)[0] - gradient).abs().max() > 0.01


@pytest.mark.parametrize("mistake", [{"momentum": 0.0}, {"decay": 0.0}, {"sign": 1.0}, {"sign": -1e-4}])
def test_the_closed_form_tells_the_known_mistakes_apart(mistake):
    """Forgotten momentum or decay, a wrong sign, and a second term multiplied by epsilon (-> 0) are all far away."""
    assert (closed_form(**mistake) - closed_form()).abs().max() > 0.01


def test_first_order_is_the_partial_gradient():
    (gradient,) = first_order(quadratic())
    torch.testing.assert_close(gradient, ALPHA)
    without_step = stepping(quadratic(), learning_rate=0.0)
    torch.testing.assert_close(unrolled(without_step)[0], gradient)


def test_first_step_has_no_velocity():
    zeros = [torch.zeros(2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]
    before = unrolled(stepping(quadratic(), velocity=None))
    torch.testing.assert_close(before, unrolled(stepping(quadratic(), velocity=zeros)))


@pytest.mark.parametrize("architect", [first_order, unrolled, unrolled_exact, neumann, conjugate_gradient])
def test_the_problem_is_left_as_it_was(architect):
    problem = quadratic()
    problem.inner[0].grad = torch.ones(2, dtype=torch.float64)
    architect(problem)
    assert torch.equal(torch.cat([w.detach() for w in problem.inner]), W)
    assert torch.equal(problem.outer[0].detach(), ALPHA)
    assert problem.inner[0].grad.tolist() == [1, 1]
    assert problem.inner[1].grad is None
    assert problem.outer[0].grad is None


@pytest.mark.parametrize("architect", [first_order, unrolled, unrolled_exact, neumann, conjugate_gradient])
def test_weights_that_stand_still_are_constants(architect):
    """As if they were no variables of the inner problem: no momentum or weight decay moves them either."""
    problem = quadratic()
    still, free = problem.inner
    still.requires_grad_(False)

    def without(loss):
        return lambda inner: loss([W[:2], inner[0]])

    alone = replace(
        problem,
        inner=[free],
        train_loss=without(problem.train_loss),
        valid_loss=without(problem.valid_loss),
        inner_step=replace(STEP, velocity=[VELOCITY[2:]]),
    )
    torch.testing.assert_close(architect(problem), architect(alone), rtol=1e-12, atol=1e-14)
    free.requires_grad_(False)
    torch.testing.assert_close(architect(problem), first_order(problem), rtol=0, atol=0)


def smooth(seed: int) -> tuple[Bilevel, torch.Tensor]:
    """A small softplus network whose two layers are scaled by softmax(alpha); train and validation batches differ."""
    alpha = randn(4, seed=seed).requires_grad_()
    inner = [(0.5 * randn(6, 4, seed=seed + 1)).requires_grad_(), (0.5 * randn(2, 6, seed=seed + 2)).requires_grad_()]
    data = [randn(8, 4, seed=seed + i) for i in (3, 4)]
    targets = [randn(8, 2, seed=seed + i) for i in (5, 6)]

    def loss(which):
        def value(weights):
            first, second = weights
            hidden = torch.nn.functional.softplus(data[which] * alpha.softmax(0) @ first.T)
            return ((hidden.tanh() @ second.T - targets[which]) ** 2).mean()

        return value

    velocity = [0.1 * randn(6, 4, seed=seed + 7), 0.1 * randn(2, 6, seed=seed + 8)]
    return Bilevel(inner, [alpha], loss(0), loss(1), SgdStep(RATE, MOMENTUM, DECAY, velocity=velocity)), alpha


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("seed", [10, 20, 30])
def test_exact_equals_brute_force(seed, started, nesterov):
    """Against central differences of alpha -> L_valid(w'(alpha), alpha), one alpha at a time; w' is torch's own."""
    problem, alpha = smooth(seed)
    velocity = problem.inner_step.velocity if started else None
    problem = stepping(problem, nesterov=nesterov, velocity=velocity)

    def outer_value() -> float:
        moved = [w.detach().clone() for w in problem.inner]
        for w, g in zip(moved, torch.autograd.grad(problem.train_loss(problem.inner), problem.inner), strict=True):
            w.grad = g
        sgd = torch.optim.SGD(moved, RATE, MOMENTUM, weight_decay=DECAY, nesterov=nesterov)
        for w, v in zip(moved, velocity or (), strict=False):
            sgd.state[w]["momentum_buffer"] = v.clone()
        sgd.step()
        return problem.valid_loss(moved).item()

    brute = torch.zeros_like(alpha)
    for i in range(len(alpha)):
        for sign in (1, -1):
            with torch.no_grad():
                alpha[i] += sign * 1e-5
            brute[i] += sign * outer_value() / 2e-5
            with torch.no_grad():
                alpha[i] -= sign * 1e-5
    torch.testing.assert_close(unrolled_exact(problem)[0], brute.detach(), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("seed", [10, 20, 30])
def test_finite_difference_approaches_exact_as_the_square_of_epsilon(seed):
    problem, _ = smooth(seed)
    exact = unrolled_exact(problem)[0]
    error = [(unrolled(problem, epsilon)[0] - exact).abs().max().item() for epsilon in (0.2, 0.02)]
    assert error[1] < 1e-5 * exact.abs().max()
    assert 50 < error[0] / error[1] < 200


def test_alphas_that_play_no_part_get_zeros():
    problem = quadratic()
    idle = torch.ones(2, dtype=torch.float64, requires_grad=True)
    for architect in (first_order, unrolled, unrolled_exact, neumann, conjugate_gradient):
        assert architect(replace(problem, outer=[*problem.outer, idle]))[1].tolist() == [0, 0]


def test_flat_validation_loss_has_no_second_term():
    problem = quadratic()
    flat = replace(problem, valid_loss=lambda inner: (problem.outer[0] ** 2).sum() / 2)
    for architect in (unrolled, neumann, conjugate_gradient):
        torch.testing.assert_close(architect(flat)[0], ALPHA)


@pytest.mark.parametrize("architect", [unrolled, unrolled_exact, neumann])
def test_unrolling_wants_sgd(architect):
    with pytest.raises(InputError, match="train the weights with SGD"):
        architect(replace(quadratic(), inner_step=None))


def test_two_sided_step_has_the_published_length():
    """w+ and w- lie epsilon from w, to either side along the validation gradient at the virtual weights."""
    problem, seen = quadratic(), []

    def train_loss(inner):
        seen.append(torch.cat([w.detach() for w in inner]))
        return problem.train_loss(inner)

    unrolled(replace(problem, train_loss=train_loss))
    here, plus, minus = seen
    assert torch.equal(here, W)
    torch.testing.assert_close((plus + minus) / 2, W)
    assert (plus - W).norm().item() == pytest.approx(0.01)


@pytest.mark.parametrize("architect", [unrolled, unrolled_exact, neumann, conjugate_gradient])
def test_training_loss_without_alphas_has_no_second_term(architect):
    problem = quadratic()
    for train_loss in (lambda inner: sum((w**2).sum() for w in inner), lambda inner: sum(w.sum() for w in inner)):
        torch.testing.assert_close(architect(replace(problem, train_loss=train_loss))[0], ALPHA)


def convex() -> Bilevel:
    """`quadratic` without the term in alpha . w^2: the Hessian is A, which with the decay is positive definite."""
    alpha = ALPHA.clone().requires_grad_()

    def train_loss(inner):
        w = torch.cat(list(inner))
        return w @ A @ w / 2 + w @ B @ alpha

    return replace(quadratic(), outer=[alpha], train_loss=train_loss, valid_loss=partial(valid_value, alpha))


def valid_value(alpha, inner):
    w = torch.cat(list(inner))
    return ((C @ w - D) ** 2).sum() / 2 + (alpha**2).sum() / 2


HESSIAN = A + DECAY * torch.eye(5, dtype=torch.float64)
SLOPE = C.T @ (C @ W - D)  # of the validation loss, at W
IMPLICIT = ALPHA - B.T @ torch.linalg.solve(HESSIAN, SLOPE)


@pytest.mark.parametrize("terms", [1, 2, 3, 7])
def test_neumann_equals_the_series_of_dense_matrices(terms):
    contraction = torch.eye(5, dtype=torch.float64) - RATE * HESSIAN
    series = sum(torch.linalg.matrix_power(contraction, k) for k in range(terms))
    (gradient,) = neumann(convex(), terms)
    torch.testing.assert_close(gradient, ALPHA - RATE * B.T @ series @ SLOPE, rtol=1e-12, atol=1e-12)


def test_neumann_and_conjugate_gradient_reach_the_implicit_gradient():
    """dw*/dalpha = -H^-1 B by the implicit function theorem; five unknowns take five iterations."""
    assert RATE * torch.linalg.eigvalsh(HESSIAN).max() < 2
    torch.testing.assert_close(neumann(convex(), 2000)[0], IMPLICIT, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(conjugate_gradient(convex(), 5, damping=0.0)[0], IMPLICIT, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(conjugate_gradient(convex(), 50, damping=0.0)[0], IMPLICIT, rtol=1e-9, atol=1e-10)
    damped = ALPHA - B.T @ torch.linalg.solve(HESSIAN + 0.5 * torch.eye(5, dtype=torch.float64), SLOPE)
    torch.testing.assert_close(conjugate_gradient(convex(), 5, damping=0.5)[0], damped, rtol=1e-9, atol=1e-10)


def test_implicit_gradient_is_the_slope_along_the_solutions():
    """At w*(alpha) it is the derivative of alpha -> L_valid(w*(alpha), alpha), by central differences."""

    def solution(alpha):
        return -torch.linalg.solve(HESSIAN, B @ alpha)

    at = solution(ALPHA)
    problem = replace(convex(), inner=[at[:2].requires_grad_(), at[2:].requires_grad_()])
    brute = torch.stack(
        [
            (valid_value(ALPHA + e, [solution(ALPHA + e)]) - valid_value(ALPHA - e, [solution(ALPHA - e)])) / 2e-5
            for e in 1e-5 * torch.eye(3, dtype=torch.float64)
        ]
    )
    torch.testing.assert_close(conjugate_gradient(problem, 5, damping=0.0)[0], brute, rtol=1e-7, atol=1e-8)


def test_known_mistakes_of_the_series_are_far_away():
    """A wrong sign, a forgotten weight decay, and the diagonal stand-in for the Hessian of the authors' code."""
    contraction = torch.eye(5, dtype=torch.float64) - RATE * HESSIAN
    right = neumann(convex(), 3)[0]

    def three(matrix):
        return ALPHA - RATE * B.T @ (SLOPE + matrix @ SLOPE + matrix @ matrix @ SLOPE)

    mistakes = {
        "sign": 2 * ALPHA - right,
        "decay": three(contraction + RATE * DECAY * torch.eye(5, dtype=torch.float64)),
        "diagonal": three(torch.diag(torch.diag(contraction))),
        "first order": ALPHA,
        "one term": neumann(convex(), 1)[0],
    }
    for name, wrong in mistakes.items():
        assert (wrong - right).abs().max() > 0.01, name


def test_neumann_of_one_term_is_the_unrolled_gradient_without_the_virtual_step():
    still = stepping(quadratic(), momentum=0.0, weight_decay=0.0, velocity=None)
    tiny = stepping(still, learning_rate=1e-7)
    first = [(unrolled_exact(tiny)[0] - ALPHA) / 1e-7, (neumann(tiny, 1)[0] - ALPHA) / 1e-7]
    torch.testing.assert_close(*first, rtol=1e-5, atol=1e-5)


def test_conjugate_gradient_stops_at_negative_curvature():
    """L_train = -|w|^2/2 + w'B alpha has no minimum: what is left is the validation gradient."""
    problem = convex()

    def train_loss(inner):
        w = torch.cat(list(inner))
        return -(w @ w) / 2 + w @ B @ problem.outer[0]

    (gradient,) = conjugate_gradient(replace(problem, train_loss=train_loss))
    torch.testing.assert_close(gradient, ALPHA - B.T @ SLOPE)


@pytest.mark.parametrize("architect", [partial(neumann, terms=0), partial(conjugate_gradient, iterations=0)])
def test_implicit_architects_refuse_nonsense(architect):
    with pytest.raises(InputError, match="1 or more"):
        architect(quadratic())


@pytest.mark.parametrize(
    ("architect", "expected"),
    [
        (first_order, ["valid"]),
        (unrolled, ["train", "valid", "train", "train"]),
        (unrolled_exact, ["train", "valid", "train twice"]),
        (neumann, ["valid", "train twice"]),
        (conjugate_gradient, ["valid", "train twice"]),
    ],
)
def test_what_is_differentiated_twice_is_built_within_the_context(architect, expected):
    inside, seen, problem = [], [], quadratic()

    @contextmanager
    def twice():
        inside.append(True)
        yield
        inside.pop()

    def watched(name, loss):
        return lambda inner: (seen.append(name + " twice" * bool(inside)), loss(inner))[1]

    losses = {f"{name}_loss": watched(name, getattr(problem, f"{name}_loss")) for name in ("train", "valid")}
    architect(replace(problem, twice=twice, **losses))
    assert seen == expected
