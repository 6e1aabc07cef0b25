"""Provenance of a number: the setting that won, how it was chosen, its seeds, and the curves of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lookbehind.lab.cell import AnyCell, Candidate, Cell, Derived, Value, evaluate
from lookbehind.lab.estimate import duration
from lookbehind.lab.lookup import Results
from lookbehind.lab.page.svg import Curves
from lookbehind.lab.run import Run


@dataclass(frozen=True)
class Seed:
    """One run of the setting: what it gave, and what it cost."""

    seed: int
    number: str
    state: str
    epochs: str
    gradients: str
    time: str
    address: str  # the folder of the store


@dataclass(frozen=True)
class Rival:
    """A setting that competed: the mean of what selects, and of what is reported."""

    label: str
    selected_by: str
    reported: str
    remark: str
    won: bool


@dataclass(frozen=True)
class Behind:
    """All that is told of a number."""

    id: str
    place: tuple[str, str, str]  # the names of its part, row and column
    text: str
    remark: str
    metric: str
    rule: tuple[str, ...]
    selects: str  # the name of what selects, where several settings compete
    setting: tuple[tuple[str, str], ...]
    seeds: tuple[Seed, ...]
    rivals: tuple[Rival, ...]
    curve: str


def behind(
    cell: AnyCell,
    value: Value,
    results: Results,
    curves: Curves,
    name: str,
    place: tuple[str, str, str],
    digits: int,
) -> Behind:
    """Collect what stands behind a number, or behind the lack of one.

    Args:
        cell: as declared.
        value: what it came to.
        results: where its runs are looked up.
        curves: to which the drawing of its runs is added.
        name: the id in the page.
        place: the names of its part, row and column.
        digits: after the decimal point.

    """
    settled = cell.settle(results) if isinstance(cell, Derived) else cell
    known = settled if isinstance(settled, Cell) else None
    shown = value.winner
    if shown is None and known is not None and len(known.candidates) == 1:
        shown = known.candidates[0]
    runs = () if shown is None else shown.runs
    several = known is not None and len(known.candidates) > 1
    return Behind(
        id=name,
        place=place,
        text=value.text(digits),
        remark=value.remark,
        metric=cell.metric.name,
        rule=_rule(cell, known, value, results),
        selects=(known.select_by or known.metric).name if known is not None and several else "",
        setting=_setting(runs),
        seeds=tuple(_seed(run, value, results) for run in runs),
        rivals=_rivals(known, value, results, digits) if known is not None and several else (),
        curve=curves.of(runs),
    )


def _rule(cell: AnyCell, known: Cell | None, value: Value, results: Results) -> tuple[str, ...]:
    sentences = []
    if isinstance(cell, Derived):
        winners = [evaluate(source, results).winner for source in cell.of]
        labels = "; ".join("not known" if winner is None else winner.label or "its one setting" for winner in winners)
        sentences.append(f"The setting follows from what won elsewhere: {labels}.")
    if known is not None and len(known.candidates) > 1:
        judge = known.select_by or known.metric
        best = "highest" if judge.higher_is_better else "lowest"
        sentences.append(
            f"Of {len(known.candidates)} settings the one with the {best} mean over seeds of {judge.name} is shown."
        )
    elif known is not None and not isinstance(cell, Derived):
        sentences.append("There is one setting; nothing was selected.")
    if value.std is not None:
        ddof = 1 if known is None else known.ddof
        pooled = "seeds" if value.n == len(value.by_seed) else "numbers, several draws of each seed"
        sentences.append(f"± is the standard deviation of {value.n} {pooled}, with divisor n − {ddof}.")
    return tuple(sentences)


def _setting(runs: Sequence[Run]) -> tuple[tuple[str, str], ...]:
    """Return all fields of a run but its seed; of methods those that are not at their default."""
    if not runs:
        return ()
    run = runs[0]
    fields = dict(run.workload.model_dump(exclude_none=True))
    first = run.method.model_dump(exclude_defaults=True)
    if run.later is None:
        fields |= first
    else:
        fields["epochs of the first method"] = run.switch
        fields |= {f"first: {name}": item for name, item in first.items()}
        fields |= {f"later: {name}": item for name, item in run.later.model_dump(exclude_defaults=True).items()}
    return tuple((name.replace("_", " "), _written(item)) for name, item in fields.items() if item != ())


def _written(item: Any) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, tuple):
        return ", ".join(map(_written, item))
    return f"{item:g}" if isinstance(item, float) else str(item)


def _seed(run: Run, value: Value, results: Results) -> Seed:
    result, number = results.result(run), value.by_seed.get(run.seed)
    if result is None:
        reason = results.failure(run)
        return Seed(run.seed, "", "missing" if reason is None else f"failed: {reason}", "", "", "", run.address)
    return Seed(
        seed=run.seed,
        number="" if number is None else f"{number:.6g}",
        state=result.status if number is not None or result.status == "diverged" else "finished, without the number",
        epochs=str(len(result.records)),
        gradients=f"{result.gradients:,}",
        time=duration(result.seconds / 3600),
        address=run.address,
    )


def _rivals(cell: Cell, value: Value, results: Results, digits: int) -> tuple[Rival, ...]:
    return tuple(_rival(cell, candidate, value, results, digits) for candidate in cell.candidates)


def _rival(cell: Cell, candidate: Candidate, value: Value, results: Results, digits: int) -> Rival:
    alone = evaluate(replace(cell, candidates=(candidate,)), results)
    judged = alone
    if cell.select_by is not None:
        judged = evaluate(replace(cell, candidates=(candidate,), metric=cell.select_by, select_by=None), results)
    won = candidate == value.winner
    return Rival(candidate.label or "—", judged.text(digits), alone.text(digits), alone.remark, won)
