"""Costs by formulas of their own."""

from __future__ import annotations

import pytest

from lookbehind.data import load
from lookbehind.lab.budget import longer
from lookbehind.lab.cell import Cell, Derived
from lookbehind.lab.estimate import Device, estimate, gradients, seconds
from lookbehind.lab.method import Method
from lookbehind.lab.parts import Row, Table
from lookbehind.lab.run import NoiseSettings, Run, SharpnessSettings, Workload
from lookbehind.lab.work import IMAGES, forward_flops, sizes
from tests.lab.known import Known, lookbehind, sam, sgd

CIFAR = Workload(dataset="cifar10", model="resnet34", epochs=200, validation=0)
LOOKBEHIND = Method(kind="lookbehind", perturbation="sam", rho=0.05, k=5, alpha=0.5)


@pytest.mark.parametrize(
    "settings",
    [{}, {"train": 64}, {"train": 64, "validation": 10}, {"train": 64, "validation": 10, "test": 20}],
)
def test_sizes_are_those_of_the_data(settings: dict[str, int]) -> None:
    data = load("digits", **settings)  # type: ignore[arg-type]
    found = sizes(Workload(dataset="digits", model="convnet", epochs=1, **settings))  # type: ignore[arg-type]
    assert found == (len(data.train), len(data.validation), len(data.test))
    facts = IMAGES["digits"]
    assert (facts.channels, facts.size, facts.classes) == (data.channels, data.size, len(data.classes))


def test_sizes_of_data_with_test_images() -> None:
    assert sizes(CIFAR) == (50_000, 0, 10_000)
    assert sizes(Workload(dataset="imagenet", model="resnet18", epochs=1)) == (1_153_051, 128_116, 50_000)


@pytest.mark.parametrize(
    ("method", "each"),
    [
        (Method(kind="base"), 1),
        (Method(kind="lookahead", k=5, alpha=0.5), 1),
        (Method(kind="sam", perturbation="sam", rho=0.1), 2),
        (Method(kind="lookahead", perturbation="sam", rho=0.1, k=5, alpha=0.5), 2),
        (Method(kind="multistep", perturbation="sam", rho=0.1, k=5, gather="last"), 6),
        (LOOKBEHIND, 6),
    ],
)
def test_gradients(method: Method, each: int) -> None:
    assert gradients(Run(workload=CIFAR, method=method)) == 391 * 200 * each


def test_gradients_of_a_run_that_switches() -> None:
    run = Run(workload=CIFAR, method=Method(kind="base"), later=LOOKBEHIND, switch=50)
    assert gradients(run) == 391 * (50 * 1 + 150 * 6)


def test_seconds() -> None:
    workload = Workload(dataset="digits", model="convnet", train=900, validation=300, test=300, epochs=10)
    device = Device("", flops=1.0, rates={("convnet", 8): 1000.0}, overhead=7.0)
    run = Run(workload=workload, method=Method(kind="sam", perturbation="sam", rho=0.1))
    # Ten epochs of two passes over 900 images, and forward (a third) over 600.
    assert seconds(run, (), device) == pytest.approx(7 + 10 * (0.9 * 2 + 0.6 / 3))
    one_step = SharpnessSettings(radii=(0.1, 0.2, 0.3))  # a gradient, and three times forward
    assert seconds(run, (one_step,), device) - seconds(run, (), device) == pytest.approx(0.9 * 2)
    noisy = NoiseSettings(sigmas=(0.1, 0.2), draws=5)  # ten times forward over training and test images
    assert seconds(run, (noisy,), device) - seconds(run, (), device) == pytest.approx(10 * 1.2 / 3)


def test_floating_point_operations() -> None:
    conv = 2 * 9 * (64 * 1 * 16 + 16 * 16 * 32 + 16 * 32 * 64)  # 3×3, at 8×8, then at 4×4
    assert forward_flops("convnet", 1, 8, 10) == conv + 2 * 64 * 10


def test_estimate_counts_shared_runs_once_and_the_dearest_outcome() -> None:
    ours = Cell((lookbehind(2), lookbehind(5)))
    rows = (
        Row("ours", (ours, ours)),
        Row("longer", (Derived((ours, Cell((sgd(),))), longer), Derived((ours, Cell((sgd(),))), longer))),
    )
    device = Device("slow", flops=1.0, rates={("convnet", 8): 100.0}, workers=2)
    table = Table("", ("a", "b"), rows)
    found = estimate([table, table], device)
    steps = 8 * 4 * 3  # 1,000 images in 128s, four epochs, three seeds
    # Lookbehind with k = 2 and 5, SGD, and SGD for six times as long, should k = 5 win.
    assert found.gradients == steps * (3 + 6 + 1 + 6)
    assert found.runs == 12
    passes = 3 * (1000 * 4 * 16 + (4 + 4 + 4 + 24) * 797 / 3)
    assert found.hours == pytest.approx(passes / 100 / 2 / 3600)
    assert (found.device, found.done, found.hours_left) == ("slow", 0, found.hours)


def test_what_a_selection_has_decided_is_no_longer_guessed() -> None:
    known = Known()
    ours, plain = Cell((lookbehind(2), lookbehind(5))), Cell((sgd(),))
    table = Table("", ("a",), (Row("ours", (ours,)), Row("longer", (Derived((ours, plain), longer),))))
    device = Device("", flops=1.0, rates={("convnet", 8): 100.0})
    known.put(lookbehind(2), 9, 9, 9)
    known.put(lookbehind(5), 1, 1, 1)
    known.put(sgd(), 1, 1, 1)
    found = estimate([table], device, known)
    steps = 8 * 4 * 3
    assert found.gradients == steps * (3 + 6 + 1 + 3)
    assert (found.runs, found.done) == (12, 9)
    known.put(longer(lookbehind(2), sgd()), 1, 1, 1)
    found = estimate([table], device, known)
    assert (found.done, found.hours_left) == (12, 0)


def test_what_is_done_is_not_left() -> None:
    known = Known()
    known.put(sam(0.1), 1, 2)
    device = Device("", flops=1.0, rates={("convnet", 8): 100.0})
    found = estimate([Table("", ("a",), (Row("", (Cell((sam(0.1),)),)),))], device, known)
    assert (found.runs, found.done) == (3, 2)
    assert found.hours_left == pytest.approx(found.hours / 3)


def test_unknown_data() -> None:
    with pytest.raises(ValueError, match="'mine' is unknown; allowed are digits"):
        gradients(Run(workload=Workload(dataset="mine", model="convnet", epochs=1), method=Method(kind="base")))
