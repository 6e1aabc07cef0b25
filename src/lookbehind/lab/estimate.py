"""What an item will cost: gradient evaluations exactly, hours roughly. No data set need be there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from math import ceil
from typing import Any

from lookbehind.lab.cell import Cell, Derived
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.lookup import Results, remembered
from lookbehind.lab.parts import Part, cells
from lookbehind.lab.report import Task, tasks
from lookbehind.lab.run import Measurement, NoiseSettings, Run, SharpnessSettings, Workload
from lookbehind.lab.stream import Stream
from lookbehind.lab.translation import Translation

FORWARD = 1 / 3  # of a gradient evaluation, which is a forward pass and a backward pass of twice its cost


@dataclass(frozen=True)
class Images:
    """The images of a data set: how many to train on and to test on, their channels and height, and classes."""

    train: int
    test: int
    channels: int
    size: int
    classes: int


IMAGES: dict[str, Images] = {
    "digits": Images(1797, 0, 1, 8, 10),  # no official test images
    "fashion-mnist": Images(60_000, 10_000, 1, 28, 10),
    "cifar10": Images(50_000, 10_000, 3, 32, 10),
    "cifar100": Images(50_000, 10_000, 3, 32, 100),
    "imagenet": Images(1_281_167, 50_000, 3, 224, 1000),
    "tiny-imagenet": Images(100_000, 10_000, 3, 64, 200),
    "imagenet-vit": Images(1_281_167, 50_000, 3, 224, 1000),
}  # a data set of your own: IMAGES["mine"] = Images(...)


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


@dataclass(frozen=True)
class Work:
    """What a workload takes, whatever the method.

    Args:
        epochs: of the run.
        minibatches: of an epoch.
        examples: of an epoch, in these minibatches.
        evaluated: examples that go forward only after an epoch, for scores; on average.
        model: with ``size``, the key of a measured rate.
        size: of an example: height of an image, or tokens.
        flops: called for the floating-point operations of an example forward.

    """

    epochs: int
    minibatches: int
    examples: int
    evaluated: float
    model: str
    size: int
    flops: Callable[[], float]


def images_work(workload: Workload) -> Work:
    """Return the work of image classification."""
    train, validation, test = sizes(workload)
    images = _images(workload)
    size = workload.size or images.size
    return Work(
        epochs=workload.epochs,
        minibatches=ceil(train / workload.batch),
        examples=train,
        evaluated=validation + test,
        model=workload.model,
        size=size,
        flops=partial(forward_flops, workload.model, images.channels, size, images.classes),
    )


ENCODERS: dict[str, tuple[int, int]] = {"minilm": (6, 1_774_464)}  # layers, and parameters of each


def fine_tuning_work(workload: FineTuning) -> Work:
    """Return the work of fine-tuning. Frozen layers of a text encoder are not counted: they run once.

    Raises:
        ValueError: if it trains on texts and does not say how many, or with an encoder that is not in ``ENCODERS``.

    """
    if workload.inputs == "images":
        train, validation, test = sizes(workload)
        images = _images(workload)
        size, model = images.size, workload.model
        flops = partial(forward_flops, workload.model, images.channels, size, images.classes)
    else:
        if workload.train is None or workload.validation is None or workload.test is None:
            raise ValueError(
                "train, validation and test are needed of texts: how many there are is in their files only"
            )
        if workload.model not in ENCODERS:
            raise ValueError(
                f"the cost of the encoder {workload.model!r} is unknown; known are {', '.join(ENCODERS)}, and "
                "lookbehind.lab.estimate.ENCODERS takes more"
            )
        train, validation, test = workload.train, workload.validation, workload.test
        size = workload.length
        layers, parameters = ENCODERS[workload.model]
        model = f"{workload.model}, {layers - workload.frozen} layers"
        flops = partial(_encoder_flops, layers - workload.frozen, parameters, size)
    return Work(
        epochs=workload.epochs,
        minibatches=ceil(train / workload.batch),
        examples=train,
        evaluated=validation + test,
        model=model,
        size=size,
        flops=flops,
    )


def _encoder_flops(layers: int, parameters: int, tokens: int) -> int:
    """Return a multiplication and an addition for each weight and token; half the tokens, in the mean, are padding."""
    return layers * parameters * tokens


def stream_work(stream: Stream) -> Work:
    """Return the work of a stream of tasks: accuracies on a task after each of its epochs, on all where it ends."""
    train, validation, test = sizes(stream)
    images = _images(stream)
    share = stream.ways / images.classes  # of the images that a task has
    size = stream.size or images.size
    return Work(
        epochs=stream.tasks * stream.epochs,
        minibatches=ceil(train * share / stream.batch),
        examples=round(train * share),
        evaluated=(validation + test) * share * (1 + (stream.tasks - 1) / stream.epochs),
        model=stream.model,
        size=size,
        flops=partial(forward_flops, stream.model, images.channels, size, stream.tasks * stream.ways),
    )


@dataclass(frozen=True)
class Sentences:
    """The pairs of a data set: tokens of the longer side, and how many pairs each part has, where that is given."""

    tokens: int
    train: int = 0
    validation: int = 0
    test: int = 0


SENTENCES: dict[str, Sentences] = {
    "iwslt14": Sentences(27, 160_239, 7_283, 6_750),
    "trans-de-en": Sentences(10),  # short ones
    "sentences": Sentences(14),
}


def translation_work(workload: Translation) -> Work:
    """Return the work of translation, roughly: minibatches depend on the lengths of sentences.

    Raises:
        ValueError: if the workload does not say how many pairs it has, nor does the data set.

    """
    known = SENTENCES[workload.dataset]
    if not known.train and None in (workload.train, workload.validation, workload.test):
        raise ValueError(
            f"train, validation and test are needed of {workload.dataset}: how many there are is in its file only"
        )
    train = known.train if workload.train is None else workload.train
    validation = known.validation if workload.validation is None else workload.validation
    test = known.test if workload.test is None else workload.test
    return Work(
        epochs=workload.epochs,
        minibatches=ceil(train * known.tokens / workload.tokens),
        examples=train,
        evaluated=workload.beam * (validation + test),
        model=f"transformer of {2 * workload.layers} layers, width {workload.width}",
        size=known.tokens,
        flops=partial(_translation_flops, workload, known.tokens),
    )


def _translation_flops(w: Translation, tokens: int) -> int:
    """Return a multiplication and an addition for each weight and token."""
    encoder = w.layers * (4 * w.width**2 + 2 * w.width * w.feedforward)
    decoder = w.layers * (8 * w.width**2 + 2 * w.width * w.feedforward)
    return 2 * tokens * (encoder + decoder + w.width * w.pieces)


# By kind of workload.
WORK: dict[type, Callable[[Any], Work]] = {
    Workload: images_work,
    FineTuning: fine_tuning_work,
    Stream: stream_work,
    Translation: translation_work,
}


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
        ("minilm, 2 layers", 16): 320,
        ("transformer of 2 layers, width 96", 10): 2_100,
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
    """What parts cost at most: what a selection has still to decide is counted at its most expensive outcome."""

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
    everything = [*tasks(parts := tuple(parts)), *_dearest(parts, results)]
    done = set() if results is None else {run for run, _ in everything if results.result(run) is not None}
    return Estimate(
        runs=len(everything),
        gradients=sum(gradients(run) for run, _ in everything),
        hours=_hours(everything, device),
        device=device.name,
        done=len(done),
        hours_left=_hours([task for task in everything if task[0] not in done], device),
    )


def _dearest(parts: tuple[Part, ...], results: Results | None) -> list[Task]:
    """Return runs that cost as much as derived cells can: of each what it came to, else its dearest candidate."""
    known = {run for run, _ in tasks(parts)}
    derived = dict.fromkeys(cell for part in parts for cell in cells(part) if isinstance(cell, Derived))
    found: dict[Run, None] = {}
    for cell in derived:
        settled = None if results is None else cell.settle(results)
        candidates = settled.candidates if isinstance(settled, Cell) else cell.possible
        new = [[run for run in candidate.runs if run not in known] for candidate in candidates]
        found.update(dict.fromkeys(max(new, key=lambda runs: sum(map(gradients, runs)))))
    return [(run, ()) for run in found]


def gradients(run: Run) -> int:
    """Return the gradient evaluations of a run's training, each on a minibatch.

    Example:
        >>> from lookbehind.lab.run import Method
        >>> cifar = Workload(dataset="cifar10", model="resnet34", epochs=200, validation=0)
        >>> gradients(Run(workload=cifar, method=Method(kind="base")))  # 391 minibatches of 128
        78200

    """
    needed = work(run)
    total = 0
    for method, epochs in run.spans(needed.epochs):
        several = method.minibatches
        total += epochs * (needed.minibatches // several * several) * run.gradients_of(method)
    return total


def work(run: Run) -> Work:
    """Return the work of a run's workload."""
    return WORK[type(run.workload)](run.workload)


def sizes(workload: Workload | FineTuning | Stream) -> tuple[int, int, int]:
    """Return the numbers of training, validation and test images, by the rules of ``lookbehind.data.load``."""
    images = _images(workload)
    if not images.test:
        train = 1000 if workload.train is None else workload.train
        validation = (images.train - train) // 2 if workload.validation is None else workload.validation
        rest = images.train - train - validation
        return train, validation, rest if workload.test is None else workload.test
    validation = images.train // 10 if workload.validation is None else workload.validation
    train = images.train - validation if workload.train is None else workload.train
    return train, validation, images.test if workload.test is None else workload.test


def _images(workload: Workload | FineTuning | Stream) -> Images:
    if workload.dataset not in IMAGES:
        raise ValueError(
            f"the cost of training on {workload.dataset!r} is unknown; known are {', '.join(IMAGES)}, and "
            "lookbehind.lab.estimate.IMAGES takes more"
        )
    return IMAGES[workload.dataset]


def seconds(run: Run, measurements: Iterable[Measurement], device: Device) -> float:
    """Estimate the seconds of a run on one worker: training, scores after each epoch, measurements."""
    needed = work(run)
    examples = needed.epochs * (needed.examples * run.gradients_per_step + FORWARD * needed.evaluated)
    for measurement in measurements:
        assert isinstance(run.workload, Workload)  # others are not measured
        train, _, test = sizes(run.workload)
        examples += _measuring(measurement, train, test)
    return device.overhead + examples / device.rate(needed)


def _measuring(measurement: Measurement, train: int, test: int) -> float:
    """Return how many images go forward and backward, or as much work."""
    if isinstance(measurement, NoiseSettings):  # batch norm is estimated anew for each draw
        return FORWARD * len(measurement.sigmas) * measurement.draws * (train + test)
    assert isinstance(measurement, SharpnessSettings)
    images = train if measurement.images is None else measurement.images
    return images * (1 + len(measurement.radii) * (measurement.steps - 1 + FORWARD * measurement.steps))


def _hours(needed: Iterable[Task], device: Device) -> float:
    return sum(seconds(run, measurements, device) for run, measurements in needed) / device.workers / 3600


@cache
def forward_flops(model: str, channels: int, size: int, classes: int) -> int:
    """Return the floating-point operations of one image forward, counted by torch without computing them.

    Example:
        >>> round(forward_flops("resnet18", 3, 224, 1000) / 2e9, 2)  # multiply-adds, in billions
        1.81

    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lookbehind.models import build

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(model, channels, classes)(torch.empty(2, channels, size, size))
    return int(counter.get_total_flops()) // 2


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
