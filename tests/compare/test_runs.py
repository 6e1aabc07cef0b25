"""Runs as data, the store, and the numbers of the report."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats

from lookbehind.compare import METHODS, Run, Store, plan
from lookbehind.compare.figure import _trade_off
from lookbehind.compare.report import Rows, differences, paired, table, to_csv, verdict
from lookbehind.compare.runs import Result, execute, gradients_of


def a_run(**changes) -> Run:
    settings = {"rho": 0.2, "k": 2, "alpha": 0.8, "radii": (0.1, 0.2), "epochs": 2, "draws": 1}
    return plan([changes.pop("method", "sam")], [changes.pop("labels", "noisy")], 1, **(settings | changes))[0]


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
def test_every_method_spends_the_gradients_that_are_planned(method: str) -> None:
    run = a_run(method=method)
    result = execute(run)
    assert result.gradients == gradients_of(run)
    steps = 2 * 16
    expected = {"sgd": 1, "sam": 2, "lookahead": 2, "sam-radius": 2, "sam-rate": 2}.get(method, 3)
    assert result.gradients == steps * expected
    assert 0 <= result.test_accuracy <= 100
    assert result.sharpness is not None
    assert len(result.losses) == {"sgd-longer": 6, "sam-longer": 3}.get(method, 2)


def test_a_run_is_repeatable_and_its_settings_decide_its_address() -> None:
    run = a_run()
    one, two = execute(run), execute(run)
    assert one.model_copy(update={"seconds": 0.0}) == two.model_copy(update={"seconds": 0.0})
    addresses = {a_run(**{name: value}).address for name, value in
                 [("rho", 0.1), ("k", 3), ("alpha", 0.5), ("epochs", 3), ("radii", (0.1,)), ("method", "sgd"),
                  ("labels", "clean"), ("device", "cuda"), ("version", "9")]}  # fmt: skip
    assert len(addresses | {run.address}) == 10


def test_methods_share_split_and_initial_weights() -> None:
    """Differences are paired: with a learning rate of 0 all methods end with the same numbers."""
    results = [execute(a_run(method=m, lr=0.0, epochs=1)) for m in ("sgd", "sam", "lookbehind")]
    assert len({(r.test_accuracy, r.validation_accuracy) for r in results}) == 1


def test_a_diverged_run_is_recorded_as_diverged() -> None:
    result = execute(a_run(method="sgd", lr=1e18, epochs=3))
    assert result.diverged
    assert result.sharpness == (None, None)


def test_a_radius_that_overflows_is_no_divergence() -> None:
    result = execute(a_run(method="sgd", radii=(0.1, 1e30), epochs=1))
    assert not result.diverged
    assert result.train_loss is not None
    assert result.sharpness[0] is not None
    assert result.sharpness[1] is None


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


def test_the_store_gives_back_what_it_got(tmp_path: Path) -> None:
    store, run = Store(tmp_path / "new" / "folder"), a_run()
    store.open()
    assert store.load(run) is None
    store.save(run, a_result())
    assert store.load(run) == a_result()
    assert store.load(a_run(rho=0.3)) is None
    assert [p.name for p in store.folder.iterdir()] == [f"{run.address}.json"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "", "damaged"),
        (lambda text: "[1, 2]", "damaged"),
        (lambda text: "{}", "damaged"),
        (lambda text: text.replace('"test_accuracy": 90.0', '"test_accuracy": 99.0'), "checksum"),
    ],
)
def test_a_damaged_file_is_not_believed(tmp_path: Path, damage, reason: str) -> None:
    store, run = Store(tmp_path), a_run()
    store.save(run, a_result())
    store.path(run).write_text(damage(store.path(run).read_text()))
    with pytest.raises(ValueError, match=reason):
        store.load(run)


def test_a_file_of_other_settings_is_not_believed(tmp_path: Path) -> None:
    store, run, other = Store(tmp_path), a_run(), a_run(rho=0.3)
    store.save(other, a_result())
    store.path(other).rename(store.path(run))
    with pytest.raises(ValueError, match="other settings"):
        store.load(run)


def test_a_file_that_is_not_text_is_not_believed(tmp_path: Path) -> None:
    store, run = Store(tmp_path), a_run()
    store.path(run).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read"):
        store.load(run)


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    store, run = Store(tmp_path), a_run()
    store.save(run, a_result(90.0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.save(run, a_result(91.0))
    assert len(list(tmp_path.iterdir())) == 1
    assert store.load(run) == a_result(90.0)


def test_paired_interval_against_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (2, 3, 8):
        a, b = torch.randn(2, n, generator=generator, dtype=torch.float64).tolist()
        interval = stats.ttest_rel(a, b).confidence_interval(0.95)
        ours = paired(a, b)
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
        assert ours.shows == (stats.ttest_rel(a, b).pvalue < 0.05)
        wider = stats.ttest_rel(a, b).confidence_interval(1 - 0.05 / 4)
        assert paired(a, b, comparisons=4).low == pytest.approx(wider.low)
    assert paired([1.0], [0.5]).low is None


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
    assert "nothing to compare" in verdict(Rows(_finished({"sam": [1.0]}, gradients), "noisy"))


def test_csv_has_a_line_for_each_run() -> None:
    finished = _finished({"sam": [1.0, 2.0], "sgd": [3.0]}, {"sam": 2, "sgd": 1})
    lines = to_csv(finished).splitlines()
    assert len(lines) == 4
    assert lines[0].split(",")[-2:] == ["sharpness_0.1", "sharpness_0.2"]
    assert lines[1].startswith("sam,noisy,0,0.2,2,0.8,2,1.0,80.0,70.0,1.0,2,1.0,False,0.1,0.2")
    json.dumps([r.model_dump(mode="json") for _, r in finished])
