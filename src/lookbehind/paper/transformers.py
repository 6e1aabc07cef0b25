"""A column of Table 4: a transformer, and what is tried on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lookbehind.lab.cell import Candidate
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.grids import grid
from lookbehind.lab.translation import Translation
from lookbehind.paper.methods import named
from lookbehind.paper.workloads import Rule

K, ALPHA = 2, 0.8


def variants(rule: Rule) -> dict[str, dict[str, Any]]:
    """Return the rows of SAM or of ASAM by their names in the paper, with what a ``Method`` needs beside rule and ρ."""
    name = named("Lookbehind", rule)
    switching = {"kind": "lookbehind", "k": K, "switching": True}
    return {
        named("SAM", rule): {"kind": "sam"},
        name: {**switching, "alpha": ALPHA},
        f"{name} + adaptive alpha": {**switching, "alpha": "adaptive"},
    }


@dataclass(frozen=True)
class Task:
    """A workload, the values of ρ among which the best is reported, of SAM and of ASAM, and seeds."""

    title: str
    workload: Translation | FineTuning
    sam: tuple[float, ...]
    asam: tuple[float, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    def candidates(self, rule: Rule, kind: str, **settings: Any) -> tuple[Candidate, ...]:
        """Return a method at each ρ of its rule."""
        radii = self.sam if rule == "sam" else self.asam
        return grid(self.workload, kind, self.seeds, perturbation=rule, rho=radii, **settings)

    @property
    def plain(self) -> tuple[Candidate, ...]:
        """The base optimizer alone."""
        return grid(self.workload, "base", self.seeds)
