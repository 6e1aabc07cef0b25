"""Cost of an item: gradient evaluations exactly, hours roughly. No data set need be there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from lookbehind.lab.cell import Cell, Derived
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.lookup import Results, remembered
from lookbehind.lab.parts import Part, cells
from lookbehind.lab.report import Task, tasks
from lookbehind.lab.run import (
    CalibrationSettings,
    EigenvalueSettings,
    Measurement,
    NoiseSettings,
    QuantisationSettings,
    Run,
    Workload,
)
from lookbehind.lab.work import Work, sizes, work

FORWARD = 1 / 3  # of a gradient evaluation, which is a forward pass and a backward pass of twice its cost


@dataclass(frozen=True)
class Device:
    """Something that trains, and how fast.

    Args:
        name: what it is, as it stands beside an estimate.
        flops: floating-point operations per second that it sustains.
        rates: images per second, forward and backward, by (model, size of the images), where that was measured.
        workers: runs at once.
        overhead: seconds for each run that are not training: loading, building, writing.

    """

    name: str
    flops: float
    rates: Mapping[tuple[str, int], float] = field(default_factory=dict)
    workers: int = 1
    overhead: float = 0.0

    def rate(self, work: Work) -> float:
        """Return how many examples a second it takes forward and backward."""
        return self.rates.get((work.model, work.size)) or self.flops / (3 * work.flops())


TWO_CORES = Device(
    "two x86 server cores, a run on each (measured, less 20 %)",
    flops=10e9,
    rates={
        ("convnet", 8): 12_000,
        ("resnet8", 8): 6_000,
        ("convnet", 14): 5_500,
        ("resnet8", 14): 2_800,
        ("lifelong-conv2", 8): 7_000,  # in minibatches of ten
        ("lifelong-conv2", 14): 6_000,
        ("vit-tiny", 8): 1_500,
        ("minilm, 1 layers", 12): 750,  # processor time on a busy machine
        ("minilm, 1 layers", 16): 660,
        ("transformer of 2 layers, width 96", 10): 1_600,
    },
    workers=2,
    overhead=0.3,
)
A100 = Device(
    "one NVIDIA A100 at 20 TFLOP/s (assumed: what convolutions in TF32 come to; not measured)",
    flops=20e12,
    # Assumed too: 2 ms for a gradient of ten images, which fill no such device.
    rates={("lifelong-conv3", 32): 5_000, ("lifelong-conv4", 64): 5_000},
)


@dataclass(frozen=True)
class Estimate:
    """Cost of parts at most: what a selection has still to decide is counted at its most expensive outcome."""

    runs: int
    gradients: int  # gradient evaluations, each on a minibatch, in training
    hours: float  # with evaluation and measurements, at all workers
    device: str
    done: int  # of the runs, those that finished or diverged
    hours_left: float


def estimate(parts: Iterable[Part], device: Device, results: Results | None = None) -> Estimate:
    """Estimate what parts cost, with runs that they share counted once.

    Args:
        parts: of one item, or of several.
        device: what is to train.
        results: where finished runs are looked up. Default: nothing is done.

    Returns:
        An ``Estimate``.

    Raises:
        ValueError: if a data set is not in ``IMAGES``.

    """
    results = None if results is None else remembered(results)
    cost = cache(gradients)  # settings share runs
    everything = [*tasks(parts := tuple(parts)), *_dearest(parts, results, cost)]
    done = set() if results is None else {run for run, _ in everything if results.result(run) is not None}
    return Estimate(
        runs=len(everything),
        gradients=sum(cost(run) for run, _ in everything),
        hours=_hours(everything, device),
        device=device.name,
        done=len(done),
        hours_left=_hours([task for task in everything if task[0] not in done], device),
    )


def _dearest(parts: tuple[Part, ...], results: Results | None, cost: Callable[[Run], int]) -> list[Task]:
    """Return runs that cost as much as derived cells can: of each what it came to, else its dearest candidate."""
    known = {run for run, _ in tasks(parts)}
    derived = dict.fromkeys(cell for part in parts for cell in cells(part) if isinstance(cell, Derived))
    found: dict[Run, None] = {}
    for cell in derived:
        settled = None if results is None else cell.settle(results)
        candidates = settled.candidates if isinstance(settled, Cell) else cell.possible
        new = [[run for run in candidate.runs if run not in known] for candidate in candidates]
        found.update(dict.fromkeys(max(new, key=lambda runs: sum(map(cost, runs)))))
    return [(run, ()) for run in found]


def gradients(run: Run) -> int:
    """Return the gradient evaluations of a run's training, each on a minibatch.

    Example:
        >>> from lookbehind.lab.method import Method
        >>> cifar = Workload(dataset="cifar10", model="resnet34", epochs=200, validation=0)
        >>> gradients(Run(workload=cifar, method=Method(kind="base")))  # 391 minibatches of 128
        78200

    """
    needed = work(run)
    total = 0.0
    for method, epochs in run.spans(needed.epochs):
        several = method.minibatches
        total += epochs * (needed.minibatches // several * several) * run.gradients_of(method)
    return round(total)


def seconds(run: Run, measurements: Iterable[Measurement], device: Device) -> float:
    """Estimate the seconds of a run on one worker: training, scores after each epoch, measurements."""
    needed = work(run)
    examples = needed.epochs * (needed.examples * run.gradients_per_step + FORWARD * needed.evaluated)
    for measurement in measurements:
        assert isinstance(run.workload, Workload | FineTuning)  # others are not measured
        train, _, test = sizes(run.workload)
        examples += _measuring(measurement, train, test)
    return device.overhead + examples / device.rate(needed)


def _measuring(measurement: Measurement, train: int, test: int) -> float:
    """Return how many images go forward and backward, or as much work."""
    if isinstance(measurement, NoiseSettings):  # batch norm is estimated anew for each draw
        return FORWARD * len(measurement.sigmas) * measurement.draws * (train + test)
    if isinstance(measurement, QuantisationSettings):
        return FORWARD * (1 + 2 * len(measurement.bits)) * (train + test)
    if isinstance(measurement, CalibrationSettings):
        return FORWARD * test
    if isinstance(measurement, EigenvalueSettings):  # a product with the Hessian is two gradients
        return 2 * measurement.steps * min(train, measurement.images or train)
    images = train if measurement.images is None else measurement.images
    return images * (1 + len(measurement.radii) * (measurement.steps - 1 + FORWARD * measurement.steps))


def _hours(needed: Iterable[Task], device: Device) -> float:
    return sum(seconds(run, measurements, device) for run, measurements in needed) / device.workers / 3600


def duration(hours: float) -> str:
    """Return a time in the unit that suits it.

    Example:
        >>> duration(0.002), duration(0.5), duration(30), duration(3000)
        ('7 s', '30 min', '30 h', '125 days')

    """
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 100 else f"{hours / 24:,.0f} days"
