"""What must hold whatever the numbers. Hypothesis draws the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lookbehind import SAM, Adaptive, Lookahead, Lookbehind, MultistepSAM

settings.register_profile("laws", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("laws")

seeds = st.integers(0, 2**31)
rhos = st.floats(1e-3, 1.0)
alphas = st.floats(0.05, 1.0)
ks = st.integers(1, 5)
rates = st.floats(1e-3, 0.2)
momenta = st.sampled_from([0.0, 0.9])
rules = st.sampled_from(["sam", "asam"])


class Task:
    """A small net in float64, and its loss on one of a few minibatches."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.parameters = [nn.Parameter(normal(*s)) for s in ((5, 3), (5,), (2, 5), (2,))]
        self.inputs, self.targets = normal(4, 6, 3), normal(4, 6, 2)

    def loss(self, i: int) -> Tensor:
        w, b, v, c = self.parameters
        return (torch.tanh(self.inputs[i % 4] @ w.T + b) @ v.T + c - self.targets[i % 4]).square().mean()

    def closure(self, i: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            for p in self.parameters:
                p.grad = None
            loss = self.loss(i)
            loss.backward()
            return loss

        return closure


def in_a_row(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def trajectory(seed: int, make: Callable[[list[nn.Parameter]], Optimizer]) -> list[Tensor]:
    """Return all weights in a row after each of six steps."""
    task = Task(seed)
    optimizer: Any = make(task.parameters)
    path = []
    for i in range(6):
        optimizer.step(task.closure(i))
        path.append(in_a_row(task.parameters))
    return path


def assert_same(a: Iterable[Tensor], b: Iterable[Tensor], tolerance: float = 1e-9) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@given(seeds, rhos, rates, momenta, rules)
def test_lookbehind_with_k_1_and_alpha_1_is_sam(seed: int, rho: float, lr: float, momentum: float, rule: str) -> None:
    sam = trajectory(seed, lambda p: SAM(SGD(p, lr, momentum), rho, perturbation=rule))
    assert_same(trajectory(seed, lambda p: Lookbehind(SGD(p, lr, momentum), rho, 1, 1.0, perturbation=rule)), sam, 0)
    adaptive = trajectory(seed, lambda p: Lookbehind(SGD(p, lr, momentum), rho, 1, "adaptive", perturbation=rule))
    assert_same(adaptive, sam)


@given(seeds, rhos, rates, momenta, rules, st.sampled_from(["last", "mean"]))
def test_multistep_with_k_1_is_sam(seed: int, rho: float, lr: float, momentum: float, rule: str, gather: str) -> None:
    sam = trajectory(seed, lambda p: SAM(SGD(p, lr, momentum), rho, perturbation=rule))
    assert_same(
        trajectory(seed, lambda p: MultistepSAM(SGD(p, lr, momentum), rho, 1, gather, perturbation=rule)), sam, 0
    )


@given(seeds, rates, momenta, ks, rules)
def test_rho_0_is_the_base(seed: int, lr: float, momentum: float, k: int, rule: str) -> None:
    base = trajectory(seed, lambda p: SGD(p, lr, momentum, weight_decay=0.01))

    def around(make: Callable[..., Optimizer], *arguments: Any) -> list[Tensor]:
        return trajectory(
            seed, lambda p: make(SGD(p, lr, momentum, weight_decay=0.01), 0.0, *arguments, perturbation=rule)
        )

    assert_same(around(SAM), base, 0)
    assert_same(around(MultistepSAM, k), base, 0)
    assert_same(around(Lookbehind, 1, 1.0), base, 0)


@given(seeds, rates, momenta, ks, rules)
def test_lookbehind_with_rho_0_and_alpha_1_is_k_base_steps_along_one_gradient(
    seed: int, lr: float, momentum: float, k: int, rule: str
) -> None:
    """φ' stays at the slow weights, and so does the gradient; momentum and decay see the k fast weights."""

    def base(p: list[nn.Parameter]) -> SGD:
        return SGD(p, lr, momentum, weight_decay=0.01)

    lookbehind = trajectory(seed, lambda p: Lookbehind(base(p), 0.0, k, 1.0, perturbation=rule))
    task, path = Task(seed), []
    plain = base(task.parameters)
    for i in range(6):
        task.closure(i)()  # leaves the gradient at the slow weights for all k steps
        for _ in range(k):
            plain.step()
        path.append(in_a_row(task.parameters))
    assert_same(lookbehind, path, 1e-12)
    if momentum == 0.0:
        assert_same(
            trajectory(seed, lambda p: Lookbehind(SGD(p, lr), 0.0, k, 1.0)), trajectory(seed, lambda p: SGD(p, k * lr))
        )


@given(seeds, rhos, rates, ks, alphas, rules)
def test_lookbehind_is_mean_multistep_at_rate_alpha_k_eta(
    seed: int, rho: float, lr: float, k: int, alpha: float, rule: str
) -> None:
    """Without momentum and decay: that much of Lookbehind is a larger step (section 7 of the paper has α = 1/k)."""
    lookbehind = trajectory(seed, lambda p: Lookbehind(SGD(p, lr), rho, k, alpha, perturbation=rule))
    multistep = trajectory(seed, lambda p: MultistepSAM(SGD(p, alpha * k * lr), rho, k, "mean", perturbation=rule))
    assert_same(lookbehind, multistep)


@given(seeds, rhos, rates, st.integers(2, 5), st.sampled_from(["adaptive", "adaptive_per_tensor"]))
def test_alpha_star_is_in_the_unit_interval(seed: int, rho: float, lr: float, k: int, alpha: str) -> None:
    task = Task(seed)
    optimizer = Lookbehind(SGD(task.parameters, lr, 0.9), rho, k, alpha)
    for i in range(6):
        optimizer.step(task.closure(i))
        assert optimizer.alpha_star is not None
        assert ((optimizer.alpha_star >= 0) & (optimizer.alpha_star <= 1)).all()
        assert optimizer.alpha_star.shape == (() if alpha == "adaptive" else (4,))


@given(seeds, rhos, rates, rules, st.sampled_from(["adaptive", "adaptive_per_tensor"]))
def test_alpha_star_is_1_for_k_1(seed: int, rho: float, lr: float, rule: str, alpha: str) -> None:
    task = Task(seed)
    optimizer = Lookbehind(SGD(task.parameters, lr, 0.9), rho, 1, alpha, perturbation=rule)
    for i in range(6):
        optimizer.step(task.closure(i))
        assert optimizer.alpha_star is not None
        torch.testing.assert_close(optimizer.alpha_star, torch.ones_like(optimizer.alpha_star), rtol=1e-12, atol=0)


def _observe(optimizer: Any, parameters: list[nn.Parameter], closure: Callable[[], Tensor]) -> list[list[Tensor]]:
    """Return the weights at each evaluation of one step."""
    seen: list[list[Tensor]] = []

    def watching() -> Tensor:
        seen.append([p.detach().clone() for p in parameters])
        return closure()

    optimizer.step(watching)
    return seen


@given(seeds, rhos)
def test_the_perturbation_is_rho_long(seed: int, rho: float) -> None:
    task = Task(seed)
    before, after = _observe(SAM(SGD(task.parameters, 0.1), rho), task.parameters, task.closure(0))
    epsilon = in_a_row(b - a for a, b in zip(before, after, strict=True))
    torch.testing.assert_close(epsilon.norm().item(), rho, rtol=1e-9, atol=0)


@given(seeds, rhos, st.floats(1e-3, 0.5))
def test_asam_s_perturbation_is_rho_long_relative_to_the_weights(seed: int, rho: float, eta: float) -> None:
    task = Task(seed)
    optimizer = SAM(SGD(task.parameters, 0.1), rho, perturbation=Adaptive(eta=eta))
    before, after = _observe(optimizer, task.parameters, task.closure(0))
    relative = in_a_row((b - a) / (a.abs() + eta) for a, b in zip(before, after, strict=True))
    torch.testing.assert_close(relative.norm().item(), rho, rtol=1e-9, atol=0)


@given(seeds, rhos, ks)
def test_no_projection(seed: int, rho: float, k: int) -> None:
    """On a linear loss all gradients agree: the i-th point is i·ρ away, and α* is 1 (end of section 6.1)."""
    generator = torch.Generator().manual_seed(seed)
    p = nn.Parameter(torch.randn(7, generator=generator, dtype=torch.float64))
    slope = torch.randn(7, generator=generator, dtype=torch.float64)

    def closure() -> Tensor:
        p.grad = slope.clone()
        return (p * slope).sum().detach()

    optimizers = (MultistepSAM(SGD([p], 0.1), rho, k), Lookbehind(SGD([p], 0.1), rho, k, "adaptive"))
    for optimizer in optimizers:
        seen = _observe(optimizer, [p], closure)
        distances = torch.stack([(w[0] - seen[0][0]).norm() for w in seen])
        torch.testing.assert_close(distances, rho * torch.arange(k + 1, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(optimizers[1].alpha_star.item(), 1.0, rtol=1e-12, atol=0)


@given(seeds, rhos, st.floats(1e-3, 1e3))
def test_scaling_the_loss_leaves_the_perturbation(seed: int, rho: float, c: float) -> None:
    for rule in ("sam", "asam"):
        paths = []
        for factor in (1.0, c):
            task = Task(seed)
            closure = task.closure(0)

            def scaled() -> Tensor:
                loss = closure()  # noqa: B023 -- used within this pass of the loop only
                for p in task.parameters:  # noqa: B023
                    assert p.grad is not None
                    p.grad.mul_(factor)  # noqa: B023
                return loss

            optimizer = MultistepSAM(SGD(task.parameters, 0.0), rho, 3, perturbation=rule)
            paths.append([w for weights in _observe(optimizer, task.parameters, scaled) for w in weights])
        assert_same(*paths)


def _losses_of_a_relu_net(seed: int, factor: float, rho: float, perturbation: Any) -> list[float]:
    """Return the losses at φ, φ'_1, φ'_2, φ'_3 of a net with its layers scaled by `factor` and 1 / `factor`."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    v = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    x = torch.randn(10, 3, generator=generator, dtype=torch.float64)
    first, second = nn.Parameter(factor * w), nn.Parameter(v / factor)
    losses = []

    def closure() -> Tensor:
        first.grad = second.grad = None
        loss = (torch.relu(x @ first.T) @ second.T).square().mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    MultistepSAM(SGD([first, second], 0.1), rho, k=3, perturbation=perturbation).step(closure)
    return losses


@given(seeds, st.floats(0.1, 10.0), rhos)
def test_asam_does_not_see_a_rescaling_of_layers(seed: int, c: float, rho: float) -> None:
    """The scaled net is the same function, and so is each perturbed one: eq. 4 is relative to the current weights."""
    losses = _losses_of_a_relu_net(seed, 1.0, rho, Adaptive(eta=0.0))
    scaled = _losses_of_a_relu_net(seed, c, rho, Adaptive(eta=0.0))
    torch.testing.assert_close(losses, scaled, rtol=1e-8, atol=1e-10)


def test_sam_sees_a_rescaling_of_layers() -> None:
    """The control: without eq. 4, the law above does not hold."""
    losses, scaled = (_losses_of_a_relu_net(0, factor, 0.5, "sam") for factor in (1.0, 3.0))
    assert abs(losses[0] - scaled[0]) < 1e-10 * losses[0]
    assert abs(losses[1] - scaled[1]) > 1e-2 * losses[1]


@given(seeds, rhos, ks, alphas, rules, st.permutations([0, 1, 2, 3]), st.integers(1, 3))
def test_order_and_grouping_of_parameters_do_not_matter(
    seed: int, rho: float, k: int, alpha: float, rule: str, order: list[int], cut: int
) -> None:
    plain = trajectory(seed, lambda p: Lookbehind(SGD(p, 0.05, 0.9), rho, k, alpha, perturbation=rule))

    def shuffled(p: list[nn.Parameter]) -> Optimizer:
        p = [p[i] for i in order]
        groups = [{"params": p[:cut]}, {"params": p[cut:]}]
        return Lookbehind(SGD(groups, 0.05, 0.9), rho, k, alpha, perturbation=rule)

    assert_same(plain, trajectory(seed, shuffled))


@given(seeds, rhos, ks, alphas)
def test_rotating_the_space_rotates_the_path(seed: int, rho: float, k: int, alpha: float) -> None:
    """With plain SGD, the Euclidean rule knows no axes."""
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64) / 3
    start = torch.randn(6, generator=generator, dtype=torch.float64)

    def path(turn: Tensor) -> list[Tensor]:
        p = nn.Parameter(turn @ start)

        def closure() -> Tensor:
            p.grad = None
            x = turn.T @ p
            loss = (root @ x).square().sum() + (x**4).sum() / 50
            loss.backward()
            return loss

        optimizer = Lookbehind(SGD([p], 0.01), rho, k, alpha)
        points = []
        for _ in range(5):
            optimizer.step(closure)
            points.append(turn.T @ p.detach())
        return points

    assert_same(path(torch.eye(6, dtype=torch.float64)), path(rotation), 1e-7)


@given(seeds, rates, momenta, ks)
def test_lookahead_with_alpha_1_is_the_base(seed: int, lr: float, momentum: float, k: int) -> None:
    base = trajectory(seed, lambda p: SGD(p, lr, momentum))
    assert_same(trajectory(seed, lambda p: Lookahead(SGD(p, lr, momentum), k, 1.0)), base, 0)


@given(seeds, rates, alphas)
def test_lookahead_with_k_1_is_a_smaller_rate(seed: int, lr: float, alpha: float) -> None:
    lookahead = trajectory(seed, lambda p: Lookahead(SGD(p, lr), 1, alpha))
    assert_same(lookahead, trajectory(seed, lambda p: SGD(p, alpha * lr)))


@given(seeds, rhos, rates, momenta, alphas)
def test_lookahead_with_k_1_interpolates_at_each_step(
    seed: int, rho: float, lr: float, momentum: float, alpha: float
) -> None:
    """Whatever the base moves to, the weights go the fraction α of the way, and the base's state is kept."""
    task, path = Task(seed), []
    sam = SAM(SGD(task.parameters, lr, momentum), rho)
    for i in range(6):
        before = [p.detach().clone() for p in task.parameters]
        sam.step(task.closure(i))
        with torch.no_grad():
            for p, w in zip(task.parameters, before, strict=True):
                p.copy_(w + alpha * (p - w))
        path.append(in_a_row(task.parameters))
    lookahead = trajectory(seed, lambda p: Lookahead(SAM(SGD(p, lr, momentum), rho), 1, alpha))
    assert_same(lookahead, path)


@given(seeds, rhos, ks, alphas)
def test_switching_to_the_same_minibatch_is_not_switching(seed: int, rho: float, k: int, alpha: float) -> None:
    a, b = Task(seed), Task(seed)
    one, many = (Lookbehind(SGD(t.parameters, 0.05, 0.9), rho, k, alpha) for t in (a, b))
    for i in range(4):
        one.step(a.closure(i))
        many.step([b.closure(i)] * k)
        assert_same([p.detach() for p in a.parameters], [p.detach() for p in b.parameters], 0)
