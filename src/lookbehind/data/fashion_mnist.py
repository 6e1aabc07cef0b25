"""Fashion-MNIST: 70,000 grey 28×28 pictures of clothes (Xiao et al., 2017; MIT licence)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lookbehind.data.augmentation import CropAndFlip
from lookbehind.data.download import File
from lookbehind.data.errors import DataError
from lookbehind.data.idx import read_idx
from lookbehind.data.memory import InMemory
from lookbehind.data.parts import Normalisation
from lookbehind.data.published import Published, checked_labels

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
NORMALISATION = {  # of the training images; a test compares them
    28: Normalisation((0.2860,), (0.3530,)),
    14: Normalisation((0.2863,), (0.3303,)),
}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist, gzipped anew
_SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = tuple(
    File(name, _SITE + name, size, sha256, repacked)
    for name, size, sha256, repacked in (
        (
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        ),
    )
)


def read(folder: Path, size: int) -> Published:
    """Read the four files; ``size`` 14 averages each 2×2 pixels.

    Raises:
        DataError: if a file is damaged or holds something else.

    """
    pixels, labels = _half(folder, "train", size)
    return Published(CLASSES, 1, pixels, labels, _half(folder, "t10k", size), NORMALISATION[size])


def _half(folder: Path, name: str, size: int) -> tuple[InMemory, Tensor]:
    path = folder / f"{name}-images-idx3-ubyte.gz"
    images = read_idx(path)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{path} holds images of shape {tuple(images.shape[1:])}; (28, 28) is needed")
    path = folder / f"{name}-labels-idx1-ubyte.gz"
    labels = checked_labels(read_idx(path), len(images), len(CLASSES), path)
    images = images.unsqueeze(1)
    if size == 14:
        images = average_2x2(images)
    return InMemory(images, CropAndFlip(padding=size // 7)), labels


def average_2x2(images: Tensor) -> Tensor:
    """Halve uint8 images of shape (n, c, h, w) by means of 2×2 pixels, rounded to the nearest value, halves up."""
    n, c, h, w = images.shape
    sums = images.view(n, c, h // 2, 2, w // 2, 2).sum(dim=(3, 5), dtype=torch.int16)
    return sums.add_(2).div_(4, rounding_mode="floor").to(torch.uint8)
