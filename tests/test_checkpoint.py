"""`checkpoint.save` writes what `checkpoint.load` reads, and nothing else."""

from __future__ import annotations

import argparse
import enum
import os
import stat
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from lookbehind import SAM, checkpoint

Pair = namedtuple("Pair", "a b")


class Colour(enum.IntEnum):
    RED = 1


class Mine(dict[str, Any]):
    pass


class Marked(torch.Tensor):
    pass


class Knot:
    """Something that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("no")


def written(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    checkpoint.save(path, state)
    return checkpoint.load(path)


def test_a_rho_of_numpy_is_saved_as_a_number(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = SAM(torch.optim.SGD([parameter], lr=0.1, momentum=0.9))
    optimizer.param_groups[0]["rho"] = numpy.linspace(0, 0.1, 5)[3]
    state = optimizer.state_dict()
    loaded = written(tmp_path / "last.pt", {"optimizer": state})["optimizer"]
    rho = loaded["param_groups"][0]["rho"]
    assert type(rho) is float
    assert rho == numpy.linspace(0, 0.1, 5)[3]
    assert isinstance(state["param_groups"][0]["rho"], numpy.float64)  # the caller's own state is as it was
    optimizer.load_state_dict(loaded)


@pytest.mark.parametrize(
    "value",
    [
        numpy.float64(0.9),
        numpy.float32(0.5),
        numpy.int64(3),
        numpy.bool_(True),
        numpy.str_("name"),
        numpy.complex128(1j),
        [1, (numpy.int32(2), {"a": numpy.float16(0.5)})],
        {numpy.int64(7): "seven"},
        {numpy.int64(7)},
        OrderedDict(a=numpy.float64(1.0)),
        Counter("aab"),
        torch.float16,
        torch.device("cpu"),
        torch.Size([2, 3]),
        b"bytes",
        {1, 2},
        1j,
        None,
        float("inf"),
        2**62,
        "ρ",
    ],
    ids=repr,
)
def test_plain_values_come_back_equal(tmp_path: Path, value: Any) -> None:
    loaded = written(tmp_path / "last.pt", {"value": value})["value"]
    assert loaded == value
    assert not isinstance(loaded, numpy.generic)


@pytest.mark.parametrize("kind", ["dense", "parameter", "buffer", "sparse", "attribute", "bfloat16"])
def test_tensors_come_back_equal(tmp_path: Path, kind: str) -> None:
    tensor = torch.arange(6.0).reshape(2, 3)
    if kind == "parameter":
        tensor = torch.nn.Parameter(tensor)
    elif kind == "buffer":
        tensor = torch.nn.Buffer(tensor)
    elif kind == "sparse":
        tensor = tensor.to_sparse()
    elif kind == "attribute":
        tensor.note = "mine"  # type: ignore[attr-defined]
    elif kind == "bfloat16":
        tensor = tensor.bfloat16()
    loaded = written(tmp_path / "last.pt", {"a": tensor, "b": tensor})
    assert torch.equal(loaded["a"].to_dense(), tensor.to_dense())
    if kind == "dense":
        assert loaded["a"].data_ptr() == loaded["b"].data_ptr()


def test_a_state_dict_keeps_its_metadata(tmp_path: Path) -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert written(tmp_path / "plain.pt", {"net": state})["net"]._metadata == state._metadata  # type: ignore[attr-defined]
    state["extra"] = numpy.float64(1.0)
    changed = written(tmp_path / "changed.pt", {"net": state})["net"]
    assert changed._metadata == state._metadata  # type: ignore[attr-defined]
    assert list(changed) == list(state)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"arguments": argparse.Namespace(lr=0.1)}, "'arguments' is of type Namespace"),
        ({"folder": Path("x")}, "'folder' is of type PosixPath"),
        ({Path("x"): 1}, r"PosixPath\('x'\) is of type PosixPath"),
        ({"optimizer": {"param_groups": [{"rho": Path("x")}]}}, "'optimizer' -> 'param_groups' -> 0 -> 'rho' is of"),
        (
            {"model": torch.nn.Linear(1, 1)},
            r"'model' is of type Linear, which load cannot read; save its state_dict\(\)",
        ),
        ({"log": defaultdict(list)}, "'log' is of type defaultdict"),
        ({"log": [Mine(a=1)]}, "'log' -> 0 is of type Mine"),
        ({"pair": (1, Pair(1, 2))}, "'pair' -> 1 is of type Pair"),
        ({"colour": Colour.RED}, "'colour' is of type Colour"),
        ({"function": lambda: 1}, "'function' is of type function"),
        ({"frozen": frozenset([1])}, "'frozen' is of type frozenset"),
        ({"array": numpy.ones(2)}, "'array' is of type ndarray"),
        ({"when": numpy.datetime64("2020-01-01")}, "'when' is of type date"),
        ({"long": numpy.longdouble(1)}, "'long' is of type longdouble"),
        ({"big": 2**9000}, "'big' is of type int"),
        ({"marked": torch.ones(2).as_subclass(Marked)}, "'marked' is of type Marked"),
        ({"lazy": torch.nn.LazyLinear(2).weight}, "'lazy' is of type UninitializedParameter"),
        ({"knot": Knot()}, "'knot' is of type Knot"),
        (Mine(a=1), "the state is of type Mine"),
        ([1], "the state is a list"),
    ],
)
def test_what_load_could_not_read_is_refused_by_name(tmp_path: Path, state: Any, words: str) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 3})
    with pytest.raises(checkpoint.CheckpointError, match=words) as caught:
        checkpoint.save(path, state)
    assert len(str(caught.value)) < 200
    assert checkpoint.load(path) == {"step": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_class_that_the_user_declares_safe_is_saved(tmp_path: Path) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert written(tmp_path / "a.pt", {"arguments": argparse.Namespace(lr=1)})["arguments"].lr == 1


def test_a_state_that_contains_itself_is_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["state"] = state
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    for refused in (state, {"deep": deep}):
        with pytest.raises(checkpoint.CheckpointError, match="nested too deeply, or contains itself"):
            checkpoint.save(tmp_path / "last.pt", refused)
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "epoch3.pt", tmp_path / "last.pt"
    link.symlink_to(target)
    for step in (1, 2):  # the target is made, then written again
        checkpoint.save(link, {"step": step})
        assert link.is_symlink()
        assert checkpoint.load(target) == {"step": step}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["disk", "epoch3.pt", "last.pt"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})
    path.chmod(mode)
    checkpoint.save(path, {"step": 2})
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert checkpoint.load(path) == {"step": 2}


def test_errors_name_the_file_that_the_caller_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "last.pt", Path("/dev/null"), Path("/proc/last.pt")):
        with pytest.raises(OSError) as caught:
            checkpoint.save(path, {"step": 1})
        assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """A limit on the size of files fails in the middle of torch.save, as a full disk does."""
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "last.pt", resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint.save(path, {"step": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            checkpoint.save(path, {"weights": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(path)
    assert checkpoint.load(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_the_old_format_of_torch_is_named(tmp_path: Path) -> None:
    torch.save({"step": 3}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(checkpoint.CheckpointError, match=r"old\.pt has the format of torch before 1\.6"):
        checkpoint.load(tmp_path / "old.pt")
    state = torch.load(tmp_path / "old.pt", weights_only=True)  # what the message says to do
    torch.save(state, tmp_path / "new.pt")
    assert checkpoint.load(tmp_path / "new.pt") == {"step": 3}


def test_errors_of_the_system_are_not_called_damage(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        checkpoint.load(tmp_path)
    with pytest.raises(NotADirectoryError):
        checkpoint.load("/dev/null/last.pt")
