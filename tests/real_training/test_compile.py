"""torch.compile of the model, and of the optimizer's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lookbehind import Adaptive, Euclidean, Lookbehind, _tensors
from lookbehind.optim.lookbehind import aligned_alpha
from tests.conformance.rows import Row, Task, every_row, same


@pytest.fixture(autouse=True)
def _reset() -> None:
    torch._dynamo.reset()


def compiled(function: Callable) -> Callable:
    """Compile into one graph; a graph break is an error. The eager backend keeps the numbers bit for bit."""
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def tensors(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)]


@pytest.mark.parametrize("rule", [Euclidean(), Adaptive(eta=0.1)], ids=repr)
def test_rules_compile_without_graph_break(rule) -> None:
    with torch.no_grad():
        direction, length = rule(tensors(0), tensors(1), {})
        d, ell = compiled(rule.__call__)(tensors(0), tensors(1), {})
        assert same([*d, ell], [*direction, length])


@pytest.mark.parametrize(
    "operation",
    [
        lambda a, b: _tensors.copy_(a, b),
        lambda a, b: _tensors.copy_(a, _tensors.clones(b)),
        lambda a, b: _tensors.add_(a, b, 0.3),
        lambda a, b: _tensors.lerp_(a, b, 0.3),
        lambda a, b: _tensors.lerp_(a, b, [torch.tensor(0.3), torch.tensor(0.7)]),
    ],
    ids=["copy", "clones", "add", "lerp", "lerp by tensors"],
)
def test_arithmetic_in_place_compiles_without_graph_break(operation) -> None:
    a, b, c, d = tensors(0), tensors(1), tensors(0), tensors(1)
    where = [t.data_ptr() for t in c]
    operation(a, b)
    compiled(operation)(c, d)
    assert same(a, c)
    assert same(b, d)
    assert [t.data_ptr() for t in c] == where


def test_norms_and_alpha_compile_without_graph_break() -> None:
    def alpha(a: list[Tensor], b: list[Tensor]) -> Tensor:
        sums = _tensors.dots(a, b).sum(), _tensors.norm(a) ** 2, _tensors.norm(b) ** 2
        return aligned_alpha(*sums)

    expected = alpha(tensors(0), tensors(1))
    torch.testing.assert_close(compiled(alpha)(tensors(0), tensors(1)), expected)


def test_a_compiled_rule_can_be_passed() -> None:
    a, b = Task(), Task()
    rule = torch.compile(Euclidean().__call__, backend="aot_eager", fullgraph=True)
    one = Lookbehind(torch.optim.SGD(a.net.parameters(), lr=0.1), k=2, perturbation=rule)
    other = Lookbehind(torch.optim.SGD(b.net.parameters(), lr=0.1), k=2)
    for i in range(3):
        one.step(a.closure(i))
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())


@every_row
def test_a_compiled_model_is_compiled_once_and_gives_the_same_numbers(row: Row) -> None:
    """Weights never move in memory, so no pass makes torch compile anew."""
    a, b = Task(), Task()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    net = torch.compile(a.net, backend=counter, fullgraph=True)
    one = row.make(torch.optim.SGD(a.net.parameters(), lr=0.1))
    other = row.make(torch.optim.SGD(b.net.parameters(), lr=0.1))
    for i in range(4):

        def closure() -> Tensor:
            one.zero_grad()
            loss = nn.functional.mse_loss(net(a.inputs[i]), a.targets[i])  # noqa: B023 -- used in this pass only
            loss.backward()
            return loss

        one.step(closure)
        other.step(b.closure(i))
    for w, v in zip(a.weights(), b.weights(), strict=True):
        torch.testing.assert_close(w, v, rtol=1e-12, atol=1e-12)
    assert counter.frame_count == 1


def test_inductor() -> None:
    """The default backend, with code that it generates for this machine, for model and rule."""
    a, b = Task(dtype=torch.float32), Task(dtype=torch.float32)
    net, rule = torch.compile(a.net), torch.compile(Adaptive(eta=0.01).__call__)
    one = Lookbehind(torch.optim.SGD(a.net.parameters(), lr=0.1), 0.5, k=2, perturbation=rule)
    other = Lookbehind(torch.optim.SGD(b.net.parameters(), lr=0.1), 0.5, k=2, perturbation="asam")
    for i in range(3):

        def closure() -> Tensor:
            one.zero_grad()
            loss = nn.functional.mse_loss(net(a.inputs[i]), a.targets[i])  # noqa: B023 -- used in this pass only
            loss.backward()
            return loss

        one.step(closure)
        other.step(b.closure(i))
    for w, v in zip(a.weights(), b.weights(), strict=True):
        torch.testing.assert_close(w, v, rtol=1e-4, atol=1e-5)
