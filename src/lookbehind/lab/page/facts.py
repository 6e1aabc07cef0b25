"""Facts of a page about its runs: their number, cost and environments, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lookbehind.lab.cell import Derived, Value
from lookbehind.lab.estimate import Device, duration, estimate
from lookbehind.lab.lookup import Results
from lookbehind.lab.parts import Part, cells
from lookbehind.lab.report import tasks_now
from lookbehind.lab.result import Result
from lookbehind.lab.run import Measurement, Run

STATES = ("finished", "not measured", "diverged", "failed", "missing")  # in this order
OPEN = ("not measured", "failed", "missing")


@dataclass(frozen=True)
class Facts:
    """All that is stated.

    ``states`` has the number of runs by state; ``missing`` and ``failed`` what they are; ``planned`` the cost of all,
    ``gradients`` and ``seconds`` that of those that are done.
    """

    states: dict[str, int]
    seeds: tuple[int, ...]
    planned: str
    gradients: int
    seconds: float
    trained_with: tuple[tuple[str, tuple[str, ...]], ...]
    missing: tuple[str, ...]
    failed: tuple[tuple[str, int], ...]
    waiting: int  # cells

    @property
    def runs(self) -> int:
        """Return the number of runs."""
        return sum(self.states.values())

    @property
    def open(self) -> int:
        """Return how many have still to be done or measured."""
        return sum(self.states.get(state, 0) for state in OPEN)

    @property
    def summary(self) -> str:
        """Say how many runs are in which state.

        Example:
            >>> Facts({"finished": 8, "missing": 1}, (), "", 0, 0.0, (), (), (), 0).summary
            '9 runs: 8 finished, 1 missing'

        """
        counts = ", ".join(f"{count:,} {state}" for state, count in self.states.items())
        return f"{self.runs:,} runs: {counts}" if counts else "no runs"


def facts(parts: Sequence[Part], results: Results, device: Device | None) -> Facts:
    """Collect what is stated of the runs of some parts, each counted once.

    Args:
        parts: of one item, or of several.
        results: where they are looked up.
        device: what the planned cost is estimated for. None: no estimate.

    """
    needed = tasks_now(parts, results)
    states = {run: _state(run, measurements, results) for run, measurements in needed}
    found = [result for run in states if (result := results.result(run)) is not None]
    counted = Counter(states.values())
    settled = [cell.settle(results) for part in parts for cell in cells(part) if isinstance(cell, Derived)]
    return Facts(
        states={state: counted[state] for state in STATES if counted[state]},
        seeds=tuple(sorted({run.seed for run in states})),
        planned=_planned(parts, results, device),
        gradients=round(sum(result.gradients for result in found)),
        seconds=sum(result.seconds for result in found),
        trained_with=_trained_with(found),
        missing=_missing(states),
        failed=tuple(Counter(str(results.failure(run)) for run in states if states[run] == "failed").items()),
        waiting=sum(isinstance(value, Value) and value.waiting for value in settled),
    )


def _state(run: Run, measurements: Sequence[Measurement], results: Results) -> str:
    result = results.result(run)
    if result is None:
        return "missing" if results.failure(run) is None else "failed"
    if result.status == "diverged":
        return "diverged"
    known = all(results.measured(run, measurement) is not None for measurement in measurements)
    return "finished" if known else "not measured"


def _planned(parts: Sequence[Part], results: Results, device: Device | None) -> str:
    if device is None:
        return ""
    try:
        cost = estimate(parts, device, results)
    except ValueError as error:  # data of the user's own, whose size is not known
        return str(error)
    return f"{cost.gradients:,} gradient evaluations; about {duration(cost.hours)} on {cost.device}"


def _missing(states: dict[Run, str]) -> tuple[str, ...]:
    groups = Counter(f"{run.workload.title}: {_named(run)}, {state}" for run, state in states.items() if state in OPEN)
    return tuple(f"{group}: {count}" for group, count in groups.items())


def _named(run: Run) -> str:
    methods = (run.method,) if run.later is None else (run.method, run.later)
    return " then ".join(method.title for method in methods)


def _trained_with(found: Sequence[Result]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return every library, machine and version of the code that runs were trained with."""
    seen: dict[str, dict[str, None]] = {}
    for result in found:
        for environment in result.environments:
            known = {**environment.get("libraries", {}), **environment}
            for name, value in known.items():
                if name not in ("libraries", "after") and value is not None:
                    seen.setdefault(name.replace("_", " "), {})[str(value)] = None
    return tuple((name, tuple(values)) for name, values in seen.items())
