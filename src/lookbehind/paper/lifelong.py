"""Tables 2, 6 and 7: lifelong learning."""

from __future__ import annotations

from dataclasses import replace

from lookbehind.lab.budget import longer
from lookbehind.lab.cell import Candidate, Cell, Derived, Published
from lookbehind.lab.metrics import Metric, gradient_evaluations
from lookbehind.lab.metrics_lifelong import (
    average_accuracy_after,
    chosen_value,
    final_accuracy,
    final_backward_transfer,
    final_forgetting,
    final_validation_accuracy,
    task_accuracy,
)
from lookbehind.lab.parts import Declaration, Heatmap, Item, Lines, Part, Row, Series, Style, Table
from lookbehind.paper.published import published, values
from lookbehind.paper.streams import ALPHAS, BEST, ETAS, KS, RHOS, ROWS, SYMBOLS, Benchmark, benchmarks
from lookbehind.paper.workloads import SCALES

SELECT = final_validation_accuracy()  # on held-out images of every task
METRICS: tuple[tuple[Metric, str], ...] = (
    (final_accuracy(), "avg_accuracy_pct"),
    (final_forgetting(), "forgetting_pct"),
)
SHOWN = ("SGD", "ER + SGD", "ER + Lookbehind-SAM", "Lookbehind-C-MAML")  # whose matrices are drawn
STYLES = {
    "SGD": Style("black", "none"),
    "SAM": Style("blue", "circle", filled=False),
    "Multistep-SAM": Style("orange", "circle", filled=False),
    "Lookbehind-SAM": Style("vermillion", "triangle", filled=False),
    "ER + SGD": Style("black", "square"),
    "ER + SAM": Style("blue", "circle"),
    "ER + Multistep-SAM": Style("orange", "circle"),
    "ER + Lookbehind-SAM": Style("vermillion", "triangle"),
    "Lookahead-C-MAML": Style("green", "square"),
    "Lookbehind-C-MAML": Style("purple", "triangle"),
}
STREAM = (
    "Ten epochs a task in minibatches of 10, a replay memory of 200 images (Tiny-ImageNet 400; at scales cpu and smoke "
    "50 and 20) filled by reservoir sampling, of which 10 are drawn for each minibatch: the code of Gupta et al., "
    "whose setup the paper says it replicates. A tenth of the training images of each class is held out; the paper "
    "does not say whether it did. At scale cpu a task has five epochs. The seed decides the order of classes too."
)
COPIED = (
    "The paper's numbers for Lookahead-C-MAML are those that Gupta et al. report for many passes, where forgetting is "
    "the negative of BTI. Their ER has 59.7 and 48.23 %, so the paper's ER rows are its own."
)
READING = (
    "Algorithms 3 and 4 are read so that their inner steps have an effect: the meta-gradient is taken through them, at "
    "the fast weights; there is a meta-update for each minibatch. What is printed can be chosen in lookbehind.lifelong."
)
COST = (
    "Gradient evaluations are of minibatches of ten images; replayed images count, and a Hessian-vector product counts "
    "as two gradients."
)


def _group(row: str) -> str:
    return "C-MAML" if "MAML" in row else "ER" if row.startswith("ER") else "no replay"


def _known(benchmark: Benchmark, row: str, kind: str) -> Published | None:
    return None if benchmark.published is None else published(2, *benchmark.published, row, kind)


def _table2(scale: str, title: str, select: Metric, known: bool) -> Table:
    chosen = benchmarks(scale)
    rows = tuple(
        Row(
            row,
            tuple(
                Cell(b.candidates(row), metric, select, _known(b, row, kind) if known else None)
                for b in chosen
                for metric, kind in METRICS
            ),
            _group(row),
        )
        for row in ROWS
    )
    return Table(title, tuple(f"{b.title}: {metric.name}" for b in chosen for metric, _ in METRICS), rows)


def _costs(scale: str) -> Table:
    """Return BTI and cost of the settings chosen on validation images."""
    chosen, metrics = benchmarks(scale), (final_backward_transfer(), gradient_evaluations())
    rows = tuple(
        Row(row, tuple(Cell(b.candidates(row), m, SELECT) for b in chosen for m in metrics), _group(row), ranked=False)
        for row in ROWS
    )
    heads = tuple(f"{b.title}: {metric.name}" for b in chosen for metric in metrics)
    return Table("Table 2: backward transfer and cost of these settings", heads, rows)


def _equal_budget(scale: str, reference: str) -> Table:
    """Return a Lookbehind against the others of its group, each for as many epochs as spend its gradients."""
    chosen = benchmarks(scale)
    ours = {b: Cell(b.shown(reference), final_accuracy(), SELECT) for b in chosen}
    rows = [Row(reference, tuple(ours.values()))]
    for rival in ROWS:
        if _group(rival) == _group(reference) and rival != reference:
            theirs = {b: Cell(b.shown(rival), final_accuracy(), SELECT) for b in chosen}
            cells = tuple(Derived((ours[b], theirs[b]), longer, final_accuracy()) for b in chosen)
            rows.append(Row(f"{rival}, equal budget", cells))
    return Table(
        f"Equal budget: {reference}",
        tuple(f"{b.title}: average accuracy (%)" for b in chosen),
        tuple(rows),
        against=reference,
        caption=(
            f"Rivals have as many epochs a task as spend the gradient evaluations of {reference}, with the setting "
            "chosen at their ordinary length. Beside them: paired difference and its 95 % interval, for all together."
        ),
    )


def _curves(benchmark: Benchmark) -> Lines:
    tasks = range(1, benchmark.stream.tasks + 1)
    series = tuple(
        Series(
            row,
            tuple(map(float, tasks)),
            tuple(Cell(benchmark.shown(row), average_accuracy_after(t), SELECT) for t in tasks),
            STYLES[row],
        )
        for row in ROWS
    )
    return Lines(benchmark.title, "tasks learnt", "average accuracy (%) on them", series)


def _matrix(benchmark: Benchmark, row: str) -> Heatmap:
    candidates, tasks = benchmark.shown(row), range(1, benchmark.stream.tasks + 1)
    cells = tuple(tuple(Cell(candidates, task_accuracy(after, on), SELECT) for on in tasks) for after in tasks)
    numbers = tuple(map(float, tasks))
    average = Cell(candidates, final_accuracy(), SELECT)
    return Heatmap(f"{benchmark.title}, {row}", "on task", numbers, "after task", numbers, cells, average)


def _of_the_paper() -> Table:
    known = {key[1:]: value for key, value in values().items() if key[0] == "2"}
    heads = dict.fromkeys((dataset, model, metric) for dataset, model, _, metric in known)
    named = {kind: metric.name for metric, kind in METRICS}
    rows = tuple(
        Row(
            row,
            tuple(
                Cell((), next(metric for metric, kind in METRICS if kind == k), published=known[d, m, row, k])
                for d, m, k in heads
            ),
            _group(row),
        )
        for row in ROWS
    )
    return Table("Table 2 of the paper", tuple(f"{d}: {named[k]}" for d, _, k in heads), rows)


def _item2(scale: str) -> Declaration:
    known = scale == "paper"
    parts: list[Part] = [
        _table2(scale, "Table 2: lifelong learning, settings chosen on validation images", SELECT, known=False),
        _table2(scale, "Table 2: settings chosen on test images, as in the paper", final_accuracy(), known),
        _costs(scale),
    ]
    if not known:
        parts.append(_of_the_paper())
    parts += [_equal_budget(scale, row) for row in ("Lookbehind-SAM", "ER + Lookbehind-SAM", "Lookbehind-C-MAML")]
    for benchmark in benchmarks(scale):
        parts.append(_curves(benchmark))
        parts += [_matrix(benchmark, row) for row in SHOWN]
    matrices = "In matrices blue is above the average accuracy at the end, red below; tasks not yet learnt are guessed."
    control = "A larger step of a plain method is in the grid, since η is chosen for each method."
    table7 = "At scale paper figures and equal budgets have the settings of Table 7; ER + SGD has SGD's."
    return Declaration(tuple(parts), (STREAM, READING, COPIED, COST, matrices, control, table7))


def _item6(scale: str) -> Declaration:
    """The grid, with what it came to: at each value of a hyper-parameter the best of the others."""
    grids = (("η", ETAS), ("ρ", RHOS), ("k", KS), ("α", ALPHAS))
    parts = tuple(
        _over(benchmark, symbol) for benchmark in benchmarks(scale) for symbol in SYMBOLS if _varied(benchmark, symbol)
    )
    written = "; ".join(f"{symbol} ∈ {{{', '.join(f'{x:g}' for x in grid)}}}" for symbol, grid in grids)
    said = (
        f"The paper's grid: {written}.",
        "A cell is the best setting with this value, chosen on validation images. — : the method does not have it, or "
        "it is not varied.",
        "At scales cpu and smoke the grids are small.",
    )
    return Declaration(parts, (*said, STREAM, READING))


def _value(candidate: Candidate, symbol: str) -> float | None:
    run = candidate.runs[0]
    values = {"η": getattr(run.workload, "lr", None), "ρ": run.method.rho, "k": run.method.k, "α": run.method.alpha}
    value = values[symbol]
    return value if isinstance(value, float | int) else None


def _varied(benchmark: Benchmark, symbol: str) -> tuple[float, ...]:
    """Return the values of a hyper-parameter, where there are several."""
    rows = [{_value(c, symbol) for c in benchmark.candidates(row)} - {None} for row in ROWS if row[:9] != "Lookahead"]
    found = {value for row in rows for value in row if value is not None}
    return tuple(sorted(found, reverse=symbol == "η")) if len(found) > 1 else ()


def _over(benchmark: Benchmark, symbol: str) -> Table:
    columns = _varied(benchmark, symbol)
    rows = []
    for row in ROWS:
        candidates = benchmark.candidates(row)
        at = [tuple(c for c in candidates if _value(c, symbol) == x) for x in columns]
        if row != "Lookahead-C-MAML" and any(at):
            cells = tuple(Cell(c, final_accuracy(), SELECT) if c else None for c in at)
            rows.append(Row(row, cells, _group(row), ranked=False))
    title = f"Table 6: average accuracy (%) over {symbol}, {benchmark.title}"
    return Table(title, tuple(f"{symbol} = {x:g}" for x in columns), tuple(rows))


def _item7(scale: str) -> Declaration:
    tables = (
        _settings(scale, "Table 7: settings chosen on test images, as in the paper", final_accuracy(), True),
        _settings(scale, "Table 7: settings chosen on validation images", SELECT, False),
    )
    printed = "; ".join(
        f"{name} {' and '.join('{' + ', '.join(f'{x:g}' for x in each) + '}' for each in best)}"
        for name, best in BEST.items()
    )
    said = (
        f"The paper's settings on Split-CIFAR100 and Split-TinyImageNet, in the order η, ρ, k, α: {printed}.",
        "The paper omits ER + SGD, and refers to Gupta et al. for Lookahead-C-MAML.",
    )
    return Declaration(tables, (*said, STREAM, READING))


def _settings(scale: str, title: str, select: Metric, known: bool) -> Table:
    chosen = benchmarks(scale)
    columns = tuple(f"{b.title}: {symbol}" for b in chosen for symbol in SYMBOLS)
    rows = tuple(
        Row(
            row,
            tuple(
                _chosen(b, row, i, select, BEST[row][j] if known and scale == "paper" and row in BEST else ())
                for j, b in enumerate(chosen)
                for i in range(len(SYMBOLS))
            ),
            _group(row),
            ranked=False,
        )
        for row in ROWS
        if row != "Lookahead-C-MAML"
    )
    return Table(title, columns, rows, digits=5 if scale == "paper" else 3)


def _chosen(benchmark: Benchmark, row: str, i: int, select: Metric, best: tuple[float, ...]) -> Cell | None:
    candidates = benchmark.candidates(row)
    if _value(candidates[0], SYMBOLS[i]) is None:
        return None
    printed = Published(best[i]) if i < len(best) else None
    alone = len(benchmark.seeds)  # all seeds have the same setting: no spread
    return replace(Cell(candidates, chosen_value(SYMBOLS[i]), select, printed), ddof=alone)


LIFELONG = (
    Item("table2", "Lifelong learning", SCALES, _item2),
    Item("table6", "The grid of lifelong learning", SCALES, _item6),
    Item("table7", "Best settings of lifelong learning", SCALES, _item7),
)
