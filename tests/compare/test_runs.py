"""Rows as runs of the lab, and the numbers of the report. The store and the training are tested in tests/lab."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from lookbehind.compare import METHODS, Comparison
from lookbehind.compare.figure import _trade_off
from lookbehind.compare.items import LOSS, NOISY, digits
from lookbehind.compare.report import Rows, differences, records, table, to_csv, verdict
from lookbehind.lab import Run, Store, execute
from lookbehind.lab.estimate import gradients
from lookbehind.lab.report import tasks
from tests.compare.saved import Saved


def comparison(*methods: str, labels: str = "noisy", epochs: int = 2, seeds: int = 1, **changes) -> Comparison:
    settings = {"rho": 0.2, "k": 2, "alpha": 0.8, "radii": (0.1, 0.2)}
    return Comparison(labels, digits(labels).for_epochs(epochs), methods or ("sam",), seeds, **(settings | changes))


def a_run(method: str = "sam", **changes) -> Run:
    return comparison(method, **changes).candidates[method].runs[0]


def numbers(accuracy: float = 90.0, gradients: int = 96, **changes) -> dict:
    found = {
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
    return found | changes


def rows_of(found: dict[str, list[dict]]) -> Rows:
    compared = comparison(*found, seeds=max(map(len, found.values())))
    return Rows(compared, Saved(compared, found))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_spends_the_gradients_that_are_planned(method: str, tmp_path: Path) -> None:
    compared, store = comparison(method), Store(tmp_path)
    [(run, measurements)] = tasks([compared.table])
    execute(run, store)
    assert Rows(compared, store).by_method[method][NOISY].text() == "missing"
    execute(run, store, measurements)
    [(about, result)] = records([Rows(compared, store)])
    steps = 2 * 16
    expected = {"sgd": 1, "sam": 2, "lookahead": 2, "sam-radius": 2, "sam-rate": 2}.get(method, 3)
    assert result["gradients"] == gradients(run) == steps * expected
    assert 0 <= result["test_accuracy"] <= 100
    assert len(result["sharpness"]) == 2
    assert len(result["losses"]) == {"sgd-longer": 6, "sam-longer": 3}.get(method, 2)
    assert (about["method"], about["labels"], about["seed"], about["epochs"]) == (method, "noisy", 0, 2)


ADDRESSES = """
89a832d85bfc5e81 f02eb39296a21f9c e0d47de507c232ba 19f5ea5d3f85516b fc99ca60aaad6346
a9db1f84cb78ba4e 44871e6220562e5d dfc0170bb1284e66 4d8b36ed082341ef 36f6f39b5f3000d0
d7419d70a07d299a e469f8921d765c54 8aa21a1105808178 ab5e356b794f10b6 b8f2569c1f0a9420
9cce6cb49d590ff7 fefa0a0d16f8e4a0 8ef307bf5dd9730d e5f207524aaf1531 be876fe90e78117a
"""


def test_the_addresses_of_runs_stay() -> None:
    """Stores are read on. After 0.2.0 the memory format moved them all, once."""
    settings = {"epochs": 20, "radii": (0.05, 0.2, 0.5)}
    found = tasks(comparison(*METHODS, labels=labels, **settings).table for labels in ("noisy", "clean"))
    assert [run.address for run, _ in found] == ADDRESSES.split()
    assert {tuple(sorted(m.address for m in measurements)) for _, measurements in found} == {
        ("441004f2af9fd2e1", "898b3e4cce5807dd")
    }


def test_settings_decide_what_is_trained_and_measured() -> None:
    def addresses(*methods: str, **changes) -> tuple[str, ...]:
        [(run, measurements)] = tasks([comparison(*methods, **changes).table])
        return (run.address, *(measurement.address for measurement in measurements))

    methods = ("sgd", "lookahead", "lookbehind", "multistep", "sam-rate", "sam-radius")
    changes = [{"rho": 0.1}, {"epochs": 3}, {"radii": (0.1,)}, {"labels": "clean"}]
    found = {*(addresses(**change) for change in changes), *(addresses(method) for method in methods)}
    assert len(found | {addresses("sam")}) == len(changes) + len(methods) + 1
    for change in ({"k": 3}, {"alpha": 0.5}):
        assert addresses("lookbehind", **change) != addresses("lookbehind")


def test_controls_are_what_they_are_called() -> None:
    sam = a_run()
    assert a_run("sam-rate").method.rate == pytest.approx(0.8 * 2)
    assert a_run("sam-radius").method.rho == pytest.approx(2 * 0.2)
    assert a_run("sam-longer").workload == sam.workload.for_epochs(3)
    assert {a_run(m).workload for m in METHODS if "longer" not in m} == {sam.workload}
    assert all(a_run(m).method.unperturbed_statistics for m in METHODS if "sgd" not in m)


def test_a_diverged_run_has_no_measurements(tmp_path: Path) -> None:
    compared, store = comparison(rho=1e38), Store(tmp_path)
    [(run, measurements)] = tasks([compared.table])
    execute(run, store, measurements)
    [(_, result)] = records([Rows(compared, store)])
    assert result["diverged"]
    assert 0 <= result["test_accuracy"] <= 100
    assert (result["noisy_accuracy"], result["train_loss"], result["sharpness"]) == (None, None, [None, None])


def _partly_diverged(lookbehind: int) -> Rows:
    """Three seeds; so many of Lookbehind's diverged, the first ones, long before the budget was spent."""
    lost = numbers(10.0, 5, train_loss=None, sharpness=(None, None), diverged=True)
    found = _found(
        {"sam": [95.0] * 3, "lookbehind": [96.0, 96.5, 97.0], "sam-longer": [90.0, 91.0, 92.0]},
        {"sam": 64, "lookbehind": 96, "sam-longer": 96},
    )
    found["lookbehind"][:lookbehind] = [lost] * lookbehind
    return rows_of(found)


def test_a_diverged_seed_is_shown_and_does_not_change_the_budget() -> None:
    rows = _partly_diverged(1)
    assert rows.name("lookbehind") == "Lookbehind-SAM (1 of 3 diverged)"
    assert rows.budget() == 96
    assert sorted(rows.equal_cost()) == ["lookbehind", "sam-longer"]
    output = Console(width=200, file=io.StringIO())
    output.print(table(rows), differences(rows))
    text = output.file.getvalue()
    assert text.count("Lookbehind-SAM (1 of 3 diverged)") == 2
    assert "67.83 ± 50.09" in text  # the accuracies of all three
    assert rows.by_method["lookbehind"][LOSS].by_seed == {1: 1.0, 2: 1.0}
    assert "accuracies include diverged runs" in text
    assert "SAM, longer is best" in verdict(rows)


def test_no_budget_if_lookbehind_always_diverged() -> None:
    rows = _partly_diverged(3)
    assert rows.budget() is None
    output = Console(width=200, file=io.StringIO())
    output.print(table(rows))
    assert output.file.getvalue().count("not finite") == 4
    assert "Lookbehind diverged with every seed" in verdict(rows)


@pytest.mark.parametrize(("sharpness", "scale"), [((0.1, 0.2), "log"), ((0.1, -0.2), "linear")])
def test_negative_sharpness_is_drawn(sharpness: tuple[float, float], scale: str) -> None:
    rows = rows_of({"sam": [numbers(sharpness=sharpness)]})
    axes = Figure().add_subplot()
    _trade_off(axes, rows)
    assert axes.get_yscale() == scale
    assert axes.collections[0].get_offsets()[0].tolist() == [1.0, sharpness[1]]


def _found(accuracies: dict[str, list[float]], gradients: dict[str, int]) -> dict[str, list[dict]]:
    return {method: [numbers(value, gradients[method]) for value in of] for method, of in accuracies.items()}


def test_the_verdict_names_the_best_at_equal_cost_whoever_it_is() -> None:
    gradients = {"sam": 64, "lookbehind": 96, "sam-longer": 96, "sgd-longer": 97}
    clear = {
        "sam": [99.0] * 3,
        "lookbehind": [80.0, 81.0, 82.0],
        "sam-longer": [90.0, 91.0, 92.1],
        "sgd-longer": [70.0, 71, 72],
    }
    sentence = verdict(rows_of(_found(clear, gradients)))
    assert "SAM, longer is best (91.03 %)" in sentence  # SAM itself spent less and does not count
    assert "against all 2 rivals" in sentence
    close = clear | {"lookbehind": [89.5, 90.1, 91.5]}  # 0.7 ± 0.26: shown to one rival, but not among two
    rows = rows_of(_found(close, gradients))
    assert rows.against("sam-longer", "lookbehind").shows
    assert "no difference to Lookbehind-SAM" in verdict(rows)
    unclear = clear | {"lookbehind": [95.0, 80.0, 97.0]}
    assert "no difference to" in verdict(rows_of(_found(unclear, gradients)))
    said = verdict(rows_of(_found({"sam": [1.0]}, gradients)))
    assert said.endswith("nothing to compare at equal cost; add --methods lookbehind multistep sam-longer sgd-longer.")
    three = {"sam": 64, "lookbehind": 96, "sgd": 32}
    said = verdict(rows_of(_found({"sam": [1.0], "lookbehind": [2.0], "sgd": [0.0]}, three)))
    assert said.endswith("add --methods multistep sam-longer sgd-longer.")  # what is there is not asked for


def test_fewer_than_three_seeds_show_nothing() -> None:
    gradients = {"sam": 64, "lookbehind": 96, "sam-longer": 96}
    rows = rows_of(_found({"sam": [1.0, 2.0], "lookbehind": [80.0, 81.0], "sam-longer": [90.0, 91.0]}, gradients))
    assert "SAM, longer is ahead (90.50 %); so few seeds show nothing" in verdict(rows)
    assert differences(rows) is None
    out = io.StringIO()
    Console(width=150, file=out).print(table(rows))
    assert "±" not in out.getvalue()
    assert "2 seeds at most: no spread" in out.getvalue()


def test_csv_has_a_line_for_each_run() -> None:
    found = _found({"sam": [1.0, 2.0], "sgd": [3.0, 4.0]}, {"sam": 2, "sgd": 1})
    lines = to_csv([rows_of(found)]).splitlines()
    assert len(lines) == 5
    assert lines[0].split(",")[-2:] == ["sharpness_0.1", "sharpness_0.2"]
    assert lines[1] == "sam,noisy,0,0.2,2,0.8,2,1.0,80.0,70.0,1.0,2,1.0,False,0.1,0.2"
