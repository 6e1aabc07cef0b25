"""Rows as runs of the lab, and the numbers of the report. The store and the training are tested in tests/lab."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from lookbehind.compare import METHODS, Run, plan, result_of
from lookbehind.compare.figure import _trade_off
from lookbehind.compare.report import Rows, differences, table, to_csv, verdict
from lookbehind.compare.runs import DIGITS, Result
from lookbehind.lab import Store, execute


def a_run(**changes) -> Run:
    settings = {"rho": 0.2, "k": 2, "alpha": 0.8, "radii": (0.1, 0.2)}
    workload = DIGITS.for_epochs(changes.pop("epochs", 2))
    planned = plan(
        [changes.pop("method", "sam")], {changes.pop("labels", "noisy"): workload}, 1, **(settings | changes)
    )
    return planned[0]


def a_result(accuracy: float = 90.0, gradients: int = 96, **changes) -> Result:
    numbers = {
        "test_accuracy": accuracy,
        "validation_accuracy": 80.0,
        "noisy_accuracy": 70.0,
        "train_loss": 1.0,
        "sharpness": (0.1, 0.2),
        "gradients": gradients,
        "seconds": 1.0,
        "diverged": False,
        "losses": (2.0, 1.0),
    }
    return Result(**(numbers | changes))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_spends_the_gradients_that_are_planned(method: str, tmp_path: Path) -> None:
    run, store = a_run(method=method), Store(tmp_path)
    assert result_of(run, store) is None
    execute(run.trained, store)
    assert result_of(run, store) is None  # not measured yet
    execute(run.trained, store, run.measurements)
    result = result_of(run, store)
    assert result is not None
    steps = 2 * 16
    expected = {"sgd": 1, "sam": 2, "lookahead": 2, "sam-radius": 2, "sam-rate": 2}.get(method, 3)
    assert result.gradients == run.gradients == steps * expected
    assert 0 <= result.test_accuracy <= 100
    assert len(result.sharpness) == 2
    assert len(result.losses) == {"sgd-longer": 6, "sam-longer": 3}.get(method, 2)


def test_settings_decide_what_is_trained_and_measured() -> None:
    def addresses(run: Run) -> tuple[str, ...]:
        return (run.trained.address, *(measurement.address for measurement in run.measurements))

    methods = ("sgd", "lookahead", "lookbehind", "multistep", "sam-rate", "sam-radius")
    changes = [("rho", 0.1), ("epochs", 3), ("radii", (0.1,)), ("labels", "clean"), *(("method", m) for m in methods)]
    found = {addresses(a_run(**{name: value})) for name, value in changes}
    assert len(found | {addresses(a_run())}) == len(changes) + 1
    for name, value in (("k", 3), ("alpha", 0.5)):
        assert addresses(a_run(method="lookbehind", **{name: value})) != addresses(a_run(method="lookbehind"))


def test_controls_are_what_they_are_called() -> None:
    sam = a_run().trained
    assert a_run(method="sam-rate").trained.method.rate == pytest.approx(0.8 * 2)
    assert a_run(method="sam-radius").trained.method.rho == pytest.approx(2 * 0.2)
    assert a_run(method="sam-longer").trained.workload == sam.workload.for_epochs(3)
    assert {a_run(method=m).trained.workload for m in METHODS if "longer" not in m} == {sam.workload}
    assert all(a_run(method=m).trained.method.unperturbed_statistics for m in METHODS if "sgd" not in m)


def test_a_diverged_run_has_no_measurements(tmp_path: Path) -> None:
    run, store = a_run(rho=1e38), Store(tmp_path)
    execute(run.trained, store, run.measurements)
    result = result_of(run, store)
    assert result is not None
    assert result.diverged
    assert (result.noisy_accuracy, result.train_loss, result.sharpness) == (None, None, (None, None))


def _partly_diverged(lookbehind: int) -> list[tuple[Run, Result]]:
    """Three seeds; so many of Lookbehind's diverged, the first ones, long before the budget was spent."""
    finished = _finished(
        {"sam": [95.0] * 3, "lookbehind": [96.0, 96.5, 97.0], "sam-longer": [90.0, 91.0, 92.0]},
        {"sam": 64, "lookbehind": 96, "sam-longer": 96},
    )
    lost = a_result(10.0, 5, train_loss=None, sharpness=(None, None), diverged=True)
    return [(r, lost if r.method == "lookbehind" and r.seed < lookbehind else x) for r, x in finished]


def test_a_diverged_seed_is_shown_and_does_not_change_the_budget() -> None:
    rows = Rows(_partly_diverged(1), "noisy")
    assert rows.name("lookbehind") == "Lookbehind-SAM (1 of 3 diverged)"
    assert rows.budget() == 96
    assert sorted(rows.equal_cost()) == ["lookbehind", "sam-longer"]
    output = Console(width=200, file=io.StringIO())
    output.print(table(rows), differences(rows))
    text = output.file.getvalue()
    assert text.count("Lookbehind-SAM (1 of 3 diverged)") == 2
    assert "accuracies include diverged runs" in text
    assert "SAM, longer is best" in verdict(rows)


def test_no_budget_if_lookbehind_always_diverged() -> None:
    rows = Rows(_partly_diverged(3), "noisy")
    assert rows.budget() is None
    assert "Lookbehind diverged with every seed" in verdict(rows)


@pytest.mark.parametrize(("sharpness", "scale"), [((0.1, 0.2), "log"), ((0.1, -0.2), "linear")])
def test_negative_sharpness_is_drawn(sharpness: tuple[float, float], scale: str) -> None:
    rows = Rows([(a_run(), a_result(sharpness=sharpness))], "noisy")
    axes = Figure().add_subplot()
    _trade_off(axes, rows)
    assert axes.get_yscale() == scale
    assert axes.collections[0].get_offsets()[0].tolist() == [1.0, sharpness[1]]


def _finished(accuracies: dict[str, list[float]], gradients: dict[str, int]) -> list[tuple[Run, Result]]:
    return [
        (a_run(method=method).model_copy(update={"seed": seed}), a_result(value, gradients[method]))
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    ]


def test_the_verdict_names_the_best_at_equal_cost_whoever_it_is() -> None:
    gradients = {"sam": 64, "lookbehind": 96, "sam-longer": 96, "sgd-longer": 97}
    clear = {
        "sam": [99.0] * 3,
        "lookbehind": [80.0, 81.0, 82.0],
        "sam-longer": [90.0, 91.0, 92.1],
        "sgd-longer": [70.0, 71, 72],
    }
    sentence = verdict(Rows(_finished(clear, gradients), "noisy"))
    assert "SAM, longer is best (91.03 %)" in sentence  # SAM itself spent less and does not count
    assert "against all 2 rivals" in sentence
    close = clear | {"lookbehind": [89.5, 90.1, 91.5]}  # 0.7 ± 0.26: shown to one rival, but not among two
    rows = Rows(_finished(close, gradients), "noisy")
    assert rows.against("sam-longer", "lookbehind").shows
    assert "no difference to Lookbehind-SAM" in verdict(rows)
    unclear = clear | {"lookbehind": [95.0, 80.0, 97.0]}
    assert "no difference to" in verdict(Rows(_finished(unclear, gradients), "noisy"))
    said = verdict(Rows(_finished({"sam": [1.0]}, gradients), "noisy"))
    assert said.endswith("nothing to compare at equal cost; add --methods lookbehind multistep sam-longer sgd-longer.")
    three = {"sam": 64, "lookbehind": 96, "sgd": 32}
    said = verdict(Rows(_finished({"sam": [1.0], "lookbehind": [2.0], "sgd": [0.0]}, three), "noisy"))
    assert said.endswith("add --methods multistep sam-longer sgd-longer.")  # what is there is not asked for


def test_fewer_than_three_seeds_show_nothing() -> None:
    gradients = {"sam": 64, "lookbehind": 96, "sam-longer": 96}
    rows = Rows(
        _finished({"sam": [1.0, 2.0], "lookbehind": [80.0, 81.0], "sam-longer": [90.0, 91.0]}, gradients), "noisy"
    )
    assert "SAM, longer is ahead (90.50 %); so few seeds show nothing" in verdict(rows)
    assert differences(rows) is None
    out = io.StringIO()
    Console(width=150, file=out).print(table(rows))
    assert "±" not in out.getvalue()
    assert "2 seeds at most: no spread" in out.getvalue()


def test_csv_has_a_line_for_each_run() -> None:
    finished = _finished({"sam": [1.0, 2.0], "sgd": [3.0]}, {"sam": 2, "sgd": 1})
    lines = to_csv(finished).splitlines()
    assert len(lines) == 4
    assert lines[0].split(",")[-2:] == ["sharpness_0.1", "sharpness_0.2"]
    assert lines[1].startswith("sam,noisy,0,0.2,2,0.8,2,1.0,80.0,70.0,1.0,2,1.0,False,0.1,0.2")
    json.dumps([r.model_dump(mode="json") for _, r in finished])
