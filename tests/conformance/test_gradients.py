"""Gradients of every kind: none, zero, frozen, shared, half precision, complex, sparse."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lookbehind import SAM, XSAM, Adaptive, Lookahead, Lookbehind, MultistepSAM
from lookbehind.optim import norm
from tests.conformance.rows import ROWS, Row, Task, every_row, same


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
@pytest.mark.parametrize("tiny", [1e-39, 1e-37])
@pytest.mark.parametrize("small", ["odd", "even"])
def test_one_gradient_far_smaller_than_another_gives_no_nan(row: Row, small: str, tiny: float, elsewhere: bool) -> None:
    """The quotient of their norms overflows in float32. It counts as zero, as a norm without a reciprocal does."""
    p = nn.Parameter(torch.tensor([0.5, 0.5]))
    optimizer = row.make(torch.optim.SGD([p], lr=0.0))
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        p.grad = torch.tensor([tiny, 0.0] if calls % 2 == (small == "odd") else [1e3, 1.0])
        return torch.zeros(())

    for _ in range(3):
        optimizer.step(closure)
        assert p.grad is not None
        assert p.grad.isfinite().all()
    assert p.tolist() == [0.5, 0.5]


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

    with pytest.warns(UserWarning, match=r"no parameter has a gradient .* does the closure call loss.backward\(\)"):
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


CLIMBING = [row for row in ROWS if row.name != "Lookahead-SGD"]


@pytest.mark.parametrize("row", CLIMBING, ids=lambda row: row.name)
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float32, 1e-23),
        (torch.float32, 1e-36),
        (torch.float32, 1e25),
        (torch.bfloat16, 1e-30),
        (torch.float64, 1e-170),
        (torch.float64, 1e-300),
        (torch.float64, 1e170),
    ],
)
def test_the_ascent_does_not_depend_on_the_size_of_the_gradient(row: Row, dtype: torch.dtype, size: float) -> None:
    """ε = ρ g / ‖g‖, also where g² vanishes or overflows. A well-fitted classifier gets there."""

    def climbs(size: float) -> list[Tensor]:
        weights = [nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype)), nn.Parameter(torch.ones(3, dtype=dtype))]
        seen: list[Tensor] = []

        def closure() -> Tensor:
            seen.append(torch.cat([p.detach() for p in weights]))
            for p, g in zip(weights, ([3.0, -1.0], [0.5, 0.0, 2.0]), strict=True):
                p.grad = (torch.tensor(g, dtype=torch.float64) * size).to(dtype)
            return torch.zeros(())

        row.make(torch.optim.SGD(weights, lr=0.0)).step(closure)
        return seen

    for one, other in zip(climbs(size), climbs(1.0), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2 if dtype is torch.bfloat16 else 1e-6, atol=0.0)


@pytest.mark.parametrize("like", [torch.float32, torch.float64])
def test_a_rule_s_length_of_zero_moves_nothing(like: torch.dtype, elsewhere: bool) -> None:
    p = nn.Parameter(torch.ones(2, dtype=like))
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(p.detach().clone())
        p.grad = torch.ones_like(p)
        return torch.zeros(())

    SAM(torch.optim.SGD([p], lr=0.1), perturbation=lambda w, g, state: (g, torch.zeros((), dtype=like))).step(closure)
    assert torch.equal(seen[1], torch.ones(2, dtype=like))


class _Destroys(torch.optim.SGD):
    """A base that leaves something else in ``.grad``, as ``SGD(nesterov=True, foreach=True)`` does."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.fill_(float("nan"))


@every_row
@pytest.mark.parametrize("destroys", ["base", "hook"])
def test_what_a_base_does_to_gradients_does_not_reach_the_ascents(row: Row, destroys: str) -> None:
    one, other = Task(), Task()
    base = (_Destroys if destroys == "base" else torch.optim.SGD)(one.net.parameters(), lr=0.1, momentum=0.9)
    if destroys == "hook":
        base.register_step_post_hook(lambda *_: [p.grad.zero_() for p in one.net.parameters() if p.grad is not None])
    a, b = row.make(base), row.make(torch.optim.SGD(other.net.parameters(), lr=0.1, momentum=0.9))
    for i in range(4):
        a.step(one.closure(i))
        b.step(other.closure(i))
    assert same(one.weights(), other.weights())


@every_row
def test_nesterov_steps_alike_with_and_without_foreach(row: Row) -> None:
    tasks = [Task(), Task()]
    for task, foreach in zip(tasks, (True, False), strict=True):
        base = torch.optim.SGD(task.net.parameters(), lr=0.05, momentum=0.9, nesterov=True, foreach=foreach)
        optimizer = row.make(base)
        for i in range(4):
            optimizer.step(task.closure(i))
    for one, other in zip(*(task.weights() for task in tasks), strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12)


@every_row
def test_gradients_with_a_graph_do_not_leak_into_the_next_pass(row: Row) -> None:
    """``backward(create_graph=True)`` adds into a new tensor; the closure does not zero."""
    one, other = Task(), Task()
    a, b = (row.make(torch.optim.SGD(task.net.parameters(), lr=0.1)) for task in (one, other))

    def closure() -> Tensor:
        loss = one.loss(0)
        grads = torch.autograd.grad(loss, list(one.net.parameters()), create_graph=True)
        for p, g in zip(one.net.parameters(), grads, strict=True):
            p.grad = g if p.grad is None else p.grad + g  # as backward(create_graph=True) does
        return loss

    for p in one.net.parameters():
        p.grad = torch.zeros_like(p)
    a.step(closure)
    b.step(other.closure(0))
    for p, q in zip(one.net.parameters(), other.net.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0.0, atol=1e-12)


def test_a_layer_that_is_frozen_with_a_stale_gradient_stays() -> None:
    """w² + v² with rate 0.1: each step multiplies by 0.8; v ends the cycle at (1 + 0.8³) / 2."""
    w, v = (nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2))
    optimizer = Lookahead(torch.optim.SGD([w, v], lr=0.1), k=3, alpha=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = w**2 + v**2
        loss.backward()
        return loss

    for i in range(3):
        w.requires_grad_(i < 2)
        optimizer.step(closure)
    assert w.item() == pytest.approx(0.64, abs=1e-12)
    assert v.item() == pytest.approx(0.756, abs=1e-12)


def test_asam_in_half_precision_keeps_its_length() -> None:
    """T² g underflows float16 for small weights, and overflows for large ones; ε does neither."""
    for w, g in ((1e-3, 1e-5), (30.0, 5000.0)):
        p = nn.Parameter(torch.full((2,), w, dtype=torch.float16))
        optimizer = SAM(torch.optim.SGD([p], lr=0.0), rho=0.5, perturbation="asam")
        seen: list[Tensor] = []

        def closure(p: nn.Parameter = p, g: float = g, seen: list[Tensor] = seen) -> Tensor:
            seen.append(p.detach().double())
            p.grad = torch.full_like(p, g)
            return torch.zeros(())

        optimizer.step(closure)
        expected = w + 0.5 * (w + 0.01) / 2**0.5  # ρ T² g / ‖T g‖ with equal entries
        torch.testing.assert_close(seen[1], torch.full((2,), expected, dtype=torch.float64), rtol=5e-3, atol=0.0)


def test_the_mean_of_half_precision_gradients_does_not_overflow() -> None:
    p = nn.Parameter(torch.ones(1, dtype=torch.float16))
    optimizer = MultistepSAM(torch.optim.SGD([p], lr=1e-5), rho=0.0, k=4, gradient="mean")

    def closure() -> Tensor:
        p.grad = torch.full_like(p, 2e4)
        return torch.zeros(())

    optimizer.step(closure)
    assert p.item() == pytest.approx(0.8, rel=1e-3)


@every_row
def test_a_layer_that_a_closure_thaws_is_no_silent_descent(row: Row) -> None:
    task = Task()
    task.net[0].weight.requires_grad_(False)
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    before = task.weights()

    def closure() -> Tensor:
        task.net[0].weight.requires_grad_(True)
        loss = task.closure(0)()
        task.net[0].weight.requires_grad_(False)
        return loss

    with pytest.raises(RuntimeError, match="requires_grad_"):
        optimizer.step(closure)
    assert same(task.weights(), before)


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_warning_points_at_the_callers_line(scheduled: bool) -> None:
    optimizer = SAM(torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1))
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer) if scheduled else None  # torch then wraps step
    with pytest.warns(UserWarning, match="does the closure call") as seen:
        optimizer.step(lambda: torch.zeros(()))
    del scheduler
    assert seen[0].filename == __file__


# --- gradients in one memory ---------------------------------------------------------------------------------------


@every_row
@pytest.mark.parametrize("how", ["one tensor", "a view", "expanded"])
def test_gradients_that_share_their_memory_are_not_written_twice(row: Row, how: str) -> None:
    """``torch.autograd.grad`` returns one tensor for both terms of a sum. Copies of it are the right value."""
    ends = []
    for copies in (True, False):
        a = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
        b = nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))
        optimizer = row.make(torch.optim.SGD([a, b], lr=0.01, momentum=0.9))

        def closure(a: Tensor = a, b: Tensor = b, copies: bool = copies) -> Tensor:
            loss = ((a + b) ** 4).sum()
            g = torch.autograd.grad(loss, (a, b))[0]
            both = (g, g[:]) if how == "a view" else (g, g)
            if how == "expanded":
                g = g.mean()
                both = (g.expand(2), g.expand(2))
            a.grad, b.grad = (t.clone() if copies else t for t in both)
            return loss.detach()

        for _ in range(4):
            optimizer.step(closure)
        ends.append([a.detach(), b.detach()])
    assert same(*ends)


@every_row
def test_a_closure_that_adds_out_of_place_gets_no_earlier_gradient(row: Row) -> None:
    ends = []
    for adds in (False, True):
        w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
        optimizer = row.make(torch.optim.SGD([w], lr=0.01))

        def closure(w: Tensor = w, adds: bool = adds) -> Tensor:
            loss = (w**4).sum()
            [g] = torch.autograd.grad(loss, w)
            w.grad = g if w.grad is None or not adds else w.grad + g
            return loss.detach()

        for _ in range(3):
            w.grad = torch.zeros_like(w)
            optimizer.step(closure)
        ends.append([w.detach()])
    assert same(*ends)


def test_a_lazy_module_whose_closure_does_not_zero() -> None:
    """The first step, which makes the weights, is that of the same layer made at once."""
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    lazy = nn.LazyLinear(2)
    start: dict[str, Tensor] = {}

    def closure_of(net: nn.Module) -> Any:
        def closure() -> Tensor:
            out = net(x)
            if net is lazy and not start:
                start.update({name: p.detach().clone() for name, p in net.named_parameters()})
            loss: Tensor = out.pow(2).mean()
            loss.backward()
            return loss

        return closure

    SAM(torch.optim.SGD(lazy.parameters(), lr=0.1), rho=0.1).step(closure_of(lazy))
    plain = nn.Linear(3, 2)
    plain.load_state_dict(start)
    SAM(torch.optim.SGD(plain.parameters(), lr=0.1), rho=0.1).step(closure_of(plain))
    assert torch.allclose(lazy.weight, plain.weight)


@every_row
def test_gradients_in_one_fixed_tensor_are_found_there_again(row: Row) -> None:
    """A closure that writes to a tensor of its own, as a captured graph does, is right with one for two parameters."""
    ends = []
    for shares in (True, False):
        a = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
        b = nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))
        optimizer = row.make(torch.optim.SGD([a, b], lr=0.01))
        fixed = torch.zeros_like(a)
        a.grad, b.grad = fixed, fixed if shares else torch.zeros_like(b)

        def closure(a: Tensor = a, b: Tensor = b, fixed: Tensor = fixed, shares: bool = shares) -> Tensor:
            loss = ((a + b) ** 4).sum()
            fixed.copy_(torch.autograd.grad(loss, a)[0])
            if not shares:
                assert b.grad is not None
                b.grad.copy_(fixed)
            return loss.detach()

        for _ in range(3):
            optimizer.step(closure)
        assert a.grad is fixed
        ends.append([a.detach(), b.detach()])
    assert same(*ends)


def test_a_gradient_with_a_graph_does_not_leak_whatever_memory_it_gets() -> None:
    """The first gradient's tensor is freed, and the next one may get its place and its identity."""
    for _ in range(60):
        w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
        w.grad = torch.zeros_like(w)
        optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.0)

        def closure(w: Tensor = w) -> Tensor:
            loss = (w**2).sum()
            loss.backward(create_graph=True)
            return loss.detach()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's, of a cycle
            optimizer.step(closure)
        assert w.tolist() == pytest.approx([0.8, 1.6])


@pytest.mark.parametrize("static", [False, True], ids=["none", "zeros"])
@pytest.mark.parametrize("make", [MultistepSAM, Lookbehind, XSAM])
def test_a_layer_whose_first_gradient_comes_late_is_not_added_up(make: Any, static: bool) -> None:
    """As with layers that are dropped at random, and a closure that leaves the zeroing to the loop."""
    p, q = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    for t in (p, q):
        t.grad = torch.zeros_like(t) if static else None
    k = 3
    optimizer = make(torch.optim.SGD([p, q], lr=1.0), rho=0.0, k=k)
    found = []

    def closure() -> Tensor:
        loss = p.sum() + (q.sum() if len(found) else 0.0)
        loss.backward()
        assert p.grad is not None
        found.append((p.grad.item(), None if q.grad is None else q.grad.item()))
        return loss

    optimizer.step(closure)
    assert found == [(1.0, 0.0 if static else None)] + [(1.0, 1.0)] * k


@every_row
def test_a_gradient_in_the_memory_of_its_weight_stays_a_gradient(row: Row) -> None:
    """Of ½‖w‖² the gradient is w, and a backward pass of one's own may return that very memory."""
    ends = []
    for copied in (True, False):
        w = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = row.make(torch.optim.SGD([w], lr=0.1))

        def closure(w: nn.Parameter = w, copied: bool = copied) -> Tensor:
            w.grad = w.detach().clone() if copied else w.detach()
            return 0.5 * w.detach().square().sum()

        for _ in range(3):
            optimizer.step(closure)
        ends.append(w.detach())
    assert same(*([end] for end in ends))


@every_row
def test_a_layer_frozen_with_its_last_gradient_is_not_perturbed(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1, momentum=0.9))
    for i in range(3):
        optimizer.step(task.closure(i))
    frozen = next(iter(task.net.parameters()))
    frozen.requires_grad_(False)
    kept, closure = frozen.detach().clone(), task.closure(3)

    def watched() -> Any:
        assert torch.equal(frozen, kept)
        return closure()

    optimizer.step(watched)


def test_complex_gradients_may_be_conjugate_views() -> None:
    ends = []
    for resolved in (True, False):
        w = nn.Parameter(torch.tensor([1 + 2j, -1j], dtype=torch.complex128))
        optimizer = Lookbehind(torch.optim.SGD([w], lr=0.1), rho=0.1)

        def closure(w: nn.Parameter = w, resolved: bool = resolved) -> Tensor:
            gradient = w.detach().clone().conj()
            w.grad = gradient.resolve_conj() if resolved else gradient
            return w.detach().abs().square().sum()

        for _ in range(3):
            optimizer.step(closure)
        ends.append(w.detach())
    assert torch.equal(*ends)
