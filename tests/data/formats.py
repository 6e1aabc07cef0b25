"""Files of the published formats, written from their descriptions and not with the code that reads them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def python2_pickle(value: Any) -> bytes:
    """What Python 2's cPickle writes with protocol 2: text is bytes, and so is the content of an array."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + struct.pack("<B", len(value)) if short else b"T" + struct.pack("<i", len(value))) + value
    if isinstance(value, int):
        return b"K" + struct.pack("<B", value) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(key) + _opcodes(entry) for key, entry in value.items()) + b"u"
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.uint8
    fortran = value.flags.fnc
    rebuilt = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + b"U\x01b" + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + b"U\x02u1K\x00K\x01\x87R" + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(map(_opcodes, value.shape)) + b"\x86"
    content = _opcodes(value.tobytes("F" if fortran else "C"))
    return rebuilt + b"(K\x01" + shape + dtype + (b"\x88" if fortran else b"\x89") + content + b"tb"


def write_archive(path: Path, members: Mapping[str, bytes] | list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """A .tar.gz archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return path


def idx(values: np.ndarray) -> bytes:
    """The IDX format of unsigned bytes."""
    return bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", n) for n in values.shape) + values.tobytes()


def write_idx(path: Path, values: np.ndarray) -> Path:
    """A gzipped IDX file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(idx(values), mtime=0))
    return path


def pictures(seed: int, n: int, *shape: int) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def cifar10(dump: Any = python2_pickle, n: int = 20, text: Any = bytes) -> dict[str, bytes]:
    """The members of a small CIFAR-10: n images in each of the five batches and in the test batch."""
    key = (lambda name: name.encode()) if text is bytes else str
    members = {"cifar-10-batches-py/readme.html": b"<html>"}
    for i, name in enumerate(
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    ):
        batch = {
            key("batch_label"): key(name),
            key("labels"): [(7 * j + i) % 10 for j in range(n)],
            key("data"): pictures(i, n, 3072),
            key("filenames"): [key(f"{j}.png") for j in range(n)],
        }
        members[f"cifar-10-batches-py/{name}"] = dump(batch)
    meta = {key("num_cases_per_batch"): n, key("label_names"): [key(f"class {i}") for i in range(10)]}
    members["cifar-10-batches-py/batches.meta"] = dump(meta)
    return members


def cifar100(dump: Any = python2_pickle, n: int = 30) -> dict[str, bytes]:
    """The members of a small CIFAR-100."""
    members = {}
    for i, name in enumerate(["train", "test"]):
        batch = {
            b"fine_labels": [(37 * j + i) % 100 for j in range(n)],
            b"coarse_labels": [j % 20 for j in range(n)],
            b"data": pictures(i, n, 3072),
        }
        members[f"cifar-100-python/{name}"] = dump(batch)
    meta = {
        b"fine_label_names": [b"fine %d" % i for i in range(100)],
        b"coarse_label_names": [b"coarse %d" % i for i in range(20)],
    }
    members["cifar-100-python/meta"] = dump(meta)
    return members


def fashion_mnist(folder: Path, n: int = 50, tested: int = 20) -> Path:
    """The four files of a small Fashion-MNIST."""
    for i, (name, number) in enumerate([("train", n), ("t10k", tested)]):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", pictures(i, number, 28, 28))
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", np.arange(number, dtype=np.uint8) % 10)
    return folder
