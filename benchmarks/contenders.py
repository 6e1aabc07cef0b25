"""The optimizers that are compared: this package's, those that a package index serves, the algorithm taken literally.

Other packages take part if they are installed: pip install -e ".[bench]".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from benchmarks.literal import LiteralLookbehind
from torch import Tensor, nn
from torch.optim import Optimizer

from lookbehind import METHODS, SAM, Every, Lookahead, Lookbehind, MultistepSAM
from lookbehind.methods import Record

Closure = Callable[[], Tensor]
Step = Callable[[Closure], Any]


@dataclass(frozen=True)
class Contender:
    """An optimizer, and how it takes a step.

    Args:
        name: its name in tables.
        owner: "lookbehind", a package with its version, "algorithm 1" or "torch".
        step: from (model, base class, arguments of the base) to a function that takes a step with a closure.
        core: whether it is measured also where a gradient takes long.

    """

    name: str
    owner: str
    step: Callable[[nn.Module, type[Optimizer], dict[str, Any]], Step]
    core: bool = True


def around(make: Callable[[Optimizer], Any]) -> Callable[..., Step]:
    """Wrap an instance of the base; the step takes an ordinary closure."""
    return lambda model, kind, options: make(kind(model.parameters(), **options)).step


def _after_a_gradient(make: Callable[..., Any]) -> Callable[..., Step]:
    """Take a class as the base; the first gradient is the caller's."""

    def step(model: nn.Module, kind: type[Optimizer], options: dict[str, Any]) -> Step:
        optimizer = make(model.parameters(), kind, **options)

        def take(closure: Closure) -> None:
            closure()
            optimizer.step(closure)

        return take

    return step


def _without_closure(make: Callable[[Optimizer], Any]) -> Callable[..., Step]:
    """Wrap an instance of the base; the step takes the gradient that is there."""

    def step(model: nn.Module, kind: type[Optimizer], options: dict[str, Any]) -> Step:
        optimizer = make(kind(model.parameters(), **options))

        def take(closure: Closure) -> None:
            closure()
            optimizer.step()

        return take

    return step


def _in_parts(record: Record) -> Callable[..., Step]:
    """Take several closures a step; here the same minibatch for each."""

    def step(model: nn.Module, kind: type[Optimizer], options: dict[str, Any]) -> Step:
        optimizer = record.build(kind(model.parameters(), **options))
        return lambda closure: optimizer.step([closure] * record.closures)

    return step


def ours() -> Iterator[Contender]:
    def one(name: str, make: Callable[[Optimizer], Any], core: bool = True) -> Contender:
        return Contender(name, "lookbehind", around(make), core)

    yield one("SAM", SAM)
    yield one("ASAM", lambda base: SAM(base, 0.5, perturbation="asam"))
    for k in (1, 2, 5, 10):
        yield one(f"Multistep-SAM, k = {k}", lambda base, k=k: MultistepSAM(base, k=k))
    for k in (1, 2, 5, 10):
        yield one(f"Multistep-SAM, mean, k = {k}", lambda base, k=k: MultistepSAM(base, k=k, gradient="mean"), k == 2)
    for k in (1, 2, 5, 10):
        yield one(f"Lookbehind, k = {k}", lambda base, k=k: Lookbehind(base, k=k))
    for k in (1, 2, 5, 10):
        yield one(f"Lookbehind, adaptive, k = {k}", lambda base, k=k: Lookbehind(base, k=k, alpha="adaptive"), k == 2)
    for k in (1, 2, 5, 10):
        yield one(f"Lookbehind+ASAM, k = {k}", lambda base, k=k: Lookbehind(base, 0.5, k, perturbation="asam"), k == 2)
    yield Contender("Lookahead, k = 5", "lookbehind", _without_closure(Lookahead))
    yield one("Lookahead+SAM, k = 5", lambda base: Lookahead(SAM(base)))
    yield one("SAM, every 10th step", lambda base: SAM(base, when=Every(10)))
    for name, record in METHODS.items():
        if name in ("sam", "asam", "multistep_sam", "lookahead", "lookbehind"):
            continue
        made = around(record.build) if record.closures == 1 else _in_parts(record)
        yield Contender(record.title, "lookbehind", made, name in ("momentum_sam", "gsam"))


def plain() -> Iterator[Contender]:
    yield Contender("the base alone", "torch", _without_closure(lambda base: base))
    for k in (2, 10):
        literal = around(lambda base, k=k: LiteralLookbehind(base, k=k))
        yield Contender(f"Lookbehind, 2k gradients, k = {k}", "algorithm 1", literal, k == 2)


def theirs() -> Iterator[Contender]:
    """Yield what other packages have, of those that are installed."""
    if find_spec("pytorch_optimizer"):
        po = import_module("pytorch_optimizer")
        owner = "pytorch_optimizer 4.1.0"
        yield Contender("SAM", owner, _after_a_gradient(po.SAM))
        yield Contender("SAM, foreach", owner, _after_a_gradient(lambda *a, **o: po.SAM(*a, foreach=True, **o)), False)
        yield Contender("ASAM", owner, _after_a_gradient(lambda *a, **o: po.SAM(*a, adaptive=True, **o)), False)
        yield Contender("LookSAM", owner, _after_a_gradient(po.LookSAM), False)
        yield Contender("FriendlySAM", owner, _after_a_gradient(po.FriendlySAM), False)
        yield Contender("WSAM", owner, lambda m, kind, o: po.WSAM(m, m.parameters(), kind, **o).step, False)
        yield Contender("GSAM", owner, _gsam(po), False)
        yield Contender("Lookahead, k = 5", owner, _without_closure(po.Lookahead))
    if find_spec("sam"):
        sam = import_module("sam")
        make = lambda m, kind, o: sam.SAM(list(m.parameters()), kind(m.parameters(), **o)).step  # noqa: E731
        yield Contender("SAM", "sam-pytorch 0.0.1", make)
    if find_spec("unifiedsam"):
        unified = import_module("unifiedsam").unifiedSAM
        made = _after_a_gradient(lambda *a, **o: unified(*a, rho=0.05, lambd=1.0, **o))
        yield Contender("SAM", "unifiedsam 1.0.0", made)
    if find_spec("temperon"):
        temperon = import_module("temperon").Temperon
        made = around(lambda base: temperon(base, total_steps=10**9, tail_frac=1.0))
        yield Contender("SAM", "temperon 0.1.1", made, False)
    if find_spec("torch_optimizer"):
        made = _without_closure(import_module("torch_optimizer").Lookahead)
        yield Contender("Lookahead, k = 5", "torch-optimizer 0.3.0", made)
    if find_spec("lookahead_pytorch"):
        made = _without_closure(import_module("lookahead_pytorch").Lookahead)
        yield Contender("Lookahead, k = 5", "torch2-look-ahead 0.1.0", made, False)


def _gsam(po: Any) -> Callable[..., Step]:
    """Its closure returns outputs too, and its radius comes from a scheduler."""

    def step(model: nn.Module, kind: type[Optimizer], options: dict[str, Any]) -> Step:
        radius = SimpleNamespace(step=lambda: 0.05)
        optimizer = po.GSAM(model.parameters(), kind(model.parameters(), **options), model, radius)
        return lambda closure: optimizer.step(lambda: (None, closure().detach()))

    return step


CONTENDERS = (*plain(), *ours(), *theirs())
