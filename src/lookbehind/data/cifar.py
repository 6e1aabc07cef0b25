"""CIFAR-10 and CIFAR-100: 60,000 colour 32×32 pictures each (Krizhevsky, 2009), from the published Python archives.

The archives hold pickles, which could run anything. They are read straight from the tar file, so that nothing is
extracted, and by an unpickler that builds plain values and stand-ins for arrays, and nothing else.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from lookbehind.data.augmentation import CropAndFlip
from lookbehind.data.download import File
from lookbehind.data.errors import DataError
from lookbehind.data.memory import InMemory
from lookbehind.data.parts import Normalisation
from lookbehind.data.published import Published, checked_labels

LIMIT = 1 << 29  # bytes in the archive, unpacked; the published ones hold less than 190 MB
SHAPE = (3, 32, 32)
CIFAR10 = File(
    "cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    170_498_071,
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
CIFAR100 = File(
    "cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    169_001_437,
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
)


def read_cifar10(folder: Path, size: int) -> Published:
    """Read CIFAR-10. Mean and standard deviation are those of the published code (Mordido et al., 2024)."""
    train = [f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)]
    normalisation = Normalisation((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
    path, test, meta = folder / CIFAR10.name, "cifar-10-batches-py/test_batch", "cifar-10-batches-py/batches.meta"
    return _read(path, train, test, meta, "labels", "label_names", normalisation)


def read_cifar100(folder: Path, size: int) -> Published:
    """Read CIFAR-100 with its hundred fine labels. Mean and standard deviation as in the published code."""
    normalisation = Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    path, train = folder / CIFAR100.name, ["cifar-100-python/train"]
    test, meta = "cifar-100-python/test", "cifar-100-python/meta"
    return _read(path, train, test, meta, "fine_labels", "fine_label_names", normalisation)


def _read(
    path: Path, train: list[str], test: str, meta: str, labels: str, names: str, normalisation: Normalisation
) -> Published:
    batches = read_batches(path, [*train, test, meta])
    classes = _names(batches[meta].get(names), f"{meta} in {path}")
    arrays = {
        name: _images_and_labels(batches[name], labels, len(classes), f"{name} in {path}") for name in [*train, test]
    }
    images, targets = (torch.cat(parts) for parts in zip(*(arrays[name] for name in train), strict=True))
    augmentation = CropAndFlip(padding=4)
    return Published(
        classes,
        SHAPE[0],
        InMemory(images, augmentation),
        targets,
        (InMemory(arrays[test][0], augmentation), arrays[test][1]),
        normalisation,
    )


def read_batches(path: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the named pickles of a .tar.gz archive as dictionaries. Arrays are ``Array`` objects.

    Raises:
        DataError: if the archive is missing, damaged or hostile, or lacks one of them.

    """
    wanted, found = set(names), {}
    try:
        with gzip.open(path) as stream:
            bounded = _Bounded(stream)
            with tarfile.open(fileobj=bounded, mode="r|") as archive:  # type: ignore[call-overload]
                for member in archive:
                    _refuse_strange(member)
                    if member.name in found:
                        raise DataError(f"it holds {member.name} twice")
                    if member.name in wanted:
                        found[member.name] = unpickle(archive.extractfile(member).read(), member.name)
            while bounded.read(1 << 20):  # gzip compares its sum at the very end
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError, DataError) as error:
        raise DataError(f"{path} is missing, damaged, or not the published archive ({error})") from error
    if lacking := wanted - set(found):
        raise DataError(f"{path} is not the published archive: it lacks {', '.join(sorted(lacking))}")
    return found


def _refuse_strange(member: tarfile.TarInfo) -> None:
    """Refuse links, devices, sparse files and names that lead out: a published archive has none."""
    plain = member.isdir() or (member.isreg() and not member.issparse())
    where = PurePosixPath(member.name)
    if not plain or where.is_absolute() or ".." in where.parts:
        raise DataError(f"it holds {member.name!r}, a link, device or path that leads out of it")


class _Bounded:
    """A stream that refuses to go on beyond a limit, against archives that unpack to far more than they are."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.left = LIMIT

    def read(self, size: int) -> bytes:
        content: bytes = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise DataError(f"it unpacks to more than {LIMIT:,} bytes")
        return content


class Array:
    """A NumPy array as a pickle describes it. No code of NumPy's sees it."""

    shape: Any = None
    dtype: Any = None
    fortran: Any = None
    content: Any = None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.content = state

    def tensor(self) -> Tensor:
        """Return the array as a tensor.

        Raises:
            DataError: if it is no two-dimensional array of unsigned bytes, or its content does not fill its shape.

        """
        shape = self.shape
        if not isinstance(self.dtype, _Dtype) or self.dtype.name not in (b"u1", "u1"):
            raise DataError("an array of something else than unsigned bytes")
        if not isinstance(shape, tuple) or len(shape) != 2 or not all(type(n) is int and n > 0 for n in shape):
            raise DataError("an array that is no table")
        if not isinstance(self.content, bytes) or len(self.content) != math.prod(shape):
            raise DataError("an array whose content does not fill its shape")
        values = torch.frombuffer(bytearray(self.content), dtype=torch.uint8)
        return values.view(shape[1], shape[0]).T if self.fortran else values.view(shape)


class _Dtype:
    """A NumPy dtype as a pickle describes it."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like mean nothing for bytes."""


def _encode(text: str, encoding: str) -> bytes:
    """Return bytes as Python 3 writes them into a pickle of protocol 2."""
    if encoding not in ("latin1", b"latin1"):
        raise DataError(f"text encoded as {encoding!r}")
    return text.encode("latin1")


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C reserves memory for whatever place in its memo a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        stand_in: dict[tuple[str, str], Callable[..., Any]] = {  # made anew: a pickle can set attributes of functions
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: Array(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: Array(),
            ("numpy", "ndarray"): Array,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): lambda *arguments: _encode(*arguments),
        }
        if (module, name) not in stand_in:
            raise DataError(f"it asks for {module}.{name}")
        return stand_in[module, name]


def unpickle(content: bytes, name: str) -> dict[str, Any]:
    """Return a pickled dictionary whose keys are text, as bytes of Python 2 or strings of Python 3.

    Raises:
        DataError: if the pickle is damaged, asks for anything but arrays and plain values, or is no such dictionary.

    """
    try:
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # whatever a hostile or damaged pickle makes Python raise
        reason = error if isinstance(error, DataError) else type(error).__name__
        raise DataError(f"{name} is damaged or holds more than data: {reason}") from error
    if not isinstance(value, dict) or not all(isinstance(key, bytes | str) for key in value):
        raise DataError(f"{name} holds something else than a dictionary with names as keys")
    return {_text(key): entry for key, entry in value.items()}


def _text(value: bytes | str) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, bytes | str) for name in value):
        raise DataError(f"{where} holds no names of classes; use an intact copy")
    return tuple(map(_text, value))


def _images_and_labels(batch: dict[str, Any], key: str, classes: int, where: str) -> tuple[Tensor, Tensor]:
    array, labels = batch.get("data"), batch.get(key)
    try:
        if not isinstance(array, Array):
            raise DataError("no array")
        rows = array.tensor()
        if rows.shape[1] != math.prod(SHAPE):
            raise DataError(f"rows of {rows.shape[1]} bytes")
    except DataError as error:
        raise DataError(f"{where} holds {error}, where images of {SHAPE} bytes are needed") from error
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{where} holds no list of {key}; use an intact copy")
    try:
        targets = torch.tensor(labels, dtype=torch.int64)
    except RuntimeError as error:
        raise DataError(f"{where} holds labels that are no small numbers") from error
    return rows.reshape(-1, *SHAPE), checked_labels(targets, len(rows), classes, where)
