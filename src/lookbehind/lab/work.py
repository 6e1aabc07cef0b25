"""Work of a workload: minibatches, examples and operations, whatever the method. No data set need be there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import ceil
from typing import Any

from lookbehind._words import allowed
from lookbehind.lab.declared import SOURCES
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.run import Run, Workload
from lookbehind.lab.stream import Stream
from lookbehind.lab.translation import Translation


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
class Work:
    """Work of a workload, whatever the method.

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
    train, validation, test = sizes(workload)
    if workload.inputs == "images":
        images = _images(workload)
        size, model = images.size, workload.model
        flops = partial(forward_flops, workload.model, images.channels, size, images.classes)
    else:
        if workload.model not in ENCODERS:
            raise ValueError(
                f"the cost of the encoder {workload.model!r} is unknown; known are {', '.join(ENCODERS)}, and "
                "lookbehind.lab.work.ENCODERS takes more"
            )
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


def sizes(workload: Workload | FineTuning | Stream) -> tuple[int, int, int]:
    """Return the numbers of training, validation and test examples, by the rules of ``lookbehind.data.load``.

    Raises:
        ValueError: if texts do not say how many they are, or the data set is unknown.

    """
    if isinstance(workload, FineTuning) and workload.inputs == "texts":
        if workload.train is None or workload.validation is None or workload.test is None:
            raise ValueError(
                "train, validation and test are needed of texts: how many there are is in their files only"
            )
        return workload.train, workload.validation, workload.test
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
            f"the cost of training on {workload.dataset!r} is unknown; {allowed(workload.dataset, IMAGES)}, and "
            "@study.dataset(...) declares more"
        )
    return IMAGES[workload.dataset]


# Operations of one image forward, by (model, channels, height, classes), as counted below: counting needs torch.
FLOPS: dict[tuple[str, int, int, int], int] = {
    ("convnet", 1, 8, 10): 756_992,
    ("convnet", 1, 14, 10): 2_315_648,
    ("lifelong-conv2", 1, 8, 10): 108_800,
    ("lifelong-conv2", 1, 14, 10): 348_992,
    ("lifelong-conv3", 3, 32, 100): 40_983_040,
    ("lifelong-conv4", 3, 64, 200): 168_028_160,
    ("resnet18", 3, 224, 1000): 3_628_146_688,
    ("resnet34", 3, 32, 10): 2_318_804_992,
    ("resnet50", 3, 32, 100): 2_596_028_416,
    ("resnet8", 1, 14, 10): 4_988_288,
    ("vit-b-16", 3, 224, 1000): 35_127_656_448,
    ("vit-s-16", 3, 224, 1000): 9_197_764_608,
    ("vit-tiny", 1, 8, 10): 6_990_080,
    ("wrn-28-10", 3, 32, 100): 10_486_772_736,
    ("wrn-28-2", 3, 32, 10): 428_706_304,
}


@cache
def forward_flops(model: str, channels: int, size: int, classes: int) -> int:
    """Return the floating-point operations of one image forward, counted by torch without computing them.

    Example:
        >>> round(forward_flops("resnet18", 3, 224, 1000) / 2e9, 2)  # multiply-adds, in billions
        1.81

    """
    if (known := FLOPS.get((model, channels, size, classes))) is not None and ("model", model) not in SOURCES:
        return known
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lookbehind.models import build

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(model, channels, classes)(torch.empty(2, channels, size, size))
    return int(counter.get_total_flops()) // 2


# By kind of workload.
WORK: dict[type, Callable[[Any], Work]] = {
    Workload: images_work,
    FineTuning: fine_tuning_work,
    Stream: stream_work,
    Translation: translation_work,
}


def work(run: Run) -> Work:
    """Return the work of a run's workload."""
    return WORK[type(run.workload)](run.workload)
