"""Images of one's own: a folder with a folder of image files for each class, read into memory."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lookbehind.data.augmentation import CropAndFlip
from lookbehind.data.errors import DataError
from lookbehind.data.memory import InMemory
from lookbehind.data.published import Published

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def read_folder(
    folder: str | Path, size: int, *, channels: int = 3, augmentation: CropAndFlip | None = None
) -> Published:
    """Read ``folder/<class>/<image>``, for the data set of a study.

    Images are made square by a central cut, resized to ``size`` pixels (bilinear), and kept as bytes. Classes are the
    names of the folders in alphabetical order. There is no official test split: one is drawn for each seed.

    Args:
        folder: the folder of the classes.
        size: height and width, in pixels.
        channels: 1 for grey, 3 for colour. Default 3.
        augmentation: how images are shown in training. Default None: as they are.

    Returns:
        A ``Published``.

    Raises:
        DataError: if the folder is missing or has fewer than two classes, or a file cannot be read as an image.
        ValueError: if ``channels`` is neither 1 nor 3.

    """
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}; 1 for grey or 3 for colour is needed")
    folder = Path(folder).expanduser()
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    classes = tuple(path.name for path in there if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        has = f"has {len(classes)} folders" if folder.is_dir() else "is missing"
        raise DataError(f"{folder} {has}; needed are at least two folders of images, one for each class")
    images: list[Tensor] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
        if not files:
            raise DataError(f"{folder / name} has no images; known are files that end in {', '.join(SUFFIXES)}")
        images += [_image(path, size, channels) for path in files]
        labels += [label] * len(files)
    return Published(classes, channels, InMemory(torch.stack(images), augmentation), torch.tensor(labels), None, None)


def _image(path: Path, size: int, channels: int) -> Tensor:
    """Return the bytes of an image, of shape (channels, size, size)."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            fitted = ImageOps.fit(
                opened.convert("L" if channels == 1 else "RGB"), (size, size), Image.Resampling.BILINEAR
            )
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}); remove it, or put it right") from error
    return torch.frombuffer(bytearray(fitted.tobytes()), dtype=torch.uint8).view(size, size, channels).permute(2, 0, 1)
