"""Cells, selection, ranks, differences, and the runs that follow from a declaration."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lookbehind.lab.budget import at_radius, at_rate, beside, longer
from lookbehind.lab.cell import Candidate, Cell, Derived, Published, Value, evaluate
from lookbehind.lab.execution import execute
from lookbehind.lab.lookup import Remembered
from lookbehind.lab.method import Method
from lookbehind.lab.metrics import (
    accuracy_at,
    accuracy_at_best_validation,
    alpha_at,
    best_epoch,
    best_test_accuracy,
    best_validation_accuracy,
    last_test_accuracy,
    measured_loss,
    noisy_accuracy_at,
    robustness,
    sharpness_at,
    training_loss,
)
from lookbehind.lab.parts import Row, Table
from lookbehind.lab.report import differences, on_validation, ranks, read, tasks, tasks_now, tasks_possible
from lookbehind.lab.run import NoiseSettings, Run, SharpnessSettings, Workload
from lookbehind.lab.statistics import paired, std
from lookbehind.lab.store import Store
from tests.lab.known import DIGITS, Known, lookbehind, result, sam, sgd

# --- metrics: one run, read by hand ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (best_test_accuracy(), (93.0,)),
        (last_test_accuracy(), (91.0,)),
        (accuracy_at_best_validation(), (92.0,)),  # validation is best in epochs 1 and 3: the first counts
        (best_validation_accuracy(), (88.0,)),
        (best_epoch(), (2.0,)),  # 93 in epochs 2 and 3: the first counts
        (training_loss(), (0.25,)),
        (accuracy_at(1), (92.0,)),
        (alpha_at(4), (0.6,)),
    ],
)
def test_metrics(metric: best_test_accuracy, expected: tuple[float]) -> None:
    run = result([92, 93, 93, 91], validation=[88, 80, 88, 87], alpha=[0.9, 0.8, 0.7, 0.6])
    assert metric.of(run, {}) == expected


def test_metrics_without_their_numbers() -> None:
    run = result([92, 93])
    for metric in (accuracy_at_best_validation(), best_validation_accuracy(), alpha_at(1)):
        assert metric.of(run, {}) == ()


def test_measured_metrics() -> None:
    sharp, noisy = SharpnessSettings(radii=(0.05, 0.5)), NoiseSettings(sigmas=(0.0, 0.4), draws=2)
    measured = {"values": [0.1, 2.0], "loss": 0.3, "accuracies": [[90, 90], [50, 60]], "means": [90, 55]}
    run = result([1.0])
    assert sharpness_at(sharp, 0.5).of(run, measured) == (2.0,)
    assert measured_loss(sharp).of(run, measured) == (0.3,)
    assert noisy_accuracy_at(noisy, 0.4).of(run, measured) == (50, 60)
    assert robustness(noisy).of(run, measured) == (72.5,)


# --- cells -----------------------------------------------------------------------------------------------------


def test_the_best_mean_wins_and_is_reported() -> None:
    known = Known()
    first, second = known.put(sam(0.1), 90, 91, 92), known.put(sam(0.2), 95, 89, 92)
    value = evaluate(Cell((first, second), published=Published(93.0, 0.5)), known)
    assert value.winner is second
    assert value.mean == pytest.approx(92.0)
    assert value.std == pytest.approx(3.0)  # √((9 + 9 + 0) / 2)
    assert value.by_seed == {0: 95, 1: 89, 2: 92}
    assert (value.n, value.settings, value.complete, value.open, value.remark) == (3, 2, 2, 0, "")
    assert value.gap == pytest.approx(-1.0)
    assert value.text() == "92.00 ± 3.00"


def test_population_standard_deviation() -> None:
    known = Known()
    value = evaluate(Cell((known.put(sam(0.1), 175, 184, 184),), ddof=0), known)
    assert value.text() == "181.00 ± 4.24"  # √(6² + 3² + 3²) / √3


def test_of_equal_candidates_the_first_wins() -> None:
    known = Known()
    first, second = known.put(sam(0.1), 90, 91, 92), known.put(sam(0.2), 92, 91, 90)
    assert evaluate(Cell((first, second)), known).winner is first


def test_validation_selects_and_test_is_reported() -> None:
    known, first, second = Known(), sam(0.1, seeds=1), sam(0.2, seeds=1)
    known.results[first.runs[0]] = result([90, 99], validation=[80, 70])  # best on test, worse on validation
    known.results[second.runs[0]] = result([91, 92], validation=[85, 82])
    honest = evaluate(Cell((first, second), accuracy_at_best_validation(), best_validation_accuracy()), known)
    habit = evaluate(Cell((first, second)), known)
    assert (honest.winner, honest.mean) == (second, 91)
    assert (habit.winner, habit.mean) == (first, 99)


def test_lower_sharpness_wins() -> None:
    known, first, second = Known(), sam(0.1), sam(0.2)
    settings = SharpnessSettings(radii=(0.1, 5.0))
    for candidate, far in ((known.put(first, 1, 1, 1), 3.0), (known.put(second, 1, 1, 1), 2.0)):
        for run in candidate.runs:
            known.measurements[run, settings] = {"values": [far / 10, far], "loss": far * 100}
    near = Cell((first, second), measured_loss(settings), sharpness_at(settings, 5.0))
    assert evaluate(near, known).winner is second
    assert evaluate(near, known).mean == 200.0


def test_what_selects_has_its_own_direction() -> None:
    known, first, second = Known(), sam(0.1, seeds=1), sam(0.2, seeds=1)
    known.results[first.runs[0]] = result([90, 91, 92])
    known.results[second.runs[0]] = result([95, 94, 93])
    value = evaluate(Cell((first, second), best_epoch(), best_test_accuracy()), known)
    assert (value.winner, value.mean) == (second, 1)


def test_draws_are_pooled_over_seeds() -> None:
    known, candidate = Known(), sam(0.1)
    settings = NoiseSettings(sigmas=(0.4,), draws=2)
    known.put(candidate, 90, 90, 90)
    for run, draws in zip(candidate.runs, ([10, 20], [30, 60], [20, 40]), strict=True):
        known.measurements[run, settings] = {"accuracies": [draws], "means": [sum(draws) / 2]}
    value = evaluate(Cell((candidate,), noisy_accuracy_at(settings, 0.4)), known)
    assert (value.mean, value.n, value.by_seed) == (30, 6, {0: 15, 1: 45, 2: 30})
    assert value.std == pytest.approx(statistics.stdev([10, 20, 30, 60, 20, 40]))


def test_two_seeds_are_no_statistics() -> None:
    known = Known()
    first, second = known.put(sam(0.1, seeds=2), 90, 92), known.put(sam(0.2, seeds=2), 94, 98)
    table = Table("", ("digits",), (Row("a", (Cell((first,)),)), Row("b", (Cell((second,)),))), against="a")
    filled = read(table, known)
    assert [row[0].text() for row in filled.values] == ["91.00", "96.00"]
    assert ranks(filled) == ((None,), (None,))
    [[_], [difference]] = differences(filled)
    assert str(difference) == "+5.00"


def test_missing_seeds_of_a_single_setting() -> None:
    known = Known()
    value = evaluate(Cell((known.put(sam(0.1), 90, 92),)), known)
    assert value.text() == "91.00"
    assert value.remark == "2 of 3 seeds; 1 of 3 runs missing"
    assert value.open == 1


def test_settings_that_are_not_whole_do_not_compete() -> None:
    known = Known()
    first, second = known.put(sam(0.1), 90, 90, 90), known.put(sam(0.2), 99, 99)
    value = evaluate(Cell((first, second)), known)
    assert value.winner is first
    assert value.remark == "the best of 1 of 2 settings; 1 of 6 runs missing"


def test_nothing_done() -> None:
    value = evaluate(Cell((sam(0.1), sam(0.2))), Known())
    assert (value.text(), value.mean, value.winner, value.remark) == ("missing", None, None, "6 of 6 runs missing")


def test_a_diverged_seed_makes_a_setting_not_available() -> None:
    known, candidate = Known(), sam(0.1)
    known.put(candidate, 90, 91, 92)
    known.results[candidate.runs[1]] = result([10.0], status="diverged")
    value = evaluate(Cell((candidate,)), known)
    assert (value.text(), value.mean, value.by_seed, value.open) == ("N/A (diverged)", None, {}, 0)
    assert value.remark == "1 of 3 runs diverged"
    other = known.put(sam(0.2), 50, 50, 50)  # a setting that did not diverge wins, however bad
    assert evaluate(Cell((candidate, other)), known).winner is other
    del known.results[candidate.runs[2]]  # no seed that is still to come can mend it
    assert evaluate(Cell((candidate,)), known).text() == "N/A (diverged)"


def test_failed_runs() -> None:
    known, candidate = Known(), sam(0.1)
    known.failures[candidate.runs[0]] = "RuntimeError: out of memory"
    known.put(Candidate("", candidate.runs[1:]), 91, 92)
    value = evaluate(Cell((candidate,)), known)
    assert (value.text(), value.remark) == ("91.50", "2 of 3 seeds; 1 of 3 runs failed")
    for run in candidate.runs:
        known.results.pop(run, None)
        known.failures[run] = "it"
    assert evaluate(Cell((candidate,)), known).text() == "failed"


def test_what_is_not_measured_or_not_finite() -> None:
    known, candidate = Known(), sam(0.1, seeds=1)
    known.put(candidate, 90)
    settings = SharpnessSettings(radii=(0.1,))
    cell = Cell((candidate,), sharpness_at(settings, 0.1))
    assert evaluate(cell, known).text() == "missing"
    known.measurements[candidate.runs[0], settings] = {"values": [None], "loss": 1.0}
    assert evaluate(cell, known).text() == "not finite"
    assert evaluate(Cell((candidate,), alpha_at(1)), known).text() == "—"


@given(st.lists(st.lists(st.floats(0, 100), min_size=3, max_size=3), min_size=1, max_size=5), st.data())
def test_selection_is_the_naive_one(accuracies: list[list[float]], data: st.DataObject) -> None:
    known = Known()
    candidates = tuple(known.put(sam(0.1 + i), *row) for i, row in enumerate(accuracies))
    dropped = data.draw(st.sets(st.integers(0, len(candidates) - 1), max_size=len(candidates) - 1))
    for i in dropped:
        known.results[candidates[i].runs[0]] = result([1.0], status="diverged")
    value = evaluate(Cell(candidates), known)
    kept = [i for i in range(len(candidates)) if i not in dropped]
    best = max(np.mean(accuracies[i]) for i in kept)
    assert value.mean == pytest.approx(best)
    assert value.mean == pytest.approx(np.mean(list(value.by_seed.values())))


# --- derived cells ----------------------------------------------------------------------------------------------


def test_a_derived_cell_waits_for_its_winner() -> None:
    known = Known()
    two, five = lookbehind(2), lookbehind(5)
    cell = Derived((Cell((two, five)),), at_radius)
    assert evaluate(cell, known).text() == "waiting"
    known.put(two, 90, 90, 90)
    assert evaluate(cell, known).text() == "waiting"  # five could still win
    known.failures[five.runs[0]] = "out of memory"
    known.put(Candidate("", five.runs[1:]), 91, 91)
    assert evaluate(cell, known).text() == "waiting"
    known.put(five, 91, 91, 91)
    assert evaluate(cell, known).text() == "missing"
    known.put(sam(0.5), 80, 81, 82)  # k·ρ = 5 · 0.1
    assert evaluate(cell, known).mean == 81
    assert len(cell.possible) == 2


def test_a_derived_cell_of_what_diverged() -> None:
    known, candidate = Known(), lookbehind(2)
    for run in candidate.runs:
        known.results[run] = result([1.0], status="diverged")
    assert evaluate(Derived((Cell((candidate,)),), at_rate), known).text() == "N/A (diverged)"


# --- budget and controls ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rival", "factor"), [(sgd(), 6), (sam(0.1), 3), (lookbehind(2), 2)])
def test_longer_runs_spend_the_reference_budget(rival: Candidate, factor: int) -> None:
    made = longer(lookbehind(5), rival)  # 6 gradients a step
    assert [run.workload.epochs for run in made.runs] == [4 * factor] * 3
    assert [run.seed for run in made.runs] == [0, 1, 2]
    assert {run.method for run in made.runs} == {rival.runs[0].method}


@given(k=st.integers(1, 10), own=st.integers(1, 10), epochs=st.integers(1, 200))
def test_budgets_are_equal_to_half_an_epoch(k: int, own: int, epochs: int) -> None:
    reference, rival = (
        Candidate("", tuple(r.model_copy(update={"workload": DIGITS.for_epochs(epochs)}) for r in c.runs))
        for c in (lookbehind(k), lookbehind(own))
    )
    run = longer(reference, rival).runs[0]
    assert run.workload.epochs == 1 or abs(run.workload.epochs * (own + 1) - epochs * (k + 1)) <= (own + 1) / 2


def test_controls() -> None:
    reference = lookbehind(5, alpha=0.8, rho=0.1)
    rate, radius = at_rate(reference).runs[0], at_radius(reference).runs[0]
    assert rate.method == Method(kind="sam", perturbation="sam", rho=0.1, rate=4.0)
    assert radius.method == Method(kind="sam", perturbation="sam", rho=0.5)
    assert at_rate(lookbehind(2, alpha="adaptive")).runs[0].method.rate == 2.0


def test_beside() -> None:
    reference = Row("Lookbehind-SAM", (Cell((lookbehind(2),)),), "SAM")
    rivals = [Row("SGD", (Cell((sgd(),)),)), Row("SAM", (Cell((sam(0.1), sam(0.2))),))]
    table = beside("title", ("digits",), reference, rivals)
    assert [row.label for row in table.rows] == [
        "Lookbehind-SAM",
        "SGD, equal budget",
        "SAM, equal budget",
        "SAM at rate α·k·η",
        "SAM at radius k·ρ",
    ]
    assert table.against == "Lookbehind-SAM"
    known = Known()
    known.put(lookbehind(2), 0, 0, 0)
    for run in lookbehind(2).runs:  # held-out images decide, test accuracy is reported
        known.results[run] = result([95, 97], validation=[96, 94])
    for candidate, validation in ((sam(0.1), 80), (sam(0.2), 90), (sgd(), 70)):
        for run in candidate.runs:
            known.results[run] = result([50, 50], validation=[validation, 0])
    filled = read(table, known)
    assert filled.values[0][0] is not None
    assert filled.values[0][0].mean == 95
    wanted = [run for run, _ in tasks_now([table], known)]
    extra = [run for run in wanted if run not in known.results]
    assert {(run.method.kind, run.method.rho, run.method.rate, run.workload.epochs) for run in extra} == {
        ("base", None, 1.0, 12),  # 4 epochs · 3 gradients
        ("sam", 0.2, 1.0, 6),  # the ρ that won on validation images
    }  # the controls, SAM at rate 0.5 · 2 and at radius 2 · 0.1, are runs that there are already


# --- ranks and differences ---------------------------------------------------------------------------------------


def table_of(known: Known, accuracies: dict[str, tuple[float, ...]], **options: object) -> Table:
    rows = []
    for i, (label, values) in enumerate(accuracies.items()):
        candidate = known.put(sam(1.0 + i), *values)
        rows.append(Row(label, (Cell((candidate,)),), **options))  # type: ignore[arg-type]
    return Table("title", ("digits",), tuple(rows), against=rows[0].label)


def test_ranks_share_and_skip() -> None:
    known = Known()
    accuracies = {"a": (3, 3, 3), "b": (5, 5, 5), "c": (4, 4, 4), "d": (4, 5, 3), "e": (9, 9)}
    assert ranks(read(table_of(known, accuracies), known)) == ((None,), (1,), (2,), (2,), (None,))  # e lacks a seed
    known = Known()
    assert ranks(read(table_of(known, {"a": (3, 3, 3), "b": (5, 5, 5), "c": (5, 5, 5)}), known)) == (
        (None,),
        (1,),
        (1,),
    )


def test_ranks_are_within_groups() -> None:
    known = Known()
    table = table_of(known, {"a": (3, 3, 3), "b": (5, 5, 5), "c": (4, 4, 4)})
    first, *others = table.rows
    table = Table("", ("digits",), (first, *(Row(r.label, r.cells, "ASAM", r.label == "b") for r in others)))
    assert ranks(read(table, known)) == ((1,), (1,), (None,))


def test_ranks_of_what_is_better_when_low() -> None:
    known = Known()
    rows = tuple(Row(str(i), (Cell((known.put(sam(1.0 + i), 1),), best_epoch()),)) for i in range(2))
    known.results[sam(1.0).runs[0]] = result([1, 2, 3])
    for i in range(2):
        for run in sam(1.0 + i).runs[1:]:
            known.results[run] = known.results[sam(1.0 + i).runs[0]]
    assert ranks(read(Table("", ("digits",), rows), known)) == ((2,), (1,))


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=3, max_size=8),
    st.integers(1, 6),
)
def test_paired_intervals_against_scipy(pairs: list[tuple[float, float]], comparisons: int) -> None:
    ours, theirs = map(list, zip(*pairs, strict=True))
    found = paired(ours, theirs, comparisons)
    assert found.low is not None
    assert found.high is not None
    if statistics.pstdev(np.subtract(ours, theirs)) < 1e-6:
        return  # scipy warns that nothing can be said of equal differences
    interval = stats.ttest_rel(ours, theirs).confidence_interval(1 - 0.05 / comparisons)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)
    assert found.shows == (interval.low > 0 or interval.high < 0)


def test_differences_pair_the_common_seeds_of_a_column() -> None:
    known = Known()
    found = differences(read(table_of(known, {"ours": (90, 92, 97), "a": (91, 94, 98), "b": (80, 85)}), known))
    assert found[0] == (None,)
    first, second = found[1][0], found[2][0]
    assert first is not None
    assert second is not None
    interval = stats.ttest_rel([91, 94, 98], [90, 92, 97]).confidence_interval(1 - 0.05 / 2)  # two rivals
    assert (first.low, first.high) == pytest.approx((interval.low, interval.high))
    assert (second.mean, second.seeds) == (-8.5, 2)


def test_a_single_seed_has_no_interval() -> None:
    assert str(paired([3.0], [1.0])) == "+2.00"
    assert not paired([3.0], [1.0]).shows
    assert std([1.0], ddof=0) is None
    with pytest.raises(ValueError, match="there are 0 and 1 values"):
        paired([], [1.0])


# --- from a table to runs ---------------------------------------------------------------------------------------


def test_the_honest_table_needs_held_out_images() -> None:
    known = Known()
    table = table_of(known, {"a": (1, 2, 3)})
    honest = on_validation(table)
    assert honest is not None
    cell = honest.rows[0].cells[0]
    assert isinstance(cell, Cell)
    assert (cell.metric, cell.select_by) == (accuracy_at_best_validation(), best_validation_accuracy())
    nothing_held_out = DIGITS.model_copy(update={"validation": 0})
    assert on_validation(Table("", ("",), (Row("", (Cell((sgd(workload=nothing_held_out),)),)),))) is None


def test_tasks_share_runs_and_gather_measurements() -> None:
    settings = SharpnessSettings(radii=(0.1, 0.5))
    row = Row("a", (Cell((sam(0.1),)), Cell((sam(0.1),), sharpness_at(settings, 0.1), sharpness_at(settings, 0.5))))
    found = tasks([Table("", ("x", "y"), (row,))])
    assert found == [(run, (settings,)) for run in sam(0.1).runs]
    both = tasks([Table("", ("x",), (Row("a", (Cell((sam(0.1), sam(0.2))),)),))])
    assert [run.seed for run, _ in both] == [0, 0, 1, 1, 2, 2]  # whole seeds first


def test_tasks_now_grow_until_all_is_known(tmp_path: Path) -> None:
    """For real: a store, training, two rounds, and numbers that are those of the results."""
    workload = Workload(dataset="digits", model="convnet", train=64, validation=50, test=50, epochs=1, batch=32)

    def candidate(method: Method) -> Candidate:
        return Candidate("", tuple(Run(workload=workload, method=method, seed=seed) for seed in range(2)))

    ours = [candidate(Method(kind="lookbehind", perturbation="sam", rho=0.1, k=2, alpha=a)) for a in (0.5, 1.0)]
    table = beside(
        "",
        ("digits",),
        Row("Lookbehind-SAM", (Cell(tuple(ours)),)),
        [Row("SGD", (Cell((candidate(Method(kind="base")),)),))],
    )
    store = Store(tmp_path)
    rounds = []
    while left := [task for task in tasks_now([table], store) if not store.complete(*task)]:
        rounds.append(len(left))
        for run, measurements in left:
            execute(run, store, measurements)
    possible = {run for run, _ in tasks_possible([table])}
    assert rounds[0] == 6
    assert len(rounds) == 2
    assert {run for run, _ in tasks_now([table], store)} <= possible
    filled = read(table, store)
    sgd_longer = filled.values[1][0]
    assert sgd_longer is not None
    assert sgd_longer.winner is not None
    assert [run.workload.epochs for run in sgd_longer.winner.runs] == [3, 3]
    best = [store.result(run).best_by_validation.test for run in sgd_longer.winner.runs]  # type: ignore[union-attr]
    assert list(sgd_longer.by_seed.values()) == best


def test_results_are_looked_up_once() -> None:
    known = Known()
    table = table_of(known, {"a": (1, 2, 3)})
    remembered = Remembered(known)
    read(table, remembered)
    read(table, remembered)
    assert known.asked == 3


@pytest.mark.parametrize("make", [at_rate, at_radius])
def test_possible_candidates_cover_every_outcome(make: Callable[[Candidate], Candidate]) -> None:
    grid = [lookbehind(k, alpha) for k, alpha in itertools.product((2, 5), (0.5, 0.8))]
    cell = Derived((Cell(tuple(grid)),), make)
    for winner in grid:
        known = Known()
        for each in grid:
            known.put(each, *([99.0] * 3 if each is winner else [1.0] * 3))
        settled = cell.settle(known)
        assert isinstance(settled, Cell)
        assert settled.candidates[0] in cell.possible


def test_text_of_a_value() -> None:
    assert Value(mean=1.005, std=None).text(1) == "1.0"
    assert math.isclose(Value(mean=2.0, published=Published(1.5)).gap or 0, 0.5)
    assert Value(published=Published(1.5)).gap is None
