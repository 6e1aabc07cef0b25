"""The half of Table 4 that translates: grid, recipe and published numbers as the paper has them, and costs."""

from __future__ import annotations

import pytest

from lookbehind.lab.cell import Cell, Derived
from lookbehind.lab.estimate import estimate, gradients
from lookbehind.lab.method import Method
from lookbehind.lab.parts import Table, cells
from lookbehind.lab.report import tasks, tasks_possible
from lookbehind.lab.run import Run
from lookbehind.lab.translation import Translation
from lookbehind.lab.work import work
from lookbehind.paper import DEVICES, ITEMS, SCALES, translation
from lookbehind.paper.published import published

ROWS = ["Adam", "SAM", "Lookbehind-SAM", "Lookbehind-SAM, adaptive α", "ASAM", "Lookbehind-ASAM"]


def runs(scale: str) -> list[Run]:
    return [run for run, _ in tasks(translation.table(scale))]


@pytest.mark.parametrize("scale", SCALES)
def test_seven_rows(scale: str) -> None:
    table, *_ = translation.table(scale)
    assert isinstance(table, Table)
    assert [row.label for row in table.rows] == [*ROWS, "Lookbehind-ASAM, adaptive α"]
    for run in {run for run, _ in tasks_possible(translation.table(scale))}:
        assert Run.model_validate(run.model_dump()) == run
        assert isinstance(run.workload, Translation)
        if run.method.kind == "lookbehind":
            assert (run.method.k, run.method.switching) == (2, True)
            assert run.method.alpha in (0.8, "adaptive")
            assert run.gradients_per_step == 2  # what SAM costs
    assert len({run.seed for run in runs(scale)}) == {"smoke": 2, "cpu": 3, "paper": 3}[scale]


def test_grid_and_recipe_are_the_papers() -> None:
    assert len(runs("paper")) == 3 * (1 + 6 * 9)
    assert {run.method.rho for run in runs("paper")} == {None, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0}
    (w,) = {run.workload for run in runs("paper")}
    assert isinstance(w, Translation)
    assert (w.layers, w.width, w.feedforward, w.heads, w.dropout) == (6, 512, 1024, 4, 0.3)
    assert (w.lr, w.warmup, w.weight_decay, w.label_smoothing, w.tokens) == (5e-4, 4000, 1e-4, 0.1, 4096)
    assert (w.pieces, w.lowercase, w.beam, w.longest, w.score) == (10_000, True, 5, 175, "tokenised")
    assert (w.train, w.validation, w.test, w.frequent) == (None, None, None, None)


def test_published_values_stand_in_their_cells() -> None:
    table, *beside = translation.table("paper")
    assert isinstance(table, Table)
    for row in table.rows:
        (cell,) = row.cells
        name = row.label.replace(", adaptive α", " + adaptive alpha")
        assert isinstance(cell, Cell)
        assert cell.published == published(4, "IWSLT14-DE-EN", "Transformer", name, "test_bleu")
    assert all(cell.published is None for part in beside for cell in cells(part))
    for part in translation.table("cpu"):  # ours are of other data
        if part.title.startswith("Table 4 of the paper"):
            assert [cell.published.mean for cell in cells(part)] == [34.86, 34.78, 35.1, 35.22, 35.02, 35.4, 35.0]
        else:
            assert all(cell.published is None for cell in cells(part))


@pytest.mark.parametrize("scale", SCALES)
def test_equal_budgets_and_control(scale: str) -> None:
    budgets = [part for part in translation.table(scale) if isinstance(part, Table) and part.against]
    assert [part.against for part in budgets] == ["Lookbehind-SAM", "Lookbehind-ASAM"]
    for part, single in zip(budgets, ("SAM", "ASAM"), strict=True):
        ours, adam, sam, adaptive, radius = part.rows
        (reference,) = ours.cells
        assert isinstance(reference, Cell)
        spent = gradients(reference.runs[0])
        for row in (adam, sam, adaptive):
            (cell,) = row.cells
            assert isinstance(cell, Derived)
            for candidate in cell.possible:
                assert abs(gradients(candidate.runs[0]) - spent) <= 2 * work(reference.runs[0]).epochs
        assert radius.label == f"{single} at radius k·ρ"
        (cell,) = radius.cells
        assert isinstance(cell, Derived)
        for candidate, winner in zip(cell.possible, reference.candidates, strict=True):
            before = winner.runs[0].method
            expected = Method(kind="sam", perturbation=before.perturbation, rho=2 * before.rho)
            assert candidate.runs[0].method == expected


def test_costs() -> None:
    assert estimate(translation.table("cpu"), DEVICES["cpu"]).hours * 60 < 10
    assert estimate(translation.table("smoke"), DEVICES["smoke"]).hours * 3600 < 60
    adam = next(run for run in runs("paper") if run.method.kind == "base")
    assert work(adam).minibatches == pytest.approx(1100, rel=0.1)  # of 4096 tokens, as public logs of fairseq have it
    with pytest.raises(ValueError, match="train, validation and test are needed of trans-de-en"):
        work(adam.model_copy(update={"workload": Translation(dataset="trans-de-en", epochs=1)}))


@pytest.mark.parametrize("scale", SCALES)
def test_the_item_has_both_halves(scale: str) -> None:
    parts = ITEMS["table4"].at(scale).parts
    assert parts[: len(translation.table(scale))] == translation.table(scale)
    assert len({part.title for part in parts}) == len(parts)
    assert ITEMS["table4"].at(scale).notes


def test_unknown_scale() -> None:
    with pytest.raises(ValueError, match="scale is 'huge'; allowed are smoke, cpu, paper"):
        translation.table("huge")
