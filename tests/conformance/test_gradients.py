"""Gradients of every kind: none, zero, frozen, shared, half precision, complex, sparse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lookbehind import SAM, Adaptive, Lookbehind, MultistepSAM
from lookbehind.optim import norm
from tests.conformance.rows import Row, Task, every_row, same


@every_row
def test_zero_gradient_perturbs_nothing_and_gives_no_nan(row: Row, elsewhere: bool) -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = row.make(torch.optim.SGD([p], lr=0.1))
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(p.detach().clone())
        p.grad = torch.zeros_like(p)
        return (0 * p).sum().detach()

    optimizer.step(closure)
    assert same([*seen, p.detach()], [torch.tensor([1.0, -2.0])] * (row.calls + 1))


@every_row
def test_no_gradient_at_all(row: Row) -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = row.make(torch.optim.SGD([p], lr=0.1))
    optimizer.step(lambda: torch.zeros(()))
    assert torch.equal(p.detach(), torch.ones(2))


@every_row
def test_frozen_parameters_and_parameters_without_gradient_stay(row: Row) -> None:
    task = Task()
    unused = nn.Parameter(torch.ones(3))
    task.net[0].weight.requires_grad_(False)
    frozen = task.net[0].weight.detach().clone()
    optimizer = row.make(torch.optim.SGD([*task.net.parameters(), unused], lr=0.1, weight_decay=0.1))
    for i in range(4):
        optimizer.step(task.closure(i))
    assert torch.equal(unused.detach(), torch.ones(3))
    assert torch.equal(task.net[0].weight, frozen)


@every_row
@pytest.mark.parametrize("present", ["odd", "even"])
def test_gradient_in_some_passes_only_leaves_no_perturbation_behind(row: Row, present: str) -> None:
    """Stochastic depth: with rate 0 the weights must return exactly, wherever the perturbation had taken them."""
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.0))
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        loss = task.closure()()
        if calls % 2 == (present == "even"):
            task.net[2].weight.grad = None
        return loss

    before = task.weights()
    for _ in range(3):
        optimizer.step(closure)
    assert same(task.weights(), before)


@every_row
def test_groups_of_which_nothing_moves(row: Row) -> None:
    """A group without parameters, one that is frozen and one without gradients, between two that move."""
    a, b = Task(), Task()
    still = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3), requires_grad=False)]
    groups: list[list[nn.Parameter]] = [[], list(a.net[0].parameters()), [still[0]], [still[1]]]
    one = row.make(torch.optim.SGD([{"params": g} for g in [*groups, list(a.net[2].parameters())]], lr=0.1))
    other = row.make(torch.optim.SGD(b.net.parameters(), lr=0.1))
    for i in range(4):
        one.step(a.closure(i))
        other.step(b.closure(i))
    for w, v in zip(a.weights(), b.weights(), strict=True):
        torch.testing.assert_close(w, v, rtol=1e-12, atol=1e-14)
    assert same([p.detach() for p in still], [torch.ones(2), torch.ones(3)])


def test_mean_gather_counts_a_missing_gradient_as_zero() -> None:
    task = Task()
    optimizer = MultistepSAM(torch.optim.SGD(task.net.parameters(), lr=0.0), rho=0.1, k=2, gradient="mean")
    met: list[Tensor] = []
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        loss = task.closure()()
        gradient = task.net[2].bias.grad
        assert gradient is not None
        met.append(gradient.clone())
        if calls == 3:
            task.net[2].bias.grad = None
        return loss

    optimizer.step(closure)
    assert task.net[2].bias.grad is not None
    torch.testing.assert_close(task.net[2].bias.grad, met[1] / 2, rtol=1e-14, atol=0)


def test_mean_gather_lets_the_closure_zero_gradients_in_place() -> None:
    a, b = Task(), Task()
    results = []
    for task, to_none in ((a, True), (b, False)):
        optimizer = MultistepSAM(torch.optim.SGD(task.net.parameters(), lr=0.1), rho=0.1, k=3, gradient="mean")

        def closure() -> Tensor:
            task.net.zero_grad(set_to_none=to_none)  # noqa: B023 -- used within this pass of the loop only
            loss = task.loss(0)  # noqa: B023
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        results.append(task.weights())
    assert same(*results)


def test_mean_gather_keeps_no_hold_on_a_gradient() -> None:
    """Where the last gradient is missing, the mean is a tensor of its own, which closures may zero in place."""
    p = nn.Parameter(torch.zeros(1))
    optimizer = MultistepSAM(torch.optim.SGD([p], lr=1.0), rho=0.0, k=2, gradient="mean")
    gradients = iter([1.0, 1.0, None, 1.0, 1.0, 3.0])  # two steps of three passes

    def closure() -> Tensor:
        value = next(gradients)
        if value is None:
            p.grad = None
        elif p.grad is None:
            p.grad = torch.full_like(p, value)
        else:
            p.grad.zero_().add_(value)
        return torch.zeros(())

    optimizer.step(closure)
    optimizer.step(closure)
    assert p.item() == -((1 + 0) / 2 + (1 + 3) / 2)


@every_row
def test_a_closure_without_backward_is_noticed(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    before = task.weights()

    def closure() -> Tensor:
        optimizer.zero_grad()
        return task.loss(0)

    with pytest.warns(UserWarning, match=r"no parameter has a gradient .* does the closure call loss.backward\(\)\?"):
        optimizer.step(closure)
    assert same(task.weights(), before)


@every_row
def test_shared_parameters_are_moved_once(row: Row) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3, bias=False)
            self.b = nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.tanh(self.a(x)))

    torch.manual_seed(0)
    tied = Tied().double()
    w = nn.Parameter(tied.a.weight.detach().clone())
    x = torch.randn(5, 3, dtype=torch.float64)
    a = row.make(torch.optim.SGD(tied.parameters(), lr=0.1))
    b = row.make(torch.optim.SGD([w], lr=0.1))

    def tied_closure() -> Tensor:
        a.zero_grad()
        loss = tied(x).square().sum()
        loss.backward()
        return loss

    def plain_closure() -> Tensor:
        b.zero_grad()
        loss = (torch.tanh(x @ w.T) @ w.T).square().sum()
        loss.backward()
        return loss

    for _ in range(4):
        a.step(tied_closure)
        b.step(plain_closure)
    torch.testing.assert_close(tied.a.weight, w, rtol=1e-12, atol=1e-12)


@every_row
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_each_dtype_stays_and_returns_exactly(row: Row, dtype: torch.dtype) -> None:
    task = Task(dtype=dtype)
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.0))
    before = task.weights()
    for i in range(3):
        optimizer.step(task.closure(i))
    assert same(task.weights(), before)


def test_norm_of_half_precision_gradients_is_taken_in_float32() -> None:
    """10⁴ entries of 10 have norm 1000; their squares sum to 10⁶, which float16 cannot hold."""
    p = nn.Parameter(torch.zeros(10_000, dtype=torch.float16))
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(p.detach().clone())
        p.grad = torch.full_like(p, 10.0)
        return torch.zeros(())

    SAM(torch.optim.SGD([p], lr=0.0), rho=1.0).step(closure)
    torch.testing.assert_close(seen[1].double().norm().item(), 1.0, rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e3])
def test_small_and_large_half_precision_gradients_are_normalised(size: float) -> None:
    p = nn.Parameter(torch.zeros(4, dtype=torch.float16))
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(p.detach().clone())
        p.grad = torch.full_like(p, size)
        return torch.zeros(())

    SAM(torch.optim.SGD([p], lr=0.0), rho=1.0).step(closure)
    torch.testing.assert_close(seen[1].double().norm().item(), 1.0, rtol=1e-3, atol=0)


@every_row
def test_several_dtypes_in_one_optimizer(row: Row) -> None:
    """float64 and float32 parameters together behave as all-float64 ones, to float32's rounding."""
    mixed, wide = Task(), Task()
    mixed.net[2].float()
    a = row.make(torch.optim.SGD(mixed.net.parameters(), lr=0.1))
    b = row.make(torch.optim.SGD(wide.net.parameters(), lr=0.1))

    def closure() -> Tensor:
        mixed.net.zero_grad()
        hidden = mixed.net[1](mixed.net[0](mixed.inputs[0]))
        loss = nn.functional.mse_loss(mixed.net[2](hidden.float()).double(), mixed.targets[0])
        loss.backward()
        return loss

    for _ in range(4):
        a.step(closure)
        b.step(wide.closure(0))
    for w, v in zip(mixed.weights(), wide.weights(), strict=True):
        torch.testing.assert_close(w.double(), v, rtol=1e-4, atol=1e-6)


@every_row
def test_complex_parameters_equal_their_real_views(row: Row) -> None:
    torch.manual_seed(0)
    z = nn.Parameter(torch.randn(3, dtype=torch.complex128))
    r = nn.Parameter(torch.view_as_real(z.detach()).clone())
    matrix = torch.randn(4, 3, dtype=torch.complex128)
    a = row.make(torch.optim.SGD([z], lr=0.05, momentum=0.5))
    b = row.make(torch.optim.SGD([r], lr=0.05, momentum=0.5))

    def complex_closure() -> Tensor:
        a.zero_grad()
        loss = (matrix @ z - 1).abs().square().sum()
        loss.backward()
        return loss

    def real_closure() -> Tensor:
        b.zero_grad()
        loss = (matrix @ torch.view_as_complex(r) - 1).abs().square().sum()
        loss.backward()
        return loss

    for _ in range(5):
        a.step(complex_closure)
        b.step(real_closure)
    torch.testing.assert_close(torch.view_as_real(z.detach()), r.detach(), rtol=1e-12, atol=1e-12)


def test_weight_only_asam_knows_complex_parameters() -> None:
    z = nn.Parameter(torch.tensor([3.0 + 4.0j]))
    b = nn.Parameter(torch.tensor([2.0 + 0.0j]))
    rule = Adaptive(eta=0.0, named_parameters=[("weight", z), ("bias", b)])
    with torch.no_grad():
        views = [torch.view_as_real(z), torch.view_as_real(b)]
        ones = [torch.ones(1, 2), torch.ones(1, 2)]
        (scaled, unscaled), length = rule(views, ones, {})
    torch.testing.assert_close(length.item(), (3**2 + 4**2 + 1 + 1) ** 0.5)
    torch.testing.assert_close(scaled, torch.tensor([[9.0, 16.0]]))
    torch.testing.assert_close(unscaled, torch.ones(1, 2))


@every_row
def test_sparse_gradients_give_a_clear_error(row: Row) -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = row.make(torch.optim.SGD(embedding.parameters(), lr=0.1))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = embedding(torch.tensor([1, 2])).sum()
        loss.backward()
        return loss

    before = embedding.weight.detach().clone()
    with pytest.raises(TypeError, match=r"parameter 0 of group 0.*sparse=False"):
        optimizer.step(closure)
    assert torch.equal(embedding.weight, before)


def test_a_rule_of_the_user_s_own() -> None:
    class Sign:
        def __call__(self, weights: list[Tensor], gradients: list[Tensor], state: Any) -> tuple[list[Tensor], Tensor]:
            direction = [g.sign() for g in gradients]
            return direction, norm(direction)

    task = Task()
    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=0.1), rho=0.2, k=1, perturbation=Sign())
    seen: list[list[Tensor]] = []
    signs: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(task.weights())
        loss = task.closure()()
        signs.extend(p.grad.sign() for p in task.net.parameters() if p.grad is not None and len(seen) == 1)
        return loss

    optimizer.step(closure)
    n = sum(w.numel() for w in seen[0])
    for w, v, sign in zip(seen[0], seen[1], signs, strict=True):
        torch.testing.assert_close(v - w, 0.2 * sign / n**0.5, rtol=1e-12, atol=1e-14)
