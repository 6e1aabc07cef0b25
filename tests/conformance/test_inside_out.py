"""Optimizers in optimizers, steps in steps, and numbers that are set in the wrong place."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lookbehind import (
    GNP,
    S2SAM,
    SAM,
    WSAM,
    XSAM,
    AccumulatingSAM,
    Every,
    FractionSAM,
    LargeGradient,
    Lookahead,
    Lookbehind,
    LookSAM,
    MomentumSAM,
)
from tests.conformance.rows import Row, Task, every_row, same


def weight() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))


def quartic(w: Tensor, optimizer: Any) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (w**4).sum()
        loss.backward()
        return loss

    return closure


# --- steps in steps ------------------------------------------------------------------------------------------------


@every_row
def test_a_step_within_a_step_is_refused_and_moves_nothing(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    optimizer.step(task.closure(0))
    before = task.weights()

    def closure() -> Tensor:
        loss = task.closure(1)()
        optimizer.step(task.closure(1))
        return loss

    with pytest.raises(RuntimeError, match=r"call it after optimizer\.step\(closure\)"):
        optimizer.step(closure)
    assert same(task.weights(), before)
    optimizer.step(task.closure(1))  # nothing remembers the failed one


def test_a_search_within_a_step_is_refused() -> None:
    w = weight()
    optimizer = XSAM(torch.optim.SGD([w], lr=0.0), rho=0.1)

    def closure() -> Tensor:
        optimizer.search(quartic(w, optimizer), lambda: (w**4).sum())
        return w.sum()

    with pytest.raises(RuntimeError, match="search was called within a step"):
        optimizer.step(closure)
    assert w.tolist() == [1.0, 2.0]
    optimizer.search(quartic(w, optimizer), lambda: (w**4).sum())


def test_slow_weights_in_the_closure_of_a_base_that_perturbs_are_refused() -> None:
    w = weight()
    optimizer = Lookahead(SAM(torch.optim.SGD([w], lr=0.1), rho=0.1), k=3)

    def closure() -> Tensor:
        with optimizer.slow_weights():
            return w.sum()

    with pytest.raises(RuntimeError, match="slow_weights"):
        optimizer.step(closure)
    assert w.tolist() == [1.0, 2.0]


def test_slow_weights_of_a_lookahead_inside_are_refused_in_a_closure() -> None:
    w = weight()
    inner = Lookahead(torch.optim.SGD([w], lr=0.1), k=3)
    optimizer = SAM(inner, rho=0.1)

    def closure() -> Tensor:
        with inner.slow_weights():
            return w.sum()

    with pytest.raises(RuntimeError, match="slow_weights"):
        optimizer.step(closure)
    assert w.tolist() == [1.0, 2.0]


def test_slow_weights_in_the_closure_of_a_plain_base_are_the_slow_ones() -> None:
    w, seen = weight(), []
    optimizer = Lookahead(torch.optim.SGD([w], lr=0.01), k=3)

    def closure() -> Tensor:
        with optimizer.slow_weights():
            seen.append(w.tolist())
        return quartic(w, optimizer)()

    for _ in range(3):
        optimizer.step(closure)
    assert seen == [[1.0, 2.0]] * 3


# --- a Lookahead inside --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda base: Lookbehind(base),
        lambda base: WSAM(base),
        lambda base: S2SAM(base, k=2),
        lambda base: S2SAM(base, alpha=0.5),
    ],
)
def test_what_moves_after_its_base_takes_no_lookahead_inside(make: Callable[[Any], Any]) -> None:
    base = Lookahead(torch.optim.SGD([weight()], lr=0.1))
    groups = copy.deepcopy(base.state_dict())
    with pytest.raises(ValueError, match=r"write Lookahead\(\w+\(base, \.\.\.\), \.\.\.\)"):
        make(base)
    assert base.state_dict() == groups


@pytest.mark.parametrize("make", [SAM, lambda base: WSAM(base, decoupled=False)])
def test_evaluation_finds_the_slow_weights_of_a_lookahead_inside(make: Callable[[Any], Any]) -> None:
    w = weight()
    optimizer = make(Lookahead(torch.optim.SGD([w], lr=0.01), k=5))
    for _ in range(3):
        optimizer.step(quartic(w, optimizer))
    fast = w.tolist()
    with optimizer.slow_weights():
        assert w.tolist() == [1.0, 2.0]
    assert w.tolist() == fast != [1.0, 2.0]


@pytest.mark.parametrize("outer", [lambda base: SAM(base, rho=0.0), lambda base: Lookahead(base, k=9)])
def test_a_step_while_the_slow_weights_of_a_lookahead_inside_are_shown(outer: Callable[[Any], Any]) -> None:
    """SAM with ρ = 0 around it, or a longer cycle, is the Lookahead itself: the gradient is at the fast weights."""
    a, b = weight(), weight()
    one, two = Lookahead(torch.optim.SGD([a], lr=0.01), k=5), Lookahead(torch.optim.SGD([b], lr=0.01), k=5)
    around = outer(two)
    for i in range(5):
        one.step(quartic(a, one))
        if i == 3:
            two.slow_weights().__enter__()
        around.step(quartic(b, around))
    assert torch.allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("kind", [AccumulatingSAM, FractionSAM])
def test_lookahead_hands_several_closures_on(kind: type) -> None:
    """With k = 1 and α = 1 a Lookahead is its base."""
    a, b = weight(), weight()
    plain = kind(torch.optim.SGD([a], lr=0.01), rho=0.1)
    around = Lookahead(kind(torch.optim.SGD([b], lr=0.01), rho=0.1), k=1, alpha=1.0)
    for _ in range(3):
        plain.step([quartic(a, plain), quartic(a, plain)])
        around.step([quartic(b, around), quartic(b, around)])
    assert torch.allclose(a, b, rtol=1e-12)


def test_lookahead_refuses_several_closures_for_a_base_that_takes_one() -> None:
    optimizer = Lookahead(SAM(torch.optim.SGD([weight()], lr=0.1)))
    with pytest.raises(TypeError, match="needs a closure"):
        optimizer.step([lambda: 0, lambda: 0])  # type: ignore[arg-type, list-item, return-value]


# --- numbers set in the wrong place --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name", "right"),
    [
        (lambda base: SAM(base), "rho", r'group\["rho"\]'),
        (lambda base: SAM(base), "when", "build the SAM anew"),
        (lambda base: SAM(base), "radius", "build the SAM anew"),
        (lambda base: SAM(base), "perturbation", "build the SAM anew"),
        (lambda base: WSAM(base), "gamma", "build the WSAM anew"),
        (lambda base: GNP(base), "alpha", "build the GNP anew"),
        (lambda base: Lookbehind(base), "alpha", r'group\["alpha"\]'),
        (lambda base: Lookbehind(base), "k", "build the Lookbehind anew"),
        (lambda base: Lookbehind(base, alpha="adaptive"), "alpha", "build the Lookbehind anew"),
        (lambda base: LookSAM(base), "every", "build the LookSAM anew"),
        (lambda base: MomentumSAM(base), "along", "build the MomentumSAM anew"),
        (lambda base: Lookahead(base), "alpha", r'group\["alpha"\]'),
    ],
)
def test_an_attribute_that_would_change_nothing_is_not_set(make: Callable[[Any], Any], name: str, right: str) -> None:
    optimizer = make(torch.optim.SGD([weight()], lr=0.1, momentum=0.9))
    with pytest.raises(AttributeError, match=right):
        setattr(optimizer, name, Every(5) if name == "when" else 2)
    for other in (copy.deepcopy(optimizer), optimizer):
        other.nonfinite, other.rollback, other.last_step_skipped = "skip", "full", False  # these change


def test_rho_of_a_group_that_was_added_to_the_base_survives_another_wrapping() -> None:
    base = torch.optim.SGD([weight()], lr=0.1)
    first = SAM(base, rho=0.05)
    base.add_param_group({"params": [weight()], "rho": 0.3})
    first.step(lambda: torch.zeros(()))
    again = SAM(base, rho=0.07)
    assert [group["rho"] for group in again.param_groups] == [0.07, 0.3]


class Annealed(SAM):
    """A method of somebody's own, with an option of its own that is set after the constructor of SAM, and changes."""

    def __init__(self, base: torch.optim.Optimizer, rho: float = 0.05, temperature: float = 1.0) -> None:
        super().__init__(base, rho)
        self.temperature = temperature

    def update(self, step: Any, closures: Any) -> None:
        self.temperature *= 0.5
        super().update(step, closures)


def test_a_subclass_sets_its_own_options() -> None:
    w = weight()
    optimizer = Annealed(torch.optim.SGD([w], lr=0.01))
    for _ in range(2):
        optimizer.step(quartic(w, optimizer))
    assert optimizer.temperature == 0.25
    with pytest.raises(AttributeError, match=r'group\["rho"\]'):
        optimizer.rho = 1.0  # type: ignore[misc, attr-defined]


# --- others ---------------------------------------------------------------------------------------------------------


def test_momentum_that_is_turned_off_climbs_no_more() -> None:
    a, b = weight(), weight()
    base = torch.optim.SGD([a], lr=0.001, momentum=0.9)
    optimizer, plain = MomentumSAM(base, rho=0.3), torch.optim.SGD([b], lr=0.001)
    for _ in range(2):
        optimizer.step(quartic(a, optimizer))
    with torch.no_grad():
        b.copy_(a)
    base.param_groups[0]["momentum"] = 0.0
    for _ in range(3):
        optimizer.step(quartic(a, optimizer))
        plain.step(quartic(b, plain))
    assert torch.allclose(a, b, rtol=1e-12)


def test_large_gradient_goes_on_after_a_gradient_that_is_no_number() -> None:
    when = LargeGradient()
    numbers = dict(when.numbers)
    assert [when(t, lambda: 2.0, numbers) for t in range(2)] == [1.0, 1.0]
    before = dict(numbers)
    assert when(2, lambda: float("nan"), numbers) == when(2, lambda: 1e200, numbers) == 0.0
    assert numbers == before
    assert when(3, lambda: 3.0, numbers) == 1.0
    assert when(4, lambda: 1.0, numbers) == 0.0


@pytest.mark.parametrize("delta", [0.1, 0.3, 0.8, 0.99])
def test_large_gradient_climbs_first_whatever_rounding_does(delta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in torch.rand(2000, generator=generator, dtype=torch.float64).tolist():
        when = LargeGradient(delta=delta)
        assert when(0, lambda norm=norm: norm, dict(when.numbers)) == 1.0  # type: ignore[misc]


class Keeping(torch.optim.SGD):
    """A base whose state is of a class of its own."""

    def step(self, closure: Any = None) -> None:
        super().step()
        for p in self.param_groups[0]["params"]:
            self.state[p].setdefault("kept", OrderedDict())["last"] = p.detach().clone()


def test_a_rollback_keeps_the_classes_of_the_base_s_state() -> None:
    w = weight()
    optimizer = SAM(Keeping([w], lr=0.1), rollback="full")
    optimizer.step(quartic(w, optimizer))
    kept = optimizer.state[w]["kept"]
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 // 0)
    assert optimizer.state[w]["kept"] is kept
    assert isinstance(kept, OrderedDict)
    assert list(kept) == ["last"]


@pytest.mark.parametrize(
    "dtypes", [(torch.bfloat16,) * 2, (torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)]
)
def test_looksam_keeps_its_direction_whatever_precision_comes_first(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    """g_v from float64 by hand: ∇L(φ + ε) less its part along ∇L(φ)."""
    a = nn.Parameter(torch.tensor([1.0, -0.5, 0.25, 2.0]).to(dtypes[0]))
    b = nn.Parameter(torch.tensor([0.5, 1.0, -1.0, 0.75]).to(dtypes[1]))
    optimizer = LookSAM(torch.optim.SGD([a, b], lr=0.0), rho=0.2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (a.float() ** 4).sum() + (b.float() ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    w = torch.cat([a.detach().double(), b.detach().double()])

    def gradient(w: Tensor) -> Tensor:
        return torch.cat([4 * w[:4] ** 3, 2 * w[4:]])

    g = gradient(w)
    g_s = gradient(w + 0.2 * g / g.norm())
    g_v = g_s - (g_s @ g) / (g @ g) * g
    kept = torch.cat([optimizer.state[p]["looksam_across"].double() for p in (a, b)])
    assert torch.nn.functional.cosine_similarity(kept, g_v, dim=0) > 0.95
    assert 0.8 < kept.norm() / g_v.norm() < 1.2


def test_looksam_keeps_nothing_where_there_is_only_rounding() -> None:
    """L = ‖w‖²/2 climbs along its gradient."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        w = nn.Parameter(torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype))
        optimizer = LookSAM(torch.optim.SGD([w], lr=0.0), rho=0.05)

        def closure(w: Tensor = w, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (w**2).sum() / 2
            loss.backward()
            return loss

        optimizer.step(closure)
        assert not optimizer.state[w]["looksam_across"].any()


def test_one_closure_does_not_climb_while_accumulating_and_that_is_said() -> None:
    w = weight()
    optimizer = AccumulatingSAM(torch.optim.SGD([w], lr=0.01), rho=0.5)
    with pytest.warns(UserWarning, match="got one closure, so nothing climbs"):
        optimizer.step(quartic(w, optimizer))
