"""Images in files, decoded and cut out by worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lookbehind.data.errors import DataError
from lookbehind.data.parts import mixed_seed
from lookbehind.data.views import ResizedCrop

LARGEST = 80_000_000  # pixels; a file that claims more would fill the memory. ImageNet's largest has 61 million.


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files in a folder.

    Their names lie in one string: a list of a million of them would be copied into every worker, since counting
    references writes to each.

    Args:
        folder: where the files are.
        names: their names relative to the folder, one after the other.
        places: where in ``names`` each begins and ends, shape (n, 2).
        augmentation: how they are shown.
        device: where minibatches go.

    """

    folder: Path
    names: bytes
    places: Tensor
    augmentation: ResizedCrop
    device: torch.device

    @classmethod
    def of(cls, folder: Path, names: Sequence[str], augmentation: ResizedCrop) -> ImageFiles:
        """Return images of a list of names."""
        encoded = [os.fsencode(name) for name in names]
        lengths = torch.tensor([len(name) for name in encoded])
        ends = lengths.cumsum(0)
        places = torch.stack([ends - lengths, ends], dim=1)
        return cls(folder, b"".join(encoded), places, augmentation, torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Tensor) -> ImageFiles:
        return replace(self, places=self.places[index])

    def path(self, i: int) -> Path:
        """Return the i-th file."""
        start, end = self.places[i].tolist()
        return self.folder / os.fsdecode(self.names[start:end])

    @property
    def at_once(self) -> int:
        """Return 1: each minibatch is a piece of work for the processes that decode."""
        return 1

    def to(self, device: torch.device) -> ImageFiles:
        """Return the same images, with minibatches that go to a device."""
        return replace(self, device=device)

    def batches(self, chunks: Sequence[Tensor], seed: int | None, workers: int | None) -> Iterator[Tensor]:
        """Yield the views of each chunk of indices, random ones if there is a seed.

        What is drawn for an image depends on the seed and the image alone, not on the chunks nor the workers.

        Raises:
            DataError: if a file is missing or damaged.

        """
        gpu = self.device.type == "cuda"
        loader = DataLoader(
            _Views(self, seed),
            batch_sampler=[chunk.tolist() for chunk in chunks],
            num_workers=cores() if workers is None else workers,
            collate_fn=_stacked,
            pin_memory=gpu,
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch.to(self.device, non_blocking=gpu)


class _Views(Dataset[Tensor | DataError]):
    """One view of each image, as DataLoader takes it."""

    def __init__(self, files: ImageFiles, seed: int | None) -> None:
        self.files, self.seed = files, seed

    def __getitem__(self, i: int) -> Tensor | DataError:
        try:
            image = decode(self.files.path(i))
        except DataError as error:
            return error  # raised in a worker, it would become a page of tracebacks
        if self.seed is None:
            return self.files.augmentation.evaluation(image)
        return self.files.augmentation.training(image, torch.Generator().manual_seed(mixed_seed(self.seed, i)))


def _stacked(views: list[Tensor | DataError]) -> Tensor | DataError:
    error = next((view for view in views if isinstance(view, DataError)), None)
    return error if error is not None else torch.stack([view for view in views if isinstance(view, Tensor)])


def decode(path: Path) -> Tensor:
    """Return a file's image as uint8 of shape (3, h, w), grey ones with three equal channels.

    Raises:
        DataError: if the file is missing, damaged or no image, or unreasonably large.

    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("image files are read with Pillow, which is not installed: pip install pillow") from error
    try:
        with Image.open(path) as file:
            width, height = file.size
            if width * height > LARGEST:
                raise DataError(f"it claims {width}×{height} pixels, more than {LARGEST:,}")
            content = bytearray(file.convert("RGB").tobytes())
    except Exception as error:  # Pillow raises many kinds for files that are damaged
        raise DataError(
            f"{path} cannot be read as an image ({error}); restore it from the published archive"
        ) from error
    return torch.frombuffer(content, dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1).contiguous()


def cores() -> int:
    """Return how many cores this process may use, at most 8: more decode faster than a device trains."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)
