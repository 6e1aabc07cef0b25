"""A cell of a table or a point of a figure: the settings that compete for it, and what it comes to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

from lookbehind.lab.lookup import Results, remembered
from lookbehind.lab.metrics import Metric, accuracy_at_best_validation, best_test_accuracy, best_validation_accuracy
from lookbehind.lab.run import Run
from lookbehind.lab.statistics import FEWEST, mean, shown, std


@dataclass(frozen=True)
class Published:
    """A number that was published, and its standard deviation if that was too."""

    mean: float
    std: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One setting that competes for a cell: a label such as "ρ=0.1, k=5", and its runs, one for each seed."""

    label: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Cell:
    """Candidates, of which the best by its mean over seeds is reported.

    Args:
        candidates: what competes. None: a cell with nothing but a published number.
        metric: what is reported.
        select_by: what decides. Default: ``metric`` itself, which is the paper's habit.
        published: the paper's number.
        ddof: divisor n − ddof of the standard deviation. Default 1.
        partial: whether a single setting is reported with the seeds that have the number, though others diverged or are
            not finite. A diverged run has the metrics of its record, and no measurement. Default False.

    """

    candidates: tuple[Candidate, ...]
    metric: Metric = field(default_factory=best_test_accuracy)
    select_by: Metric | None = None
    published: Published | None = None
    ddof: int = 1
    partial: bool = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Return the metrics that are read off each run."""
        return (self.metric,) if self.select_by is None else (self.metric, self.select_by)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """All runs of all candidates."""
        return tuple(run for candidate in self.candidates for run in candidate.runs)


def chosen_on_validation(candidates: Iterable[Candidate]) -> Cell:
    """Return a cell whose setting and epoch are chosen on validation images; test accuracy is reported."""
    return Cell(tuple(candidates), accuracy_at_best_validation(), best_validation_accuracy())


@dataclass(frozen=True)
class Derived:
    """A cell whose one setting follows from the winners of other cells, and so is not known before they are done.

    Args:
        of: the cells whose winners decide.
        make: from these winners to the one candidate; a function or value that compares by what it does.
        metric: what is reported.
        published: the paper's number.

    """

    of: tuple[Cell, ...]
    make: Callable[..., Candidate]
    metric: Metric = field(default_factory=best_test_accuracy)
    published: Published | None = None

    @cached_property
    def possible(self) -> tuple[Candidate, ...]:
        """Every candidate that it can come to."""
        return tuple(self.make(*winners) for winners in product(*(cell.candidates for cell in self.of)))

    def settle(self, results: Results) -> Cell | Value:
        """Return the resolved cell, or a placeholder that says why there is none."""
        values = [evaluate(cell, results) for cell in self.of]
        if any(value.open for value in values):
            return Value(waiting=True, published=self.published)
        for value in values:
            if value.winner is None:  # such as all diverged
                return replace(value, published=self.published)
        return Cell((self.make(*(value.winner for value in values)),), self.metric, None, self.published)


AnyCell = Cell | Derived


@dataclass(frozen=True)
class Value:
    """Number of a cell, its spread, and the states of its runs.

    ``by_seed`` has the winner's number for each seed (the mean of its draws, where there are several). ``mean`` and
    ``std`` are over all numbers, ``n`` of them; they are None where there is nothing to tell.
    """

    mean: float | None = None
    std: float | None = None
    n: int = 0
    by_seed: Mapping[int, float] = field(default_factory=dict)
    winner: Candidate | None = None
    states: Mapping[str, int] = field(default_factory=dict)  # of all runs of all candidates
    settings: int = 0  # candidates
    complete: int = 0  # candidates all of whose runs are finished
    open: int = 0  # runs that may still change the winner: missing, failed, or not measured
    waiting: bool = False  # for the winners of other cells
    published: Published | None = None
    digits: int | None = None  # after the decimal point, where what is counted decides that

    @property
    def gap(self) -> float | None:
        """Ours minus the published."""
        return None if self.mean is None or self.published is None else self.mean - self.published.mean

    def text(self, digits: int = 2) -> str:
        """Return the number as it stands in a table, or why there is none.

        Example:
            >>> Value(mean=96.271, std=0.068).text(), Value(states={"diverged": 1, "finished": 2}).text()
            ('96.27 ± 0.07', 'N/A (diverged)')

        """
        if self.mean is not None:
            digits = digits if self.digits is None else self.digits
            spread = "" if self.std is None else f" ± {shown(self.std, digits)}"
            return f"{shown(self.mean, digits)}{spread}"
        if self.waiting:
            return "waiting"
        # The last runs of a single setting cannot mend it; those of other settings can.
        order = ("missing", "failed", "diverged", "not finite")
        for state in order if self.settings > 1 else ("diverged", "not finite", "missing", "failed"):
            if self.states.get(state):
                return "N/A (diverged)" if state == "diverged" else state
        return "—"

    @property
    def remark(self) -> str:
        """Return the footnote of an incomplete result; empty if it is complete."""
        if self.waiting:
            return "its settings follow from cells that are not done"
        runs = sum(self.states.values())
        remarks = [f"{count} of {runs} runs {state}" for state, count in self.states.items() if state != "finished"]
        if self.winner is not None and len(self.by_seed) < len(self.winner.runs):
            remarks.insert(0, f"{len(self.by_seed)} of {len(self.winner.runs)} seeds")
        elif self.winner is not None and self.complete < self.settings:
            remarks.insert(0, f"the best of {self.complete} of {self.settings} settings")
        return "; ".join(remarks)


@dataclass(frozen=True)
class _Reading:
    """State of one run, and if that is "finished" the numbers of each metric."""

    state: str
    numbers: tuple[tuple[float, ...], ...] = ()


def evaluate(cell: AnyCell, results: Results) -> Value:
    """Read a cell's runs and choose among its candidates.

    A candidate competes if all its runs are finished; one with a diverged run is out of the running, as in the paper,
    whose tables say N/A. A single candidate is reported with the seeds that there are. Of equal candidates the first
    wins.

    Args:
        cell: what is to be evaluated.
        results: where runs are looked up.

    Returns:
        A ``Value``. Numbers are never made up: without a winner there is no mean, and ``text()`` says why.

    """
    results = remembered(results)
    if cell not in results.values:
        results.values[cell] = _evaluated(cell, results)
    value: Value = results.values[cell]
    return value


def _evaluated(cell: AnyCell, results: Results) -> Value:
    if isinstance(cell, Derived):
        settled = cell.settle(results)
        return evaluate(settled, results) if isinstance(settled, Cell) else settled
    readings = [[_read(run, cell, results) for run in candidate.runs] for candidate in cell.candidates]
    whole = [i for i, each in enumerate(readings) if each and all(r.state == "finished" for r in each)]
    states = Counter(r.state for each in readings for r in each)
    value = Value(
        states=dict(states),
        settings=len(readings),
        complete=len(whole),
        open=states["missing"] + states["failed"],
        published=cell.published,
        digits=cell.metric.digits,
    )
    i = _best(cell, readings, whole)
    if i is None:
        return value
    runs = cell.candidates[i].runs
    numbers = {run.seed: r.numbers[0] for run, r in zip(runs, readings[i], strict=True) if r.state == "finished"}
    pooled = [number for each in numbers.values() for number in each]
    return replace(
        value,
        mean=mean(pooled),
        std=std(pooled, cell.ddof) if len(numbers) >= FEWEST else None,
        n=len(pooled),
        by_seed={seed: mean(each) for seed, each in numbers.items()},
        winner=cell.candidates[i],
    )


def _best(cell: Cell, readings: list[list[_Reading]], whole: list[int]) -> int | None:
    """Return the index of the winner; None if there is none."""
    if not whole:
        states = {r.state for r in readings[0]} if len(readings) == 1 else set()
        return 0 if "finished" in states and (cell.partial or states <= {"finished", "missing", "failed"}) else None
    judge = cell.metrics[-1]
    sign = 1 if judge.higher_is_better else -1
    return max(whole, key=lambda i: sign * mean([mean(r.numbers[-1]) for r in readings[i]]))


def _read(run: Run, cell: Cell, results: Results) -> _Reading:
    result = results.result(run)
    if result is None:
        return _Reading("missing" if results.failure(run) is None else "failed")
    diverged = result.status == "diverged"
    if diverged and not cell.partial:
        return _Reading("diverged")
    numbers = []
    for metric in cell.metrics:
        measured = {} if metric.measurement is None else results.measured(run, metric.measurement)
        if measured is None:
            return _Reading("diverged" if diverged else "missing")
        values = metric.of(result, measured)
        if not values:
            return _Reading("without the number")
        if any(value is None or not math.isfinite(value) for value in values):
            return _Reading("not finite")
        numbers.append(tuple(value for value in values if value is not None))
    return _Reading("finished", tuple(numbers))


def cells_of(cell: AnyCell) -> Iterator[Cell]:
    """Yield the cells that stand for themselves: a cell, or those that a derived one follows from."""
    if isinstance(cell, Derived):
        yield from cell.of
    else:
        yield cell
