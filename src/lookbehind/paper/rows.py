"""Rows of the paper's tables, and the tables that stand beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lookbehind.lab.budget import beside
from lookbehind.lab.cell import Candidate, Cell
from lookbehind.lab.metrics import Metric, best_epoch, best_test_accuracy
from lookbehind.lab.parts import Part, Row, Table
from lookbehind.lab.report import on_validation
from lookbehind.paper import methods
from lookbehind.paper.methods import named
from lookbehind.paper.published import published, values
from lookbehind.paper.workloads import RULES, Pair, Rule, pairs


class Entry(NamedTuple):
    """A row before it is spread over pairs: its name in ``published.csv``, its group, its candidates on a pair."""

    name: str
    rule: Rule
    candidates: Callable[[Pair], tuple[Candidate, ...]]


SGD = Entry("SGD", "sam", methods.sgd)
LOOKAHEAD_SGD = Entry("Lookahead-SGD", "sam", lambda p: methods.lookahead_sgd(p, p.ks, p.alphas))


def single(rule: Rule) -> Entry:
    """Return SAM or ASAM, ρ tuned."""
    return Entry(named("SAM", rule), rule, lambda p: methods.sam(p, rule, p.radii(rule).tuned))


def multistep(rule: Rule) -> Entry:
    """Return Multistep, k tuned."""
    return Entry(named("Multistep", rule), rule, lambda p: methods.multistep(p, rule, _default(p, rule), p.ks))


def averaging(rule: Rule) -> Entry:
    """Return Multistep with the mean of its gradients, k tuned."""
    name = named("Multistep", rule) + " + average grads"
    return Entry(name, rule, lambda p: methods.multistep(p, rule, _default(p, rule), p.ks, gather="mean"))


def lookahead(rule: Rule) -> Entry:
    """Return Lookahead around SAM or ASAM, k and α tuned."""
    return Entry(
        named("Lookahead", rule), rule, lambda p: methods.lookahead(p, rule, _default(p, rule), p.ks, p.alphas)
    )


def lookbehind(rule: Rule) -> Entry:
    """Return Lookbehind, k and α tuned."""
    return Entry(
        named("Lookbehind", rule), rule, lambda p: methods.lookbehind(p, rule, _default(p, rule), p.ks, p.alphas)
    )


def adaptive(rule: Rule) -> Entry:
    """Return Lookbehind with adaptive α, k tuned."""
    name = named("Lookbehind", rule) + " + adaptive alpha"
    return Entry(name, rule, lambda p: methods.lookbehind(p, rule, _default(p, rule), p.ks, ("adaptive",)))


def _default(pair: Pair, rule: Rule) -> tuple[float]:
    return (pair.radii(rule).default,)


def rows(
    scale: str,
    number: int,
    entries: Sequence[Entry],
    over: Sequence[Pair] | None = None,
    metric: Metric | None = None,
    ddof: int = 1,
    kind: str = "val_accuracy_pct",
) -> tuple[Row, ...]:
    """Return a table's rows, with the paper's numbers at scale paper, where data and models are the paper's.

    The best setting is that of the best test accuracy, whatever the metric.

    Args:
        scale: the scale.
        number: of the paper's table.
        entries: the rows.
        over: the pairs of the columns. Default: those of the scale.
        metric: what is reported. Default: the best test accuracy.
        ddof: of the standard deviation. Default 1.
        kind: the metric's name in ``published.csv``.

    """
    return tuple(
        Row(
            written(entry.name),
            tuple(
                Cell(
                    entry.candidates(pair),
                    metric or best_test_accuracy(),
                    None if metric is None else best_test_accuracy(),
                    published(number, pair.dataset, pair.model, entry.name, kind) if scale == "paper" else None,
                    ddof,
                )
                for pair in over or pairs(scale)
            ),
            group=entry.rule.upper(),
            ranked=metric != best_epoch(),
        )
        for entry in entries
    )


def columns(scale: str) -> tuple[str, ...]:
    """Return the heads of the columns."""
    return tuple(pair.title for pair in pairs(scale))


def of_the_paper(number: int, kind: str = "val_accuracy_pct") -> Table:
    """Return the paper's own table, to stand beside ours at the small scales, where data and models are others."""
    known = {key[1:4]: value for key, value in values().items() if key[0] == str(number) and key[4] == kind}
    heads = dict.fromkeys((dataset, model) for dataset, model, _ in known)
    return Table(
        f"Table {number} of the paper",
        tuple(map(", ".join, heads)),
        tuple(
            Row(
                written(name),
                tuple(Cell((), published=known[dataset, model, name]) for dataset, model in heads),
                group="ASAM" if "ASAM" in name else "SAM",
                ranked=kind != "best_epoch",
            )
            for name in dict.fromkeys(name for _, _, name in known)
        ),
    )


def written(name: str) -> str:
    """Return a row's name as it is shown.

    Example:
        >>> written("Multistep-SAM + average grads"), written("Lookbehind-SAM + adaptive alpha")
        ('Multistep-SAM, mean gradient', 'Lookbehind-SAM, adaptive α')

    """
    return name.replace(" + average grads", ", mean gradient").replace(" + adaptive alpha", ", adaptive α")


def accuracy_table(
    scale: str, number: int, table: Table, rivals: Sequence[Row] = (), kind: str = "val_accuracy_pct"
) -> tuple[Part, ...]:
    """Return a table with what stands beside it.

    Args:
        scale: the scale.
        number: of the paper's table.
        table: the table, with a row Lookbehind-SAM and a row Lookbehind-ASAM.
        rivals: rows that are compared at equal budget and are not in the table.
        kind: the metric's name in ``published.csv``.

    Returns:
        The table, the same selected on validation images, the paper's own, and for SAM and ASAM the rivals at equal
        budget with the controls.

    """
    checked = on_validation(table)
    parts = [table] if checked is None else [table, checked]
    if scale != "paper":
        parts.append(of_the_paper(number, kind))
    for rule in RULES:
        reference = table.row(named("Lookbehind", rule))
        known = [row for row in (*rivals, *table.rows) if row.group == rule.upper() or "SGD" in row.label]
        others = [row for row in known if row is not reference]
        title = f"Equal budget and controls: {reference.label}"
        parts.append(beside(title, table.columns, reference, others, named("SAM", rule)))
    return tuple(parts)
