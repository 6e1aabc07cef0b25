"""CIFAR: read as published, and hostile or damaged archives refused with a sentence."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import tarfile
import tracemalloc
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbehind.data import DataError, cifar
from tests.data.formats import cifar10, cifar100, pictures, python2_pickle, write_archive

python3_pickle = partial(pickle.dumps, protocol=2)


def test_the_written_format_is_pythons() -> None:
    # NumPy and pickle themselves read what the tests write by hand, so the format is right.
    value = {b"labels": [1, 300], b"data": pictures(0, 4, 5), b"turned": np.asfortranarray(pictures(1, 4, 5))}
    read = pickle.loads(python2_pickle(value), encoding="bytes")
    assert read[b"labels"] == [1, 300]
    assert np.array_equal(read[b"data"], value[b"data"])
    assert np.array_equal(read[b"turned"], value[b"turned"])


@pytest.mark.parametrize(("dump", "text"), [(python2_pickle, bytes), (python3_pickle, bytes), (python3_pickle, str)])
def test_cifar10(tmp_path: Path, dump: Any, text: type) -> None:
    write_archive(tmp_path / "cifar-10-python.tar.gz", cifar10(dump, text=text))
    data = cifar.read_cifar10(tmp_path, 32)
    assert data.classes == tuple(f"class {i}" for i in range(10))
    expected = np.concatenate([pictures(i, 20, 3072) for i in range(5)]).reshape(100, 3, 32, 32)
    assert data.pixels.images.dtype == torch.uint8
    assert np.array_equal(data.pixels.images.numpy(), expected)
    assert data.labels.tolist() == [(7 * j + i) % 10 for i in range(5) for j in range(20)]
    assert data.test is not None
    assert np.array_equal(data.test[0].images.numpy().reshape(20, 3072), pictures(5, 20, 3072))
    assert data.test[1].tolist() == [(7 * j + 5) % 10 for j in range(20)]


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    write_archive(tmp_path / "cifar-100-python.tar.gz", cifar100())
    data = cifar.read_cifar100(tmp_path, 32)
    assert data.classes == tuple(f"fine {i}" for i in range(100))
    assert np.array_equal(data.pixels.images.numpy().reshape(30, 3072), pictures(0, 30, 3072))
    assert data.labels.tolist() == [37 * j % 100 for j in range(30)]
    assert data.test is not None
    assert data.test[1].tolist() == [(37 * j + 1) % 100 for j in range(30)]


def test_an_array_in_fortran_order() -> None:
    table = pictures(0, 6, 8)
    for dump in (python2_pickle, python3_pickle):
        array = cifar.unpickle(dump({b"data": np.asfortranarray(table)}), "x")["data"]
        assert np.array_equal(array.tensor().numpy(), table)


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, os.mkdir, exec, getattr, __import__, np.frombuffer, open])
def test_a_pickle_that_calls_something(tmp_path: Path, protocol: int, function: Any) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps({"data": Evil(function, str(mark))}, protocol=protocol)
    with pytest.raises(DataError, match="batch is damaged or holds more than data: it asks for"):
        cifar.unpickle(content, "batch")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02].",  # a list
        b"\x80\x02}K\x01K\x02s.",  # a number as key
        b"\x80\x02}(K\x01\x85K\x02u.",  # a tuple as key
        b"\x80\x02}X\x04\x00\x00\x00dataPevil\n.",  # a persistent id
        b"\x80\x02\x82\x01.",  # an extension
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
        b"\x80\x02}X\x01\x00\x00\x00ac_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86Rs.",
        b"\x80\x02ccopyreg\n_reconstructor\n.",
        b"\x80\x02cnumpy\nndarray.__reduce__\n.",
        b"\x80\x02" + b"r\xff\xff\xff\x7f" + b".",
        b"\x80\x02" + b"(" * 100_000 + b"t" * 50_000 + b".",
        b"\x80\x02T\xff\xff\xff\x7fabc.",  # bytes that are not there
        python2_pickle({b"a": [1, 2]})[:-4],
    ],
)
def test_pickles_that_are_damaged_or_hostile(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^batch ") as caught:
        cifar.unpickle(content, "batch")
    assert len(str(caught.value)) < 200


def test_a_far_place_in_the_memo_takes_no_memory() -> None:
    tracemalloc.start()
    assert cifar.unpickle(b"\x80\x02}r\xff\xff\xff\x00.", "batch") == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_an_array_that_does_not_fill_its_shape() -> None:
    content = python2_pickle({b"data": pictures(0, 2, 8)})
    for shape in (b"K\x03K\x08", b"K\x01K\x08"):
        array = cifar.unpickle(content.replace(b"K\x02K\x08\x86", shape + b"\x86"), "x")["data"]
        with pytest.raises(DataError, match="content does not fill its shape"):
            array.tensor()


def test_a_pickle_leaves_no_trace() -> None:
    # BUILD sets attributes of what is on the stack: here of the stand-in for _reconstruct.
    build = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb0}."
    assert cifar.unpickle(build, "batch") == {}
    function = cifar._Unpickler(io.BytesIO(b"")).find_class("numpy.core.multiarray", "_reconstruct")
    assert not vars(function)
    for name in ("ndarray", "dtype"):
        with pytest.raises(DataError):
            cifar.unpickle(b"\x80\x02cnumpy\n" + name.encode() + b"\n}X\x05\x00\x00\x00shapeK\x01sb0}.", "batch")
    assert cifar.Array.shape is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_to_a_pickle_is_no_other_error(data: st.DataObject) -> None:
    content = bytearray(python2_pickle({b"labels": [3, 4], b"data": pictures(0, 2, 8)}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DataError):
        batch = cifar.unpickle(bytes(content), "batch")
        cifar._images_and_labels(batch, "labels", 10, "batch")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({b"data": b"abc"}, "holds no array"),
        ({b"data": pictures(0, 3, 3071)}, "rows of 3071 bytes"),
        ({b"data": pictures(0, 2, 3072)}, r"labels of shape \(3,\) for 2 images"),
        ({b"labels": [1, 2, 10]}, "labels from 1 to 10 for 10 classes"),
        ({b"labels": [1, 2, -1]}, "labels from -1 to 2 for 10 classes"),
        ({b"labels": [b"1", 2, 3]}, "no list of labels"),
        ({b"labels": 3}, "no list of labels"),
        ({b"labels": []}, "labels of shape"),
    ],
)
def test_batches_that_are_not_what_they_should_be(change: dict[bytes, Any], sentence: str) -> None:
    batch = {b"data": pictures(0, 3, 3072), b"labels": [1, 2, 3]} | change
    with pytest.raises(DataError, match=sentence):
        cifar._images_and_labels(cifar.unpickle(python2_pickle(batch), "batch"), "labels", 10, "batch")


@pytest.mark.parametrize(
    "array",
    [
        pictures(0, 3, 3072).astype(np.int8),
        pictures(0, 3, 3072).astype(object),
        pictures(0, 3, 3072)[0],
        pictures(0, 3, 3072).reshape(1, 3, 3072),
    ],
)
def test_arrays_of_other_kinds(array: np.ndarray) -> None:
    batch = cifar.unpickle(python3_pickle({"data": array, "labels": [0, 1, 2]}), "batch")
    with pytest.raises(DataError, match="an array"):
        cifar._images_and_labels(batch, "labels", 10, "batch")


def _member(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b"abc"


@pytest.mark.parametrize(
    "member",
    [
        _member("cifar-10-batches-py/data_batch_1", tarfile.SYMTYPE, "/etc/passwd"),
        _member("cifar-10-batches-py/data_batch_1", tarfile.LNKTYPE, "../../secret"),
        _member("cifar-10-batches-py/data_batch_1", tarfile.CHRTYPE),
        _member("cifar-10-batches-py/data_batch_1", tarfile.BLKTYPE),
        _member("cifar-10-batches-py/data_batch_1", tarfile.FIFOTYPE),
        _member("../data_batch_1", tarfile.REGTYPE),
        _member("cifar-10-batches-py/../../data_batch_1", tarfile.REGTYPE),
        _member("/etc/data_batch_1", tarfile.REGTYPE),
    ],
)
def test_members_that_lead_elsewhere(tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]) -> None:
    path = write_archive(tmp_path / "folder" / "cifar.tar.gz", [member])
    with pytest.raises(DataError, match=r"not the published archive .* a link, device or path that leads out"):
        cifar.read_batches(path, ["cifar-10-batches-py/data_batch_1"])
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "cifar.tar.gz"]


def test_a_sparse_member(tmp_path: Path) -> None:
    info = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    info.type, info.pax_headers = tarfile.REGTYPE, {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40)}
    path = tmp_path / "cifar.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info.size = 1
        archive.addfile(info, io.BytesIO(b"a"))
    with pytest.raises(DataError, match="a link, device"):
        cifar.read_batches(path, ["cifar-10-batches-py/test_batch"])


def test_a_member_twice_or_lacking(tmp_path: Path) -> None:
    name = "cifar-10-batches-py/test_batch"
    twice = [(tarfile.TarInfo(name), python2_pickle({})), (tarfile.TarInfo(name), python2_pickle({}))]
    with pytest.raises(DataError, match="it holds cifar-10-batches-py/test_batch twice"):
        cifar.read_batches(write_archive(tmp_path / "a.tar.gz", twice), [name])
    members = cifar10()
    del members["cifar-10-batches-py/data_batch_3"]
    write_archive(tmp_path / "cifar-10-python.tar.gz", members)
    with pytest.raises(DataError, match=r"it lacks cifar-10-batches-py/data_batch_3$"):
        cifar.read_cifar10(tmp_path, 32)


def test_no_names_of_classes(tmp_path: Path) -> None:
    for meta in ({}, {b"label_names": []}, {b"label_names": [1]}, {b"label_names": b"abc"}):
        members = cifar10() | {"cifar-10-batches-py/batches.meta": python2_pickle(meta)}
        write_archive(tmp_path / "cifar-10-python.tar.gz", members)
        with pytest.raises(DataError, match="no names of classes"):
            cifar.read_cifar10(tmp_path, 32)


@pytest.mark.parametrize("where", ["in a member", "in a header"])
def test_an_archive_that_unpacks_to_far_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setattr(cifar, "LIMIT", 1 << 20)
    info = tarfile.TarInfo("cifar-10-batches-py/other")
    info.type = tarfile.REGTYPE if where == "in a member" else tarfile.XHDTYPE
    info.size = 1 << 34  # what it claims
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 22)))
    with pytest.raises(DataError, match="it unpacks to more than 1,048,576 bytes"):
        cifar.read_batches(path, ["cifar-10-batches-py/test_batch"])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "a.tar.gz", cifar100(n=2))


def _read(content: bytes, folder: Path) -> Any:
    (folder / "cifar-100-python.tar.gz").write_bytes(content)
    return cifar.read_cifar100(folder, 32)


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1))
def test_truncated(archive: Path, tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    content = archive.read_bytes()
    length = int(cut * (len(content) - 1))
    with pytest.raises(DataError, match=r"cifar-100-python\.tar\.gz is"):
        _read(content[:length], tmp_path_factory.mktemp("cut"))


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit(archive: Path, tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    content = bytearray(archive.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    folder = tmp_path_factory.mktemp("flipped")
    whole = _read(archive.read_bytes(), folder)
    with suppress(DataError):  # unless it is a bit that means nothing, as of gzip's time stamp
        read = _read(bytes(content), folder)
        assert torch.equal(read.pixels.images, whole.pixels.images)
        assert torch.equal(read.labels, whole.labels)


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"", mtime=0), gzip.compress(b"no tar" * 1000, mtime=0)],
    ids=["empty", "no gzip", "an empty gzip", "no tar"],  # the same in every worker, whatever the time
)
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        _read(content, tmp_path)
    with pytest.raises(DataError, match="is missing"):
        cifar.read_cifar10(tmp_path, 32)
