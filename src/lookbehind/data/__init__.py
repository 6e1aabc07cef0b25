"""Data sets by name, checked and seeded: digits, Fashion-MNIST, CIFAR-10 and -100, ImageNet."""

from lookbehind._root import default_root
from lookbehind.data.augmentation import CropAndFlip
from lookbehind.data.digits import Digits, load_digits
from lookbehind.data.errors import DataError
from lookbehind.data.folder import read_folder
from lookbehind.data.parts import Normalisation, Part, Shuffled
from lookbehind.data.published import Published
from lookbehind.data.registry import DATASETS, Data, Dataset, Source, fetch, load, read
from lookbehind.data.selection import Selection
from lookbehind.data.views import ResizedCrop

__all__ = [
    "DATASETS",
    "CropAndFlip",
    "Data",
    "DataError",
    "Dataset",
    "Digits",
    "Normalisation",
    "Part",
    "Published",
    "ResizedCrop",
    "Selection",
    "Shuffled",
    "Source",
    "default_root",
    "fetch",
    "load",
    "load_digits",
    "read",
    "read_folder",
]
