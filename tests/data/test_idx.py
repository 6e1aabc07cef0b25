"""IDX files and Fashion-MNIST: read as published, and damaged ones refused with a sentence."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbehind.data import DataError, fashion_mnist, idx, load
from tests.data import formats

DEBIAN = fashion_mnist.DEBIAN


@settings(max_examples=50, deadline=None)
@given(shape=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_any_shape(shape: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    values = formats.pictures(seed, *shape)
    read = idx.read_idx(formats.write_idx(tmp_path_factory.mktemp("idx") / "x.gz", values))
    assert read.dtype == torch.uint8
    assert np.array_equal(read.numpy(), values)


GOOD = formats.idx(formats.pictures(0, 3, 4))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "begins with nothing"),
        (GOOD[:3], "begins with 000008"),
        (b"\1" + GOOD[1:], "begins with 01000802"),
        (b"\0\0\x0d\2" + GOOD[4:], "begins with 00000d02"),  # floats
        (b"\0\0\x08\0", "begins with 00000800"),
        (b"\0\0\x08\xff" + GOOD[4:], "begins with 000008ff"),
        (GOOD[:9], "truncated or damaged"),
        (GOOD[:-1], "promises 12 bytes and holds 11"),
        (GOOD + b"\0", "promises 12 bytes and holds more"),
        (b"\0\0\x08\1" + struct.pack(">I", 0xFFFFFFFF) + b"abc", "promises 4,294,967,295 bytes, more than"),
        (b"\0\0\x08\3" + struct.pack(">III", 60000, 0xFFFF, 0xFFFF), "more than the 1,073,741,824 that are allowed"),
        (b"\0\0\x08\2" + struct.pack(">II", 0, 3), r"is empty: its sizes are \(0, 3\)"),
        (formats.idx(np.zeros(8, np.uint8))[:8] + bytes(1 << 24), "holds more"),  # unpacks to far more than it promises
    ],
)
def test_headers_that_lie(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=sentence):
        idx.read_idx(path)


def test_a_header_that_lies_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\1" + struct.pack(">I", 1000) + bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(DataError, match="promises 1,000 bytes and holds more"):
        idx.read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@settings(max_examples=80, deadline=None)
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_damage_is_told(tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    values = formats.pictures(1, 5, 7)
    content = bytearray(gzip.compress(formats.idx(values), mtime=0))
    at = int(place * (len(content) - 1))
    path = tmp_path_factory.mktemp("idx") / "x.gz"
    path.write_bytes(content[:at])
    with pytest.raises(DataError, match=r"x\.gz is"):
        idx.read_idx(path)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    with suppress(DataError):  # unless it is a bit that means nothing
        assert np.array_equal(idx.read_idx(path).numpy(), values)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        idx.read_idx(tmp_path / "x.gz")
    with pytest.raises(DataError, match="is missing"):
        idx.read_idx(tmp_path)  # a folder


def test_fashion_mnist(tmp_path: Path) -> None:
    data = fashion_mnist.read(formats.fashion_mnist(tmp_path), 28)
    assert np.array_equal(data.pixels.images.squeeze(1).numpy(), formats.pictures(0, 50, 28, 28))
    assert data.labels.tolist() == [i % 10 for i in range(50)]
    assert data.test is not None
    assert np.array_equal(data.test[0].images.squeeze(1).numpy(), formats.pictures(1, 20, 28, 28))
    assert (data.channels, len(data.classes)) == (1, 10)


def test_averaging_is_the_mean_of_four_pixels(tmp_path: Path) -> None:
    data = fashion_mnist.read(formats.fashion_mnist(tmp_path), 14)
    pixels = formats.pictures(0, 50, 28, 28).tolist()
    for n, row, column in [(0, 0, 0), (3, 5, 7), (49, 13, 13), (20, 13, 0)]:
        four = [pixels[n][2 * row + i][2 * column + j] for i in (0, 1) for j in (0, 1)]
        assert data.pixels.images[n, 0, row, column] == int(sum(four) / 4 + 0.5)
    # Rounded to nearest everywhere, the largest values included.
    bright = fashion_mnist.average_2x2(
        torch.tensor([[[[255, 255], [255, 254]]], [[[0, 1], [0, 0]]], [[[0, 1], [1, 0]]]], dtype=torch.uint8)
    )
    assert bright.flatten().tolist() == [255, 0, 1]


@pytest.mark.parametrize(
    ("file", "values", "sentence"),
    [
        ("train-images", formats.pictures(0, 50, 28, 27), r"images of shape \(28, 27\)"),
        ("train-images", formats.pictures(0, 50), r"images of shape \(\)"),
        ("train-images", formats.pictures(0, 49, 28, 28), r"labels of shape \(50,\) for 49 images"),
        ("train-labels", np.full(50, 10, np.uint8), "labels from 10 to 10 for 10 classes"),
        ("t10k-labels", formats.pictures(0, 20, 1), r"labels of shape \(20, 1\) for 20 images"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, file: str, values: np.ndarray, sentence: str) -> None:
    formats.fashion_mnist(tmp_path)
    kind = "idx3" if "images" in file else "idx1"
    formats.write_idx(tmp_path / f"{file}-{kind}-ubyte.gz", values)
    with pytest.raises(DataError, match=sentence):
        fashion_mnist.read(tmp_path, 28)


real = pytest.mark.skipif(not DEBIAN.exists(), reason="needs the Debian package dataset-fashion-mnist")


@real
@pytest.mark.parametrize("size", [28, 14])
def test_the_real_fashion_mnist(tmp_path: Path, size: int) -> None:
    data = load("fashion-mnist", tmp_path, size=size, validation=0, download=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (60_000, 0, 10_000)
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    inputs = torch.cat([images for images, _ in data.train.minibatches(10_000)]).double()
    assert inputs.shape[1:] == (1, size, size)
    assert inputs.mean().abs() < 3e-4  # the constants have four digits
    assert inputs.std().item() == pytest.approx(1, abs=3e-4)
    # The first of the published test images is an ankle boot, and a boot's sole is brighter than the air above it.
    assert data.classes[int(data.test.labels[0])] == "Ankle boot"
    boot = next(iter(data.test.minibatches(1)))[0][0, 0]
    assert boot[size * 3 // 4].mean() > boot[size // 8].mean() + 1


@real
def test_the_published_checksums_are_of_the_same_content() -> None:
    # Debian packed the files anew, without name and time in gzip's header. With them, they are the published files.
    times = {"train": 1_504_176_606, "t10k": 1_504_176_627}  # 31 August 2017
    for file in fashion_mnist.FILES:
        packed = (DEBIAN / file.name).read_bytes()
        assert hashlib.sha256(packed).hexdigest() == file.repacked
        header = b"\x1f\x8b\x08\x08" + struct.pack("<I", times[file.name.split("-")[0]]) + b"\0\3"
        published = header + file.name.removesuffix(".gz").encode() + b"\0" + packed[10:]
        assert (len(published), hashlib.sha256(published).hexdigest()) == (file.size, file.sha256)
