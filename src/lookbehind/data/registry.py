"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookbehind._root import default_root
from lookbehind._words import allowed
from lookbehind.data import cifar, digits, fashion_mnist, imagenet, tiny_imagenet
from lookbehind.data.augmentation import CropAndFlip
from lookbehind.data.download import File, obtain
from lookbehind.data.errors import DataError
from lookbehind.data.parts import Normalisation, Part, Pixels
from lookbehind.data.published import Published
from lookbehind.data.selection import Selection, checked_noise, chosen, redrawn
from lookbehind.data.views import ResizedCrop


@dataclass(frozen=True)
class Dataset:
    """A data set: its files, and the function that reads them.

    Args:
        title: its name in sentences.
        read: a function of the folder with its files, and the size of the images.
        sizes: heights of the images that there are; the first is the default.
        folder: its folder under the root.
        files: what is downloaded into the folder.
        elsewhere: another folder in which the files may already be.
        train: number of training images by default. None: all that are not held out.
        required: whether the folder must be there, though nothing is downloaded into it.

    """

    title: str
    read: Callable[[Path, int], Published]
    sizes: tuple[int, ...]
    folder: str
    files: tuple[File, ...] = ()
    elsewhere: tuple[Path, ...] = ()
    train: int | None = None
    required: bool = False


DATASETS: dict[str, Dataset] = {
    "digits": Dataset("The digits", digits.read, (8,), "digits", train=1000),
    "fashion-mnist": Dataset(
        "Fashion-MNIST",
        fashion_mnist.read,
        (28, 14),
        "fashion-mnist",
        fashion_mnist.FILES,
        elsewhere=(fashion_mnist.DEBIAN,),
    ),
    "cifar10": Dataset("CIFAR-10", cifar.read_cifar10, (32,), "cifar10", (cifar.CIFAR10,)),
    "cifar100": Dataset("CIFAR-100", cifar.read_cifar100, (32,), "cifar100", (cifar.CIFAR100,)),
    "imagenet": Dataset("ImageNet", imagenet.read, (224,), "imagenet"),
    "imagenet-vit": Dataset("ImageNet", imagenet.read_vit, (224,), "imagenet"),
    "tiny-imagenet": Dataset("Tiny-ImageNet", tiny_imagenet.read, (64,), "tiny-imagenet", (tiny_imagenet.ARCHIVE,)),
}


@dataclass(frozen=True, eq=False)
class Data:
    """A data set that is ready: three parts, and what a model has to know.

    Args:
        selection: all that decided the images and labels.
        classes: their names.
        channels: 1 or 3.
        size: height and width.
        normalisation: mean and standard deviation of each channel.
        augmentation: how images are shown in training, if not as they are.
        train: images with labels, which have noise if there is any.
        validation: images held out of the training images.
        test: official test images.
        clean_labels: the true labels of the training images.

    """

    selection: Selection
    classes: tuple[str, ...]
    channels: int
    size: int
    normalisation: Normalisation
    augmentation: CropAndFlip | ResizedCrop | None
    train: Part
    validation: Part
    test: Part
    clean_labels: Tensor

    def to(self, device: torch.device | str) -> Data:
        """Return the same data with minibatches on a device. Images in memory move there, as bytes."""
        parts = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **parts, clean_labels=self.clean_labels.to(device))

    def to_dict(self) -> dict[str, Any]:
        """Return all that was decided, as plain values, to be saved with a run."""
        return {
            "selection": self.selection.to_dict(),
            "classes": len(self.classes),
            "channels": self.channels,
            "normalisation": asdict(self.normalisation),
            "augmentation": self.augmentation
            and {"kind": type(self.augmentation).__name__, **asdict(self.augmentation)},
        }


@dataclass(frozen=True, eq=False)
class Source:
    """A data set that has been read, for any number of selections from it.

    Args:
        dataset: its name in ``DATASETS``.
        size: height and width of the images.
        published: its images and labels, as published.

    Example:
        >>> import torch
        >>> from lookbehind.data import load, read
        >>> source = read("digits")
        >>> parts = [source.choose(seed=seed, noise=0.4) for seed in range(5)]
        >>> torch.equal(parts[3].train.labels, load("digits", seed=3, noise=0.4).train.labels)
        True

    """

    dataset: str
    size: int
    published: Published

    def choose(
        self,
        *,
        seed: int = 0,
        train: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        stratified: bool = False,
        noise: float = 0.0,
    ) -> Data:
        """Choose training, validation and test images: the second half of ``load``.

        Args:
            seed: as for ``load``.
            train: as for ``load``.
            validation: as for ``load``.
            test: as for ``load``.
            stratified: as for ``load``.
            noise: as for ``load``.

        Returns:
            A ``Data``, on the CPU.

        Raises:
            ValueError: if an argument is out of range.

        """
        checked_noise(noise)
        source = self.published
        generator = torch.Generator().manual_seed(seed)
        trained, held_out, tested = chosen(
            source.labels,
            None if source.test is None else source.test[1],
            train=train,
            default=_entry(self.dataset).train,
            validation=validation,
            test=test,
            stratified=stratified,
            seed=seed,
            generator=generator,
        )
        numbers = len(trained), len(held_out), len(tested)
        selection = Selection(self.dataset, seed, *numbers, stratified, float(noise), self.size)
        normalisation = source.normalisation or _measured(source.pixels[trained])
        clean = source.labels[trained]
        test_pixels, test_labels = source.test or (source.pixels, source.labels)
        return Data(
            selection=selection,
            classes=source.classes,
            channels=source.channels,
            size=self.size,
            normalisation=normalisation,
            augmentation=source.pixels.augmentation,
            train=Part(source.pixels[trained], redrawn(clean, noise, len(source.classes), generator), normalisation),
            validation=Part(source.pixels[held_out], source.labels[held_out], normalisation),
            test=Part(test_pixels[tested], test_labels[tested], normalisation),
            clean_labels=clean,
        )


def read(dataset: str, root: str | Path | None = None, *, size: int | None = None, download: bool = True) -> Source:
    """Find, download, check and read a data set: the first half of ``load``, to be done once for many seeds.

    Args:
        dataset: as for ``load``.
        root: as for ``load``.
        size: as for ``load``.
        download: as for ``load``.

    Returns:
        A ``Source``, to ``choose`` from.

    Raises:
        ValueError: if there is no data set of this name or size.
        DataError: as for ``load``.

    """
    entry = _entry(dataset)
    size = entry.sizes[0] if size is None else size
    if size not in entry.sizes:
        raise ValueError(f"size is {size}; allowed for {entry.title} is {' or '.join(map(str, entry.sizes))}")
    return Source(dataset, size, entry.read(fetch(dataset, root, download=download), size))


def load(
    dataset: str,
    root: str | Path | None = None,
    *,
    seed: int = 0,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    stratified: bool = False,
    noise: float = 0.0,
    size: int | None = None,
    download: bool = True,
) -> Data:
    """Find, download, check and read a data set, and choose its training, validation and test images.

    With one seed, a smaller ``train`` takes a subset of a larger one's images. The held-out images do not depend on
    ``train``, and no images depend on ``noise``. (The digits have no official test images: what is not trained on is
    halved.)

    Args:
        dataset: a name in ``DATASETS``: "digits", "fashion-mnist", "cifar10", "cifar100", "imagenet", "imagenet-vit",
            "tiny-imagenet".
        root: the folder with a folder for each data set. Default ``default_root()``.
        seed: decides what is held out, which subset is taken, and the noise. Default 0.
        train: number of training images. Default: all that are not held out; of the digits 1000.
        validation: number of images held out of the official training images. Default: a tenth of them. The paper
            holds out none: 0.
        test: number of test images, a seeded subset. Default: all.
        stratified: take and hold out each class in its proportion, up to an image or two. Default False: uniformly.
        noise: fraction of the training labels that are drawn anew, uniformly over all classes (symmetric noise). Of C
            classes, one in C of these labels stays right. Default 0.
        size: height and width of the images, where there is a choice: Fashion-MNIST has 28 and, averaged over 2×2
            pixels, 14. Default: the largest.
        download: download what is missing. Default True.

    Returns:
        A ``Data``, on the CPU. ImageNet's images stay in their files.

    Raises:
        ValueError: if an argument is out of range.
        DataError: a ``ValueError`` too, if files are missing, damaged or hold something else.

    Example:
        >>> data = load("digits", noise=0.4, stratified=True)
        >>> len(data.train), len(data.validation), len(data.test), data.channels, data.size, len(data.classes)
        (1000, 398, 399, 1, 8, 10)
        >>> images, labels = next(iter(data.train.shuffled(batch=64)))
        >>> images.shape
        torch.Size([64, 1, 8, 8])

    """
    checked_noise(noise)
    return read(dataset, root, size=size, download=download).choose(
        seed=seed, train=train, validation=validation, test=test, stratified=stratified, noise=noise
    )


def fetch(dataset: str, root: str | Path | None = None, *, download: bool = True) -> Path:
    """Find the files of a data set, download those that are missing, and check them, without reading them.

    To be called once before many processes load the same data.

    Args:
        dataset: a name in ``DATASETS``.
        root: the folder with a folder for each data set. Default ``default_root()``.
        download: download what is missing. Default True.

    Returns:
        The folder with the files.

    Raises:
        ValueError: if there is no data set of this name.
        DataError: if a file is damaged, or missing and not to be had.

    """
    entry = _entry(dataset)
    folder = (default_root() if root is None else Path(root).expanduser()) / entry.folder
    if entry.required and not folder.is_dir():
        raise DataError(
            f"{entry.title}: there is no folder {folder}; put the images there, or name another folder for data sets "
            "in LOOKBEHIND_DATA"
        )
    return obtain(entry.title, entry.files, (folder, *entry.elsewhere), download)


def _entry(dataset: str) -> Dataset:
    if dataset not in DATASETS:
        raise ValueError(f"dataset is {dataset!r}; {allowed(dataset, DATASETS)}")
    return DATASETS[dataset]


def _measured(pixels: Pixels) -> Normalisation:
    """Mean and standard deviation of images in memory, over all their values."""
    values = next(pixels.batches([torch.arange(len(pixels))], None, None)).to(torch.float32)
    return Normalisation((values.mean().item(),), (values.std().item(),), scale=1.0)
