"""One row per optimizer. A new optimizer joins the whole conformance suite with one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from lookbehind import S2SAM, SAM, Adaptive, FractionSAM, Lookahead, Lookbehind, MomentumSAM, MultistepSAM
from lookbehind.methods import METHODS, Record


@dataclass(frozen=True)
class Row:
    """An optimizer under test, and what the contract says of it in numbers."""

    name: str
    make: Callable[..., Optimizer]  # (base, **common arguments) -> optimizer
    calls: int  # closure calls of one step
    copies: int  # parameter-sized tensors kept from step to step, beyond the base optimizer's
    transients: float = 1  # parameter-sized tensors more at the peak inside a step
    transients_on_host: float = 0  # the same with weights on the CPU, where ε is not written
    own_model: bool = True  # takes model=
    own_ascent: bool = True  # takes sync_ascent=False
    clean: bool = True  # the first evaluation of a step is at the unperturbed weights


def _lookahead(base: Optimizer, **common: Any) -> Lookahead:
    return Lookahead(base, k=3, alpha=0.6, **common)


def _lookahead_sam(base: Optimizer, **common: Any) -> Lookahead:
    return Lookahead(SAM(base, rho=0.1), k=3, alpha=0.6, **common)


class _Switching(Lookbehind):
    """Minibatch switching. The tests pass one closure; it stands here for each of the k minibatches."""

    def _closures(self, closure: Any) -> Any:
        return super()._closures([closure] * self.k if callable(closure) else closure)


ASAM = {"transients": 2, "transients_on_host": 2}
FOLLOWING = {"transients": 0.25}  # a byte for each weight tells which were changed since
ROWS = [
    Row("SAM", lambda base, **c: SAM(base, rho=0.1, **c), calls=2, copies=1),
    Row("ASAM", lambda base, **c: SAM(base, rho=0.5, perturbation="asam", **c), calls=2, copies=1, **ASAM),
    Row("MultistepSAM-last", lambda base, **c: MultistepSAM(base, rho=0.1, k=3, **c), calls=4, copies=1),
    Row("MultistepSAM-mean", lambda base, **c: MultistepSAM(base, 0.1, k=3, gradient="mean", **c), calls=4, copies=2),
    Row("Lookahead-SGD", _lookahead, calls=1, copies=2, **FOLLOWING, own_model=False),
    Row("Lookahead-SAM", _lookahead_sam, calls=2, copies=3, own_model=False),
    Row(
        "Lookbehind",
        lambda base, **c: Lookbehind(base, rho=0.1, k=3, alpha=0.6, **c),
        calls=4,
        copies=2,
        transients_on_host=1,
    ),
    Row(
        "Lookbehind-adaptive",
        lambda base, **c: Lookbehind(base, 0.1, k=3, alpha="adaptive", **c),
        calls=4,
        copies=3,
        transients_on_host=1,
    ),
    Row(
        "Lookbehind-per-tensor",
        lambda base, **c: Lookbehind(base, 0.1, k=3, alpha="adaptive_per_tensor", **c),
        calls=4,
        copies=3,
        transients_on_host=1,
    ),
    Row(
        "Lookbehind-ASAM",
        lambda base, **c: Lookbehind(base, 0.5, k=3, perturbation=Adaptive(eta=0.1), **c),
        calls=4,
        copies=2,
        **ASAM,
    ),
    Row(
        "Lookbehind-switching",
        lambda base, **c: _Switching(base, 0.1, k=3, alpha=0.6, **c),
        calls=6,
        copies=2,
        transients_on_host=1,
    ),
]


def _repeating(kind: type, closures: int) -> Any:
    """Methods of several closures a step: the tests pass one, which stands here for each of them."""
    name = f"{kind.__name__}{closures}"
    if name not in globals():

        def _closures(self: Any, closure: Any) -> Any:
            return kind._closures(self, [closure] * closures if callable(closure) else closure)

        # A name of this module, so that it can be pickled.
        globals()[name] = type(name, (kind,), {"_closures": _closures, "__module__": __name__})
    return globals()[name]


def row_of(record: Record) -> Row:
    kind = record.kind if record.closures == 1 else _repeating(record.kind, record.closures)
    return Row(
        record.title,
        lambda base, **common: kind(base, **{"rho": 0.1, **record.trial, **common}),
        calls=round(record.gradients(1, **record.trial)) if record.closures == 1 else record.closures,
        copies=record.copies,
        transients=record.peak,
        transients_on_host=record.peak_on_host,
        own_ascent="sync_ascent" not in record.kind.refuses,
        clean=record.kind.returns_clean_loss,
    )


WITH_ROWS_OF_THEIR_OWN = ("sam", "asam", "multistep_sam", "lookahead", "lookbehind")
FIRST = len(ROWS)  # those after it are the family's: variations on the same steps
ROWS.append(
    Row(
        "Momentum-SAM-displacement",
        lambda base, **c: MomentumSAM(base, 0.1, along="displacement", **c),
        calls=1,
        copies=2,
        transients=1,
        own_ascent=False,
        clean=False,
    )
)
S2_SAM_3 = {"calls": 3, "copies": 4, "transients_on_host": 1, "own_ascent": False, "clean": False}
ROWS.append(Row("S2-SAM-3", lambda base, **c: _repeating(S2SAM, 3)(base, 0.1, k=3, alpha=0.6, **c), **S2_SAM_3))
ROWS.append(
    Row(
        "Fraction-SAM-rest",
        lambda base, **c: _repeating(FractionSAM, 2)(base, 0.1, descend="rest", **c),
        calls=2,
        copies=2,
        own_ascent=False,
    )
)
ROWS += [row_of(record) for name, record in METHODS.items() if name not in WITH_ROWS_OF_THEIR_OWN]

FAMILY = {row.name for row in ROWS[FIRST:]}

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

BASES: dict[str, Callable[[Any], Optimizer]] = {
    "momentum": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=1e-2),
}
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())


class Task:
    """A small regression: a net, minibatches, and an ordinary closure for each minibatch."""

    def __init__(self, *, norm: bool = False, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        layers = [nn.Linear(4, 6), nn.BatchNorm1d(6) if norm else nn.Tanh(), nn.Linear(6, 2)]
        self.net = nn.Sequential(*layers).to(dtype)
        with torch.no_grad():
            for p in self.net.parameters():
                p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
        self.inputs = torch.randn(8, 10, 4, generator=generator, dtype=torch.float64).to(dtype)
        self.targets = torch.randn(8, 10, 2, generator=generator, dtype=torch.float64).to(dtype)
        self.calls = 0

    def loss(self, i: int) -> Tensor:
        return nn.functional.mse_loss(self.net(self.inputs[i % 8]), self.targets[i % 8])

    def closure(self, i: int = 0) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            self.calls += 1
            self.net.zero_grad()
            loss = self.loss(i)
            loss.backward()
            return loss

        return closure

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.net.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return len(a) == len(b) and all(
        x.dtype == y.dtype and torch.allclose(x, y, rtol=0, atol=0, equal_nan=True) for x, y in zip(a, b, strict=True)
    )


def state_tensors(optimizer: Optimizer) -> list[Tensor]:
    """All tensors and numbers of an optimizer's state_dict, in order."""
    saved = optimizer.state_dict()
    values = [v for entry in saved["state"].values() for v in entry.values()]
    values += [v for group in saved["param_groups"] for k, v in sorted(group.items()) if isinstance(v, (int, float))]
    return [torch.as_tensor(v).clone() for v in values if v is not None]


class Synchronisations(TorchDispatchMode):
    """Counts operations that make the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name.startswith(
            ("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero")
        ):
            self.found.append(name)
        return func(*args, **(kwargs or {}))
