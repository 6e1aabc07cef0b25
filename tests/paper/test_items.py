"""The declarations: grids as section 4 and appendix A of the paper have them, shared runs, and costs within bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from lookbehind.lab.cell import Cell, Derived, evaluate
from lookbehind.lab.estimate import estimate
from lookbehind.lab.method import Method
from lookbehind.lab.metrics import best_epoch, best_test_accuracy
from lookbehind.lab.parts import Heatmap, Lines, Part, Scatter, Table, cells
from lookbehind.lab.report import tasks, tasks_possible
from lookbehind.lab.run import NoiseSettings, Run, SharpnessSettings
from lookbehind.models import MODELS
from lookbehind.paper import DEVICES, ITEMS, SCALES
from lookbehind.paper.published import published
from lookbehind.paper.workloads import asam_setup, figure_pairs, pairs
from tests.lab.known import Known

NAMES = [f"table{n}" for n in (1, 3, 5, 8, 9)] + [f"figure{n}" for n in (1, *range(3, 13), 15, 16)]
HEADS = ["CIFAR-10, ResNet-34", "CIFAR-10, WRN-28-2", "CIFAR-100, ResNet-50", "CIFAR-100, WRN-28-10"]
IMAGENET = "ImageNet, ResNet-18"


def parts(name: str, scale: str = "paper") -> tuple[Part, ...]:
    return ITEMS[name].at(scale).parts


def certain(name: str, scale: str = "paper") -> list[Run]:
    return [run for run, _ in tasks(parts(name, scale))]


def kinds(runs: list[Run]) -> Counter[tuple[str, str | None, str | None]]:
    return Counter((run.method.kind, run.method.perturbation, run.method.gather) for run in runs)


def test_the_items() -> None:
    elsewhere = {"table2", "table4", "table6", "table7"}  # tests/paper/test_table4.py, tests/lifelong/test_items.py
    assert [name for name in ITEMS if name not in elsewhere] == NAMES
    assert all(item.name == name and item.scales == SCALES for name, item in ITEMS.items())


@pytest.mark.parametrize("scale", SCALES)
def test_every_run_is_valid_and_has_its_own_address(scale: str) -> None:
    """Candidates of derived cells are made by copying, which does not validate: here all are validated."""
    every = {run for name in NAMES for run, _ in tasks_possible(parts(name, scale))}
    for run in every:
        assert Run.model_validate(run.model_dump()) == run
        assert run.workload.model in MODELS
    assert len({run.address for run in every}) == len(every)
    assert len({run.seed for run in every}) == {"smoke": 2, "cpu": 5, "paper": 5}[scale]


def test_runs_are_shared() -> None:
    for scale, most in (("smoke", 0.4), ("cpu", 0.5), ("paper", 0.4)):
        each = [set(certain(name, scale)) for name in NAMES]
        assert len(set().union(*each)) < most * sum(map(len, each))
    assert set(certain("figure6")) <= set(certain("figure15"))
    for name in ("figure5", "figure15", "figure16", "table5"):
        assert set(certain(name)) <= set(certain("table1")), name
    assert set(certain("figure1")) == set(certain("figure3"))
    assert set(certain("table3")) <= set(certain("table8"))
    assert set(certain("figure12")) <= set(certain("figure11")) & set(certain("table3"))


# --- section 10's grids, at scale paper ------------------------------------------------------------------------


def test_table_1_grid() -> None:
    table = parts("table1")[0]
    assert isinstance(table, Table)
    assert table.columns == (*HEADS, IMAGENET)
    counts = {row.label: [len(cell.candidates) for cell in row.cells if isinstance(cell, Cell)] for row in table.rows}
    assert counts == {
        "SGD": [1] * 5,
        "Lookahead-SGD": [9] * 4 + [3],
        "SAM": [3] * 5,
        "Multistep-SAM": [3] * 4 + [1],
        "Lookahead-SAM": [9] * 4 + [3],
        "Lookbehind-SAM": [9] * 4 + [3],
        "ASAM": [3] * 5,
        "Multistep-ASAM": [3] * 4 + [1],
        "Lookahead-ASAM": [9] * 4 + [3],
        "Lookbehind-ASAM": [9] * 4 + [3],
    }
    assert {
        len(candidate.runs) for cell in cells(table) if isinstance(cell, Cell) for candidate in cell.candidates
    } == {3}
    assert len(certain("table1")) == 3 * (4 * 58 + 24)


def test_table_1_radii() -> None:
    runs = certain("table1")
    tuned = {(r.workload.dataset, r.method.perturbation): set[float]() for r in runs if r.method.kind == "sam"}
    fixed = {key: set[float]() for key in tuned}
    for run in runs:
        if run.method.perturbation and run.method.rho:
            where = tuned if run.method.kind == "sam" else fixed
            where[run.workload.dataset, run.method.perturbation].add(run.method.rho)
    for dataset, sam, asam in (("cifar10", 0.05, 0.5), ("cifar100", 0.1, 1.0), ("imagenet", 0.05, 1.0)):
        assert tuned[dataset, "sam"] == {0.05, 0.1, 0.2}
        assert tuned[dataset, "asam"] == {0.5, 1.0, 2.0}
        assert (fixed[dataset, "sam"], fixed[dataset, "asam"]) == ({sam}, {asam})


def test_recipes_are_the_papers() -> None:
    cifar, *_, imagenet = pairs("paper")
    w = cifar.workload
    assert (w.epochs, w.batch, w.lr, w.factor, w.milestones) == (200, 128, 0.1, 0.1, (50, 100, 150))
    assert (w.momentum, w.weight_decay, w.schedule, w.augment, w.noise) == (0.9, 1e-4, "steps", True, 0.0)
    assert (w.validation, w.train, w.test, w.label_smoothing) == (0, None, None, 0.0)
    w = imagenet.workload
    assert (w.model, w.epochs, w.batch, w.lr, w.factor, w.milestones) == ("resnet18", 90, 400, 0.1, 0.1, (30, 60))
    w = asam_setup("paper").workload
    assert (w.model, w.schedule, w.label_smoothing, w.weight_decay, w.epochs) == ("wrn-28-10", "cosine", 0.1, 5e-4, 200)
    for run in certain("table8"):
        assert (run.method.eta, run.method.unperturbed_statistics, run.method.rate) == (0.0, False, 1.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # per pair: SAM and ASAM 3, static 9, adaptive 3 (ImageNet 3, 3, 1) and SGD, over three seeds
        ("table3", 3 * (4 * (1 + 2 * (3 + 9 + 3)) + (1 + 2 * (3 + 3 + 1)))),
        ("table5", 3 * 5 * 6),
        # Table 3 with Multistep and its mean
        ("table8", 3 * (4 * (1 + 2 * (3 + 3 + 3 + 9 + 3)) + (1 + 2 * (3 + 1 + 1 + 3 + 1)))),
        ("table9", 5 * 5),
        ("figure3", 3 * 3 * (1 + 3 + 9 + 9)),
        ("figure8", 3 * 3 * (1 + 3 + 9 + 9)),
        ("figure4", 3 * 2 * (4 * (4 + 3 + 9 + 9) + (4 + 1 + 3 + 3))),
        ("figure5", 3 * 2 * 2 * (1 + 3 + 9 + 9)),
        ("figure6", 3 * 2 * (1 + 9)),
        ("figure7", 3 * 4 * (1 + 3 + 9 + 9)),
        ("figure9", 3 * 4 * (1 + 3 + 9 + 9)),
        ("figure10", 3 * 2 * (1 + 9)),  # certain; the switches follow
        ("figure11", 3 * 2 * (3 + 9 + 3)),
        ("figure12", 3 * 2 * 3),
        ("figure15", 3 * 2 * (4 * 10 + 4)),
        ("figure16", 3 * 2 * (4 * 10 + 4)),
    ],
)
def test_numbers_of_runs(name: str, expected: int) -> None:
    assert len(certain(name)) == expected


def test_table_9() -> None:
    assert kinds(certain("table9")) == {
        ("base", None, None): 5,
        ("sam", "sam", None): 5,
        ("sam", "asam", None): 5,
        ("lookbehind", "sam", None): 5,
        ("lookbehind", "asam", None): 5,
    }
    for run in certain("table9"):
        assert (run.method.k, run.method.alpha) == (
            (2, "adaptive") if run.method.kind == "lookbehind" else (None, None)
        )
        assert run.method.rho == {None: None, "sam": 0.1, "asam": 1.0}[run.method.perturbation]


def test_table_5_selects_by_accuracy() -> None:
    (table,) = parts("table5")
    for cell in cells(table):
        assert isinstance(cell, Cell)
        assert (cell.metric, cell.select_by, cell.ddof) == (best_epoch(), best_test_accuracy(), 0)


def test_measurements() -> None:
    for name, radii, rule in (
        ("figure3", (0.05, *(i / 2 for i in range(1, 11))), "sam"),
        ("figure8", tuple(i / 2 for i in range(1, 11)), "asam"),
    ):
        expected = SharpnessSettings(radii=radii, m=128, perturbation=rule)  # type: ignore[arg-type]
        assert {measurement for _, each in tasks(parts(name)) for measurement in each} == {expected}
    found = {(run.workload.dataset, *each) for run, each in tasks(parts("figure4"))}
    sigmas = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert found == {
        ("cifar10", NoiseSettings(sigmas=sigmas, draws=10)),
        ("cifar100", NoiseSettings(sigmas=sigmas, draws=10)),
        ("imagenet", NoiseSettings(sigmas=sigmas, draws=3)),
    }


def derived(name: str) -> Iterator[Derived]:
    for part in parts(name):
        yield from (cell for cell in cells(part) if isinstance(cell, Derived))


def test_figure_10_switches() -> None:
    lines = [part for part in parts("figure10") if isinstance(part, Lines)]
    assert [(len(part.series), part.series[0].xs) for part in lines] == [(3, (0.0, 50.0, 100.0, 150.0, 200.0))] * 4
    sam = Method(kind="sam", perturbation="sam", rho=0.05)
    for at, cell in zip((0, 50, 100, 150, 200), lines[0].series[0].cells, strict=True):  # SAM, then Lookbehind
        assert isinstance(cell, Derived)
        for candidate, own in zip(cell.possible, cell.of[0].candidates, strict=True):
            for run, plain in zip(candidate.runs, own.runs, strict=True):
                methods = [run.method_at(epoch) for epoch in range(200)]
                assert methods == [sam] * at + [plain.method] * (200 - at)
                assert (run.workload, run.seed) == (plain.workload, plain.seed)
    last = lines[2].series[0].cells[-1]  # Lookbehind, then SAM, after the last epoch: Lookbehind alone
    assert isinstance(last, Derived)
    assert [c.runs for c in last.possible] == [c.runs for c in last.of[0].candidates]


def test_figure_11_steps() -> None:
    runs = [run for run in certain("figure11") if run.method.divided]
    assert {(run.method.k, run.method.alpha, run.method.rho) for run in runs if run.method.perturbation == "sam"} == {
        (k, 1.0, 0.05) for k in (2, 5, 10)
    }


def test_figure_1_points() -> None:
    (figure,) = parts("figure1")
    assert isinstance(figure, Scatter)
    assert [point.label for point in figure.points[:5]] == [
        "SAM, ρ=0.05",
        "Multistep-SAM, ρ=0.05",
        "Lookahead-SAM, ρ=0.05",
        "Lookbehind-SAM, ρ=0.05",
        "SAM, ρ=0.1",
    ]
    looks = [(point.style.marker, point.style.filled) for point in figure.points[:4]]
    assert looks == [("circle", True), ("circle", False), ("triangle", False), ("triangle", True)]
    assert figure.points[0].style.shade < figure.points[4].style.shade < figure.points[8].style.shade == 1


@pytest.mark.parametrize(("name", "kind"), [("figure15", "lookbehind"), ("figure16", "lookahead")])
def test_heatmaps_are_where_they_say(name: str, kind: str) -> None:
    for part in parts(name):
        assert isinstance(part, Heatmap)
        for alpha, row in zip(part.ys, part.cells, strict=True):
            for k, cell in zip(part.xs, row, strict=True):
                assert isinstance(cell, Cell)
                ((run, *_),) = (candidate.runs for candidate in cell.candidates)
                assert (run.method.kind, run.method.k, run.method.alpha) == (kind, k, alpha)
        assert isinstance(part.baseline, Cell)
        (baseline,) = part.baseline.candidates
        assert baseline.runs[0].method.rho == run.method.rho


# --- published values, budget tables, costs ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table1", "table3", "table5", "table8", "table9"])
def test_published_values_stand_in_their_cells(name: str) -> None:
    table, number = parts(name)[0], int(name.removeprefix("table"))
    assert isinstance(table, Table)
    kind = {5: "best_epoch", 9: "test_accuracy_pct"}.get(number, "val_accuracy_pct")
    for row in table.rows:
        label = row.label.replace(", mean gradient", " + average grads").replace(", adaptive α", " + adaptive alpha")
        for head, cell in zip(table.columns, row.cells, strict=True):
            assert cell is not None
            assert cell.published == published(number, *head.split(", "), label, kind)
    small = [part for part in parts(name, "cpu") if part.title == f"Table {number} of the paper"]
    shown = [evaluate(cell, Known()).published for part in small for cell in cells(part)]
    assert shown == [cell.published for cell in cells(table)]
    for part in parts(name, "cpu"):  # ours are of other data: no published number stands beside them
        assert part in small or all(cell.published is None for cell in cells(part))


@pytest.mark.parametrize("name", ["table1", "table3", "table8", "table9"])
@pytest.mark.parametrize("scale", SCALES)
def test_every_accuracy_table_has_equal_budgets_and_controls(name: str, scale: str) -> None:
    beside = [part for part in parts(name, scale) if isinstance(part, Table) and part.against]
    assert [part.against for part in beside] == ["Lookbehind-SAM", "Lookbehind-ASAM"]
    for part, single in zip(beside, ("SAM", "ASAM"), strict=True):
        labels = [row.label for row in part.rows]
        assert {"SGD, equal budget", f"{single}, equal budget"} < set(labels)
        assert labels[-2:] == [f"{single} at rate α·k·η", f"{single} at radius k·ρ"]
        assert len(set(labels)) == len(labels)
        for row in part.rows[1:-2]:
            for cell in row.cells:
                assert isinstance(cell, Derived)
                for candidate, (ours, _) in zip(
                    cell.possible, ((a, b) for a in cell.of[0].candidates for b in cell.of[1].candidates), strict=True
                ):
                    mine, theirs = candidate.runs[0], ours.runs[0]
                    spent = mine.workload.epochs * mine.gradients_per_step
                    budget = theirs.workload.epochs * theirs.gradients_per_step
                    assert abs(spent - budget) <= mine.gradients_per_step / 2


@pytest.mark.parametrize("name", NAMES)
def test_an_item_takes_ten_minutes_at_most_at_scale_cpu(name: str) -> None:
    assert estimate(parts(name, "cpu"), DEVICES["cpu"]).hours * 60 < 10
    assert estimate(parts(name, "smoke"), DEVICES["smoke"]).hours * 3600 < 20


@pytest.mark.parametrize("name", NAMES)
def test_scale_cpu_is_of_real_data_and_three_seeds(name: str) -> None:
    for part in parts(name, "cpu"):
        for cell in cells(part):
            candidates = cell.possible if isinstance(cell, Derived) else cell.candidates
            assert all(len({run.seed for run in candidate.runs}) >= 3 for candidate in candidates)
            assert all(run.workload.noise > 0 for candidate in candidates for run in candidate.runs)


def test_every_item_says_what_was_decided() -> None:
    for name in NAMES:
        for scale in SCALES:
            assert ITEMS[name].at(scale).notes


def test_unknown_scale() -> None:
    with pytest.raises(ValueError, match="scale is 'huge'; allowed are smoke, cpu, paper"):
        figure_pairs("huge")
