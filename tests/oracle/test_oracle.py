"""Every optimizer of the package against a naive transcription of the paper, weight by weight, step by step.

Weights w agree with the oracle's v when |w − v| ≤ 1e-10 (1 + |v|), after every one of the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lookbehind
from tests.oracle import algorithms as paper

STEPS = 22
K = 3


@dataclass
class Problem:
    """One model twice: by hand in NumPy, and by autograd in torch, with the same weights and minibatches."""

    numpy: Any
    start: paper.Weights
    minibatches: list[Any]
    torch_loss: Callable[[list[Tensor], Any], Tensor]
    names: tuple[str, ...]


def _quadratic(rng: np.random.Generator) -> Problem:
    shapes = [(3, 2), (4,)]
    minibatches = []
    for _ in range(8):
        root = rng.normal(size=(10, 10)) / 3
        minibatches.append((root @ root.T + 0.1 * np.eye(10), rng.normal(size=10)))

    def loss(w: list[Tensor], d: Any) -> Tensor:
        (a, b), x = (torch.as_tensor(v) for v in d), torch.cat([t.flatten() for t in w])
        return 0.5 * x @ a @ x - b @ x

    start = [rng.normal(size=s) for s in shapes]
    return Problem(paper.Quadratic(shapes), start, minibatches, loss, ("weight", "bias"))


def _classification(rng: np.random.Generator) -> list[Any]:
    return [(rng.normal(size=(12, 5)), rng.integers(0, 4, size=12)) for _ in range(8)]


def _logistic(rng: np.random.Generator) -> Problem:
    def loss(w: list[Tensor], d: Any) -> Tensor:
        x, y = torch.as_tensor(d[0]), torch.as_tensor(d[1])
        return torch.nn.functional.cross_entropy(x @ w[0].T + w[1], y)

    start = [rng.normal(size=(4, 5)), rng.normal(size=4)]
    return Problem(paper.Logistic(), start, _classification(rng), loss, ("weight", "bias"))


def _tanh_net(rng: np.random.Generator) -> Problem:
    def loss(w: list[Tensor], d: Any) -> Tensor:
        x, y = torch.as_tensor(d[0]), torch.as_tensor(d[1])
        return torch.nn.functional.cross_entropy(torch.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3], y)

    start = [0.7 * rng.normal(size=s) for s in ((6, 5), (6,), (4, 6), (4,))]
    return Problem(paper.TanhNet(), start, _classification(rng), loss, ("1.weight", "1.bias", "2.weight", "2.bias"))


PROBLEMS = {"quadratic": _quadratic, "logistic": _logistic, "tanh net": _tanh_net}

# name: (by hand, torch), with the same numbers
BASES: dict[str, tuple[Callable[[], paper.Base], Callable[[Any], torch.optim.Optimizer]]] = {
    "plain": (lambda: paper.SGD(0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "momentum": (lambda: paper.SGD(0.05, momentum=0.8), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8)),
    "decay": (
        lambda: paper.SGD(0.05, momentum=0.8, dampening=0.3, weight_decay=0.02),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, dampening=0.3, weight_decay=0.02),
    ),
    "nesterov": (
        lambda: paper.SGD(0.05, momentum=0.8, weight_decay=0.02, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, weight_decay=0.02, nesterov=True),
    ),
    "adam": (lambda: paper.Adam(0.02, 0.01), lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.01)),
    "adamw": (lambda: paper.Adam(0.02, 0.1, decoupled=True), lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1)),
}

# name: (by hand from rho, torch from the names of the parameters)
RULES: dict[str, tuple[Callable[[float, Problem], Any], Callable[[Any], Any]]] = {
    "sam": (lambda rho, _: paper.Euclidean(rho), lambda _: "sam"),
    "asam": (lambda rho, _: paper.Adaptive(rho, 0.01), lambda _: "asam"),
    "asam of eq. 4": (lambda rho, _: paper.Adaptive(rho, 0.0), lambda _: lookbehind.Adaptive(eta=0.0)),
    "asam on weights": (
        lambda rho, problem: paper.Adaptive(rho, 0.2, ["weight" in name for name in problem.names]),
        lambda named: lookbehind.Adaptive(eta=0.2, named_parameters=named),
    ),
}

RHO = 0.15


@dataclass(frozen=True)
class Algorithm:
    """An algorithm by hand (gradient, base, epsilon) and in torch (base, perturbation), and its gradients a step."""

    by_hand: Callable[[paper.Gradient, paper.Base, Any], Any]
    torch: Callable[[torch.optim.Optimizer, Any], torch.optim.Optimizer]
    calls: int


ALGORITHMS = {
    "SAM": Algorithm(paper.SAM, lambda base, p: lookbehind.SAM(base, rho=RHO, perturbation=p), 2),
    "Multistep": Algorithm(
        lambda g, base, e: paper.Multistep(g, base, e, K, mean=False),
        lambda base, p: lookbehind.MultistepSAM(base, rho=RHO, k=K, perturbation=p),
        K + 1,
    ),
    "Multistep, mean": Algorithm(
        lambda g, base, e: paper.Multistep(g, base, e, K, mean=True),
        lambda base, p: lookbehind.MultistepSAM(base, rho=RHO, k=K, gradient="mean", perturbation=p),
        K + 1,
    ),
    "Lookahead-SAM": Algorithm(
        lambda g, base, e: paper.Lookahead(paper.SAM(g, base, e), 4, 0.7),
        lambda base, p: lookbehind.Lookahead(lookbehind.SAM(base, rho=RHO, perturbation=p), k=4, alpha=0.7),
        2,
    ),
    "Lookbehind": Algorithm(
        lambda g, base, e: paper.Lookbehind(g, base, e, K, 0.7),
        lambda base, p: lookbehind.Lookbehind(base, rho=RHO, k=K, alpha=0.7, perturbation=p),
        K + 1,
    ),
    "Lookbehind, adaptive": Algorithm(
        lambda g, base, e: paper.Lookbehind(g, base, e, K, "adaptive"),
        lambda base, p: lookbehind.Lookbehind(base, rho=RHO, k=K, alpha="adaptive", perturbation=p),
        K + 1,
    ),
    "Lookbehind, adaptive per tensor": Algorithm(
        lambda g, base, e: paper.Lookbehind(g, base, e, K, "adaptive_per_tensor"),
        lambda base, p: lookbehind.Lookbehind(base, rho=RHO, k=K, alpha="adaptive_per_tensor", perturbation=p),
        K + 1,
    ),
}


class Torch:
    """The torch side of a problem: parameters, and a closure that counts its calls."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.parameters = [torch.nn.Parameter(torch.tensor(w)) for w in problem.start]
        self.named = list(zip(problem.names, self.parameters, strict=True))
        self.calls = 0

    def closure(self, d: Any) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            self.calls += 1
            for p in self.parameters:
                p.grad = None
            loss = self.problem.torch_loss(self.parameters, d)
            loss.backward()
            return loss

        return closure

    def assert_at(self, phi: paper.Weights, when: str) -> None:
        for p, w in zip(self.parameters, phi, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-10, atol=1e-10, err_msg=when)


def _check(problem: Problem, algorithm: Algorithm, base: str, rule: str) -> None:
    by_hand_base, torch_base = BASES[base]
    by_hand_rule, torch_rule = RULES[rule]
    ours = Torch(problem)
    optimizer: Any = algorithm.torch(torch_base(ours.parameters), torch_rule(ours.named))
    oracle = algorithm.by_hand(problem.numpy.gradient, by_hand_base(), by_hand_rule(RHO, problem))
    phi = problem.start
    for t in range(STEPS):
        d = problem.minibatches[t % len(problem.minibatches)]
        ours.calls = 0
        loss = optimizer.step(ours.closure(d))
        np.testing.assert_allclose(loss.item(), problem.numpy.loss(phi, d), rtol=1e-10, atol=1e-12)
        assert ours.calls == algorithm.calls
        phi = oracle.step(phi, d)
        ours.assert_at(phi, f"after step {t + 1}")
        if isinstance(oracle, paper.Lookahead):
            with optimizer.slow_weights():
                ours.assert_at(oracle.slow, f"slow weights after step {t + 1}")
        if isinstance(oracle, paper.Lookbehind) and isinstance(oracle.alpha, str):
            _check_alpha_star(optimizer.alpha_star, oracle)


def _check_alpha_star(alpha_star: Tensor | None, oracle: paper.Lookbehind) -> None:
    assert alpha_star is not None
    expected = oracle.alpha_star if oracle.alpha == "adaptive_per_tensor" else oracle.alpha_star[0]
    assert alpha_star.shape == np.shape(expected)
    np.testing.assert_allclose(alpha_star.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_on_the_tanh_net(algorithm: str, base: str, rule: str) -> None:
    _check(_tanh_net(np.random.default_rng(0)), ALGORITHMS[algorithm], base, rule)


@pytest.mark.parametrize("rule", ["sam", "asam"])
@pytest.mark.parametrize("base", ["momentum", "adam"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("problem", ["quadratic", "logistic"])
def test_on_simpler_models(problem: str, algorithm: str, base: str, rule: str) -> None:
    _check(PROBLEMS[problem](np.random.default_rng(1)), ALGORITHMS[algorithm], base, rule)


@pytest.mark.parametrize("base", BASES)
def test_lookahead_around_a_plain_optimizer(base: str) -> None:
    algorithm = Algorithm(
        lambda g, b, _: paper.Lookahead(paper.Plain(g, b), 4, 0.7),
        lambda b, _: lookbehind.Lookahead(b, k=4, alpha=0.7),
        calls=1,
    )
    _check(_tanh_net(np.random.default_rng(2)), algorithm, base, "sam")


@pytest.mark.parametrize("alpha", [0.7, "adaptive", "adaptive_per_tensor"])
@pytest.mark.parametrize("rule", ["sam", "asam"])
@pytest.mark.parametrize("base", BASES)
def test_switching_minibatches(base: str, rule: str, alpha: float | str) -> None:
    problem = _tanh_net(np.random.default_rng(3))
    ours = Torch(problem)
    optimizer = lookbehind.Lookbehind(
        BASES[base][1](ours.parameters), rho=RHO, k=K, alpha=alpha, perturbation=RULES[rule][1](ours.named)
    )
    oracle = paper.Lookbehind(problem.numpy.gradient, BASES[base][0](), RULES[rule][0](RHO, problem), K, alpha)
    phi = problem.start
    for t in range(STEPS):
        batches = [problem.minibatches[(t + i) % 8] for i in range(K)]
        ours.calls = 0
        loss = optimizer.step([ours.closure(d) for d in batches])
        np.testing.assert_allclose(loss.item(), problem.numpy.loss(phi, batches[0]), rtol=1e-10)
        assert ours.calls == 2 * K
        phi = oracle.step(phi, batches, switching=True)
        ours.assert_at(phi, f"after step {t + 1}")
        if isinstance(alpha, str):
            _check_alpha_star(optimizer.alpha_star, oracle)


GROUP_RHO, GROUP_ALPHA = [0.3, 0.05], [0.4, 0.9]
EACH_ALPHA = [0.4, 0.4, 0.9, 0.9]  # the same for each tensor: W₁ and b₁ are one group, W₂ and b₂ the other

# The torch side reads rho and alpha from the base's groups.
IN_GROUPS = {
    "SAM": Algorithm(paper.SAM, lambda base, p: lookbehind.SAM(base, perturbation=p), 2),
    "Multistep": Algorithm(
        lambda g, base, e: paper.Multistep(g, base, e, K, mean=False),
        lambda base, p: lookbehind.MultistepSAM(base, k=K, perturbation=p),
        K + 1,
    ),
    "Lookahead-SAM": Algorithm(
        lambda g, base, e: paper.Lookahead(paper.SAM(g, base, e), 4, EACH_ALPHA),
        lambda base, p: lookbehind.Lookahead(lookbehind.SAM(base, perturbation=p), k=4),
        2,
    ),
    "Lookbehind": Algorithm(
        lambda g, base, e: paper.Lookbehind(g, base, e, K, EACH_ALPHA),
        lambda base, p: lookbehind.Lookbehind(base, k=K, perturbation=p),
        K + 1,
    ),
    "Lookbehind, adaptive": Algorithm(
        lambda g, base, e: paper.Lookbehind(g, base, e, K, "adaptive"),
        lambda base, p: lookbehind.Lookbehind(base, k=K, alpha="adaptive", perturbation=p),
        K + 1,
    ),
}


@pytest.mark.parametrize("rule", ["sam", "asam"])
@pytest.mark.parametrize("algorithm", IN_GROUPS)
def test_rho_and_alpha_for_each_group(algorithm: str, rule: str) -> None:
    in_groups = IN_GROUPS[algorithm]

    def make(base: torch.optim.Optimizer, p: Any) -> torch.optim.Optimizer:
        parameters = base.param_groups[0]["params"]
        groups: list[dict[str, Any]] = [{"params": parameters[:2]}, {"params": parameters[2:]}]
        for group, rho, alpha in zip(groups, GROUP_RHO, GROUP_ALPHA, strict=True):
            group["rho"] = rho
            if "adaptive" not in algorithm:
                group["alpha"] = alpha
        return in_groups.torch(torch.optim.SGD(groups, lr=0.05, momentum=0.8), p)

    def by_hand(g: paper.Gradient, base: paper.Base, epsilon: Any) -> Any:
        epsilon.rho = [rho for rho in GROUP_RHO for _ in range(2)]
        return in_groups.by_hand(g, base, epsilon)

    _check(_tanh_net(np.random.default_rng(4)), Algorithm(by_hand, make, in_groups.calls), "momentum", rule)


@pytest.mark.parametrize("rule", ["sam", "asam"])
@pytest.mark.parametrize("k", [2, 5])
def test_staying_within_rho(k: int, rule: str) -> None:
    """Appendix A.2.3: ascents of rho / k and no interpolation, with the arguments that there are."""

    def by_hand(g: paper.Gradient, base: paper.Base, epsilon: Any) -> paper.Lookbehind:
        epsilon.rho = RHO / k
        return paper.Lookbehind(g, base, epsilon, k, 1.0)

    algorithm = Algorithm(
        by_hand, lambda base, p: lookbehind.Lookbehind(base, rho=RHO / k, k=k, alpha=1.0, perturbation=p), k + 1
    )
    _check(_tanh_net(np.random.default_rng(5)), algorithm, "momentum", rule)


# --- the oracle by itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
def test_gradients_by_hand_against_finite_differences(problem: Callable[..., Problem]) -> None:
    p = problem(np.random.default_rng(6))
    phi, d, h = p.start, p.minibatches[0], 1e-6
    for tensor, g in zip(phi, p.numpy.gradient(phi, d), strict=True):
        for index in np.ndindex(tensor.shape):
            kept = tensor[index]
            tensor[index] = kept + h
            up = p.numpy.loss(phi, d)
            tensor[index] = kept - h
            down = p.numpy.loss(phi, d)
            tensor[index] = kept
            np.testing.assert_allclose(g[index], (up - down) / (2 * h), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.7, "adaptive"])
@pytest.mark.parametrize("base", BASES)
def test_2k_gradients_and_k_plus_1_give_the_same_weights(base: str, alpha: float | str) -> None:
    p = _tanh_net(np.random.default_rng(7))
    make = BASES[base][0]
    literal = paper.Lookbehind(p.numpy.gradient, make(), paper.Adaptive(0.3, 0.01), K, alpha)
    cheap = paper.CheapLookbehind(p.numpy.gradient, make(), paper.Adaptive(0.3, 0.01), K, alpha)
    a = b = p.start
    for t in range(STEPS):
        a, b = literal.step(a, p.minibatches[t % 8]), cheap.step(b, p.minibatches[t % 8])
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _step_both(start: list[float], rule: str, k: int, alpha: float | str) -> tuple[list[float], paper.Lookbehind, Any]:
    """Step once on L = ½ ‖x‖² (the gradient is x) with eta = 0.1, rho = 0.5; check torch against the oracle."""
    d = (np.eye(len(start)), np.zeros(len(start)))
    epsilon = paper.Euclidean(0.5) if rule == "sam" else paper.Adaptive(0.5, 0.0)
    oracle = paper.Lookbehind(paper.Quadratic([(len(start),)]).gradient, paper.SGD(0.1), epsilon, k, alpha)
    (phi,) = oracle.step([np.array(start)], d)

    p = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    perturbation: Any = "sam" if rule == "sam" else lookbehind.Adaptive(eta=0.0)
    optimizer = lookbehind.Lookbehind(
        torch.optim.SGD([p], lr=0.1), rho=0.5, k=k, alpha=alpha, perturbation=perturbation
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * p.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(p.detach().numpy(), phi, rtol=1e-14)
    return phi.tolist(), oracle, optimizer


def test_lookbehind_in_one_dimension_by_hand() -> None:
    """Ascents 1 → 1.5 → 2; fast weights 1 → 0.85 → 0.65; slow weight 1 + 0.5 · (0.65 − 1) = 0.825."""
    phi, _, _ = _step_both([1.0], "sam", 2, 0.5)
    np.testing.assert_allclose(phi, [0.825], rtol=1e-14)


def test_lookbehind_asam_in_one_dimension_by_hand() -> None:
    """In one dimension eq. 4 is rho |x| sign(g), with the x that has climbed already.

    Ascents 2 → 2 + 0.5 · 2 = 3 → 3 + 0.5 · 3 = 4.5; fast weights 2 → 1.7 → 1.25; slow weight 2 + 0.5 · (1.25 − 2).
    """
    phi, _, _ = _step_both([2.0], "asam", 2, 0.5)
    np.testing.assert_allclose(phi, [1.625], rtol=1e-14)


def test_adaptive_alpha_by_hand() -> None:
    """ASAM turns the gradients of ½ ‖x‖², so that alpha* is not 1.

    At (1, 2): T²g = (1, 8), ‖T g‖ = √17; a = (1 + ½/√17, 2 + 4/√17) is φ'_1 and b likewise from a is φ'_2. The
    displacements are −0.1 a and −0.1 (a + b), and eq. 7 is the cosine of a and a + b.
    """
    a = np.array([1 + 0.5 / np.sqrt(17), 2 + 4 / np.sqrt(17)])
    b = a + 0.5 * a**3 / np.sqrt((a**4).sum())
    alpha = (a @ (a + b) / np.sqrt((a @ a) * ((a + b) @ (a + b))) + 1) / 2
    assert alpha < 1 - 1e-4
    phi, oracle, optimizer = _step_both([1.0, 2.0], "asam", 2, "adaptive")
    np.testing.assert_allclose(phi, np.array([1.0, 2.0]) - alpha * 0.1 * (a + b), rtol=1e-14)
    np.testing.assert_allclose([oracle.alpha_star[0], optimizer.alpha_star.item()], alpha, rtol=1e-14)
