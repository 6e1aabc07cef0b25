"""The streams, methods and grids of section 4.5 and appendix A.6, at three scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lookbehind.lab.cell import Candidate
from lookbehind.lab.grids import grid
from lookbehind.lab.stream import CMAML, Stream

# Table 6.
ETAS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)
KS = (2, 5, 10)
ALPHAS = (0.1, 0.2, 0.5, 0.8, 1.0)
RHOS = (0.005, 0.01, 0.05, 0.1)

# Table 7, for each method its values on Split-CIFAR100 and on Split-TinyImageNet, in the order η, ρ, k, α.
SYMBOLS = ("η", "ρ", "k", "α")
BEST: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "SGD": ((0.03,), (0.03,)),
    "SAM": ((0.03, 0.05), (0.03, 0.05)),
    "Multistep-SAM": ((0.01, 0.01, 2), (0.03, 0.05, 2)),
    "Lookbehind-SAM": ((0.1, 0.05, 10, 0.1), (0.01, 0.05, 10, 0.1)),
    "ER + SAM": ((0.1, 0.05), (0.03, 0.1)),
    "ER + Multistep-SAM": ((0.1, 0.05, 10), (0.03, 0.1, 10)),
    "ER + Lookbehind-SAM": ((0.03, 0.05, 10, 0.2), (0.01, 0.1, 5, 0.5)),
    "Lookbehind-C-MAML": ((0.03, 0.005, 2, 1), (0.03, 0.1, 2, 1)),
}

METHODS = ("SGD", "SAM", "Multistep-SAM", "Lookbehind-SAM")
ROWS = (*METHODS, *(f"ER + {name}" for name in METHODS), "Lookahead-C-MAML", "Lookbehind-C-MAML")


@dataclass(frozen=True)
class Grid:
    """Values that are tried, each with each."""

    etas: tuple[float, ...]
    rhos: tuple[float, ...]
    ks: tuple[int, ...]
    alphas: tuple[float, ...]


@dataclass(frozen=True)
class Benchmark:
    """A stream of tasks with the grids to learn it with.

    Args:
        title: the head of its columns.
        published: its name and the net's in ``published.csv``; None where the stream is not the paper's.
        stream: without replay, at any η.
        memory: images that are kept for ER and C-MAML.
        grid: of the methods with and without ER.
        sgd: η for SGD.
        lookahead: η for Lookahead-C-MAML, which has k = 5 pieces of two images.
        lookbehind: the grid of Lookbehind-C-MAML.
        seeds: of each setting.

    """

    title: str
    published: tuple[str, str] | None
    stream: Stream
    memory: int
    grid: Grid
    sgd: tuple[float, ...]
    lookahead: tuple[float, ...]
    lookbehind: Grid
    seeds: tuple[int, ...]

    def candidates(self, row: str) -> tuple[Candidate, ...]:
        """Return the settings that compete in a row of Table 2."""
        return _candidates(self, row)

    def shown(self, row: str) -> tuple[Candidate, ...]:
        """Return the settings that compete in figures and at equal budget: of the paper's streams that of Table 7.

        ER + SGD, which it omits, has SGD's.
        """
        every = self.candidates(row)
        if self.published is None or len(every) == 1:
            return every
        best = BEST["SGD" if row == "ER + SGD" else row][self.published[0] != "Split-CIFAR100"]
        label = _label(best)
        return tuple(candidate for candidate in every if candidate.label == label)

    def _made(self, row: str) -> tuple[Candidate, ...]:
        name = row.removeprefix("ER + ")
        changes: dict[str, Any] = {"memory": self.memory} if name != row or "MAML" in row else {}
        if "MAML" in row:
            changes["cmaml"] = CMAML()
        kind, takes = KINDS[name]
        tried = self.lookbehind if name == "Lookbehind-C-MAML" else self.grid
        etas = {"SGD": self.sgd, "Lookahead-C-MAML": self.lookahead}.get(name, tried.etas)
        values: dict[str, Any] = {
            "perturbation": "sam",
            "rho": tried.rhos,
            "k": tried.ks,
            "gather": "last",
            "alpha": tried.alphas,
        }
        if kind == "lookahead":
            values |= {"k": 5, "alpha": 1.0}
        return grid(
            self.stream.model_copy(update=changes),
            kind,
            self.seeds,
            lr=etas,
            **{taken: values[taken] for taken in takes},
        )


@cache
def _candidates(benchmark: Benchmark, row: str) -> tuple[Candidate, ...]:
    return benchmark._made(row)


def _label(values: Sequence[float]) -> str:
    return ", ".join(f"{symbol}={value:g}" for symbol, value in zip(SYMBOLS, values, strict=False))


SAM = ("perturbation", "rho")
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SGD": ("base", ()),
    "SAM": ("sam", SAM),
    "Multistep-SAM": ("multistep", (*SAM, "k", "gather")),
    "Lookbehind-SAM": ("lookbehind", (*SAM, "k", "alpha")),
    "Lookahead-C-MAML": ("lookahead", ("k", "alpha")),
    "Lookbehind-C-MAML": ("lookbehind", (*SAM, "k", "alpha")),
}

CIFAR100 = Stream(
    dataset="cifar100", model="lifelong-conv3", tasks=20, ways=5, lr=ETAS[0], brightness=round(63 / 255, 6)
)
TINY_IMAGENET = Stream(dataset="tiny-imagenet", model="lifelong-conv4", tasks=40, ways=5, lr=ETAS[0])
DIGITS = Stream(
    dataset="digits",
    model="lifelong-conv2",
    tasks=5,
    ways=2,
    train=300,
    validation=300,
    epochs=5,
    augment=False,
    lr=ETAS[0],
)
FASHION = DIGITS.model_copy(update={"dataset": "fashion-mnist", "size": 14, "train": 600, "test": 1000})


@cache
def benchmarks(scale: str) -> tuple[Benchmark, ...]:
    """Return the streams of a scale.

    Raises:
        ValueError: if there is no such scale.

    """
    if scale == "paper":
        full = Grid(ETAS, RHOS, KS, ALPHAS)
        cifar, tiny = ("Split-CIFAR100", "conv3"), ("Split-TinyImageNet", "conv4")
        return (  # η of Lookahead-C-MAML is that of Gupta et al.
            Benchmark("Split-CIFAR100", cifar, CIFAR100, 200, full, ETAS, (0.075,), full, (0, 1, 2)),
            Benchmark("Split-TinyImageNet", tiny, TINY_IMAGENET, 400, full, ETAS, (0.03,), full, (0, 1, 2)),
        )
    if scale == "cpu":
        few, meta = Grid((0.1, 0.03), (0.05,), (2,), (0.5, 1.0)), Grid((0.1, 0.03), (0.005, 0.1), (2,), (1.0,))
        seeds, sgd = (0, 1, 2, 3, 4), (0.1, 0.03, 0.01)
        return (
            Benchmark("Digits, 5 tasks", None, DIGITS, 50, few, sgd, (0.1, 0.03), meta, seeds),
            Benchmark("Fashion-MNIST, 5 tasks", None, FASHION, 50, few, sgd, (0.1, 0.03), meta, seeds),
        )
    if scale == "smoke":
        tiny_grid = Grid((0.1,), (0.05,), (2,), (0.5,))
        stream = DIGITS.model_copy(update={"train": 100, "validation": 100, "test": 100, "epochs": 1})
        return (Benchmark("Digits, 5 tasks", None, stream, 20, tiny_grid, (0.1, 0.03), (0.1,), tiny_grid, (0, 1)),)
    raise ValueError(f"scale is {scale!r}; allowed are smoke, cpu, paper")
