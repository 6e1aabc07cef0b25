"""Entrants of the league, and what each may tune: eight settings, the most promising first, so that fewer can be tried.

A setting of the workload, as its learning rate, is in units of the recipe's own.

The grids follow the published values of each method, an octave around them; ``docs/league.md`` shows which won.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lookbehind.lab.cell import Candidate
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.grids import grid
from lookbehind.lab.run import Workload
from lookbehind.lab.stream import Stream

Trained = Workload | FineTuning | Stream

RADII = (0.1, 0.2, 0.4, 0.05, 0.3, 0.6, 0.8, 0.025)
RATES = (1.0, 2.0, 0.5, 4.0)
LARGE_RADII = (
    0.3,
    1.0,
    0.1,
    3.0,
    0.2,
    0.6,
    2.0,
    0.05,
)  # of ascents along a momentum, for which papers have larger ones


@dataclass(frozen=True)
class Entrant:
    """A method and the settings that it may try.

    Args:
        kind: the method, as ``Method`` names it.
        settings: values of its options, and multiples of the workload's fields, one dict a trial.
        group: "one gradient", "up to two", "two and more", "rivals".
        stops_early: whether the epoch is chosen on validation images, not only the setting.

    """

    kind: str
    settings: tuple[dict[str, Any], ...]
    group: str
    stops_early: bool = False

    def candidates(self, workload: Trained, seeds: Sequence[int], budget: float, trials: int) -> tuple[Candidate, ...]:
        """Return its first trials as candidates, each trained for the budget."""
        first = self.settings[0]
        tuned = {name for name in first if any(setting[name] != first[name] for setting in self.settings)}
        settings = [_of(workload, setting) for setting in self.settings[:trials]]
        found: Iterable[tuple[Candidate, ...]] = (
            grid(
                workload, self.kind, seeds, budget=budget, **{n: (v,) if n in tuned else v for n, v in setting.items()}
            )
            for setting in settings
        )
        return tuple(chain.from_iterable(found))


def _of(workload: Trained, setting: dict[str, Any]) -> dict[str, Any]:
    """Return a setting for a workload: multiples of its fields become values."""
    own = {name: getattr(workload, name) for name in setting if name in type(workload).model_fields}
    return setting | {name: type(value)(value * setting[name]) for name, value in own.items()}


def _by(**choices: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Return settings of which each differs from the first by all values of the first option, then of the others."""
    (name, values), *others = choices.items()
    found = [{name: value} for value in values]
    for other, options in others:
        found = [{**setting, other: option} for option in options for setting in found]
    return tuple(found)


HALVES = {"minibatches": 2, "batch": 0.5}  # micro-batches of half the size, two a step
ONE, TWO, MORE, RIVALS = "one gradient", "up to two gradients", "more gradients", "rivals at SGD's price"

ENTRANTS: dict[str, Entrant] = {
    "SGD": Entrant("base", _by(lr=RATES, weight_decay=(1.0, 10.0)), RIVALS),
    "SGD, stopped early": Entrant("base", _by(lr=RATES, weight_decay=(1.0, 10.0)), RIVALS, True),
    "EMA of the weights": Entrant("ema", _by(decay=(0.99, 0.999, 0.9, 0.995), lr=RATES[:2]), RIVALS),
    "SWA": Entrant("swa", _by(start=(0.75, 0.5), lr=RATES), RIVALS),
    "Lookahead": Entrant("lookahead", _by(alpha=(0.5, 0.8), lr=RATES[:2], k=(5, 10)), RIVALS),
    "Momentum-SAM": Entrant("momentum_sam", _by(rho=LARGE_RADII), ONE),
    "Momentum-SAM, either way": Entrant("momentum_sam_either_way", _by(rho=LARGE_RADII), ONE),
    "Lookahead around Momentum-SAM": Entrant("lookahead_momentum_sam", _by(rho=LARGE_RADII[:4], alpha=(0.5, 0.8)), ONE),
    "S2-SAM": Entrant("s2_sam", _by(rho=RADII), ONE),
    "Fraction-SAM, rest": Entrant(
        "fraction_sam",
        tuple({"descend": "rest", **setting} for setting in _by(rho=RADII[:4], fraction=(0.25, 0.5))),
        ONE,
    ),
    "Climb while accumulating": Entrant(
        "accumulating_sam", tuple({**HALVES, **setting} for setting in _by(rho=RADII)), ONE
    ),
    "Fraction-SAM": Entrant("fraction_sam", _by(rho=RADII[:4], fraction=(0.25, 0.5)), TWO),
    "LookSAM": Entrant("looksam", _by(rho=RADII[:4], every=(5, 2)), TWO),
    "SAM": Entrant("sam", tuple({"perturbation": "sam", **setting} for setting in _by(rho=RADII)), TWO),
    "ASAM": Entrant("asam", _by(rho=(0.5, 1.0, 2.0, 0.25, 1.5, 3.0, 4.0, 6.0)), TWO),
    "GSAM": Entrant("gsam", _by(rho=RADII[:4], alpha=(0.1, 0.4)), TWO),
    "GNP": Entrant("gnp", _by(rho=RADII[:4], alpha=(0.8, 0.5)), TWO),
    "WSAM": Entrant("wsam", _by(rho=RADII[:4], gamma=(0.9, 0.7)), TWO),
    "StableSAM": Entrant("stable_sam", _by(rho=RADII), TWO),
    "Friendly-SAM": Entrant("friendly_sam", _by(rho=RADII[:4], lam=(0.9, 0.6)), TWO),
    "VaSSO": Entrant("vasso", _by(rho=RADII[:4], theta=(0.9, 0.4)), TWO),
    "XSAM": Entrant("xsam", _by(rho=RADII[:4], alpha=(0.7, 1.3)), TWO),
    "Lookahead around SAM": Entrant("lookahead_sam", _by(rho=RADII[:4], alpha=(0.5, 0.8)), TWO),
    "Multistep-SAM, k = 2": Entrant(
        "multistep", tuple({"perturbation": "sam", "k": 2, "gather": "last", **s} for s in _by(rho=RADII)), MORE
    ),
    "Lookbehind, k = 2": Entrant(
        "lookbehind",
        tuple({"perturbation": "sam", "k": 2, **s} for s in _by(rho=RADII[:4], alpha=(0.8, 0.5))),
        MORE,
    ),
    "Lookbehind, k = 2, adaptive α": Entrant(
        "lookbehind", tuple({"perturbation": "sam", "k": 2, "alpha": "adaptive", **s} for s in _by(rho=RADII)), MORE
    ),
}

WHEN: dict[str, Entrant] = {  # at one and a quarter gradients a step
    "SGD": ENTRANTS["SGD"],
    "first quarter": Entrant("sam_early", _by(rho=RADII), TWO),
    "last quarter": Entrant("sam_late", _by(rho=RADII), TWO),
    "every 4th step": Entrant("sam_every", _by(rho=RADII), TWO),
    "every 4th step, 4 ρ": Entrant("sam_every", tuple({"radius": 4.0, **s} for s in _by(rho=RADII)), TWO),
    "a quarter, drawn": Entrant("sam_sometimes", _by(rho=RADII), TWO),
    "SAM in every step": ENTRANTS["SAM"],
}
