"""What is finished is never lost, and what is damaged is never believed."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lookbehind.lab import DamageWarning, Record, SharpnessSettings, Store, UnwritableError, execute
from lookbehind.lab.files import read_json, write_json
from tests.lab.runs import RUN, SAM, numbers

SHARP = SharpnessSettings(radii=(0.1,))


class Said(list):
    """A store's sentences."""

    def store(self, root: Path) -> Store:
        return Store(root, say=self.append)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    execute(RUN, Store(root), [SHARP])
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A copy of a store with a finished and measured run."""
    shutil.copytree(finished, tmp_path / "store")
    return tmp_path / "store"


def pull_the_plug(record: Record) -> None:
    raise KeyboardInterrupt


def unfinished(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(RUN, store, on_epoch=pull_the_plug, save_every=0)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["result.json", f"{SHARP.address}.json"])
def test_no_flipped_bit_and_no_truncation_of_numbers_is_believed(name: str, root: Path, said: Said) -> None:
    path = said.store(root).folder(RUN) / name
    whole = path.read_bytes()

    def read() -> Any:
        store = said.store(root)
        return store.result(RUN) if name == "result.json" else store.measured(RUN, SHARP)

    right, draw = read(), random.Random(0)
    assert right is not None
    assert not said
    believed = 0
    places = range(0, len(whole), 4)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        found, sentences = read(), len(said)
        said.clear()
        assert (found is None and sentences == 1) or (found == right and sentences == 0), place
        believed += found is not None
    assert believed < 0.2 * len(places)  # blanks between values
    for length in range(0, len(whole) - 1, 200):
        path.write_bytes(whole[:length])
        assert read() is None
        assert len(said) == 1
        assert said.pop() == (
            f"{path} is not used: it is truncated, damaged, or not a file of this program. What it held is done again."
        )


def test_no_flipped_bit_of_weights_is_believed(root: Path, said: Said) -> None:
    path = said.store(root).folder(RUN) / "weights.safetensors"
    whole, draw = path.read_bytes(), random.Random(0)
    assert said.store(root).weights(RUN) is not None
    for _ in range(50):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        assert said.store(root).weights(RUN) is None
        assert said.pop() == f"{path} is not used: its checksum is wrong. The run is done again."
    path.write_bytes(whole[:-1])
    assert said.store(root).weights(RUN) is None
    path.unlink()
    assert said.store(root).weights(RUN) is None
    assert "it is missing" in said.pop()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def test_no_flipped_bit_and_no_truncation_of_a_checkpoint_is_believed(tmp_path: Path, said: Said) -> None:
    store = said.store(tmp_path)
    unfinished(store)
    path, right, draw = store.folder(RUN) / "last.pt", store.checkpoint(RUN), random.Random(0)
    whole = path.read_bytes()
    believed = 0
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        found = said.store(tmp_path).checkpoint(RUN)
        assert (found is None and said) or same(found, right)
        believed += found is not None
        said.clear()
    assert believed < 30  # names and padding of the archive
    for length in (0, 1, 1000, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert said.store(tmp_path).checkpoint(RUN) is None
        assert said.pop().endswith("last.pt is not used: it is damaged, or not a file of this program. "
                                   "The run begins anew.")  # fmt: skip


@pytest.mark.parametrize("name", ["result.json", "weights.safetensors", f"{SHARP.address}.json", "last.pt", "run.json"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b'{"a": 1}', b"\xff\xfe", b"[]"])
def test_what_is_damaged_is_done_again_and_says_so(
    name: str, content: bytes, root: Path, said: Said, finished: Path
) -> None:
    store = said.store(root)
    right = numbers(Store(finished).result(RUN)), Store(finished).measured(RUN, SHARP)
    if name == "last.pt":
        (store.folder(RUN) / "result.json").unlink()
    if name == "weights.safetensors":  # they matter once something is to be measured of them
        (store.folder(RUN) / f"{SHARP.address}.json").unlink()
    (store.folder(RUN) / name).write_bytes(content)
    assert numbers(execute(RUN, store, [SHARP])) == right[0]
    assert store.measured(RUN, SHARP) == right[1]
    assert len(said) == (name != "run.json")  # which nothing reads
    assert all(name in sentence for sentence in said)
    said.clear()
    again = said.store(root)
    assert again.complete(RUN, [SHARP])
    assert again.weights(RUN) is not None
    assert not said


def test_files_of_another_run_are_not_believed(root: Path, said: Said) -> None:
    store, other = said.store(root), RUN.model_copy(update={"seed": 7})
    shutil.copytree(store.folder(RUN), store.folder(other))
    assert store.result(other) is None
    assert said == [f"{store.folder(other)}/result.json is not used: it belongs to another run. "
                    "What it held is done again."]  # fmt: skip
    third = SharpnessSettings(radii=(9.0,))
    shutil.copy(store.folder(RUN) / f"{SHARP.address}.json", store.folder(RUN) / f"{third.address}.json")
    assert store.measured(RUN, third) is None
    assert "it belongs to another measurement" in said[-1]


def test_a_measurement_of_other_weights_is_not_believed(root: Path, said: Said) -> None:
    """The run was trained again, and elsewhere its last digits are others."""
    store = said.store(root)
    store.finish(
        RUN,
        {name: tensor + 1 for name, tensor in store.weights(RUN).items()},
        **store.result(RUN).model_dump(exclude={"weights"}),
    )
    assert store.result(RUN) is not None
    assert store.measured(RUN, SHARP) is None


def test_a_checkpoint_of_another_version_begins_anew(tmp_path: Path, said: Said, finished: Path) -> None:
    store = said.store(tmp_path)
    unfinished(store)
    state = store.checkpoint(RUN)
    state["training"]["model"] = {f"old.{name}": tensor for name, tensor in state["training"]["model"].items()}
    del state["run"]
    store.save_checkpoint(RUN, state)
    assert numbers(execute(RUN, store)) == numbers(Store(finished).result(RUN))
    assert len(said) == 1
    assert "does not fit this version" in said[0]


def test_without_a_callback_it_warns(root: Path) -> None:
    store = Store(root)
    (store.folder(RUN) / "result.json").write_text("x")
    with pytest.warns(DamageWarning, match=r"result\.json is not used"):
        assert store.result(RUN) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.result(RUN) is None  # said once


# --- other people's files, other places ---------------------------------------------------------------------------


def test_foreign_files_are_left_alone(root: Path, said: Said) -> None:
    store = said.store(root)
    foreign = {
        root / "note.txt": "mine",
        root / "runs" / "README": "mine",
        root / "runs" / "0123456789abcdef" / "result.json": "mine",
        store.folder(RUN) / "note.txt": "mine",
        store.folder(RUN) / ".note.txt.12.writing": "mine",
        store.folder(RUN) / "0123456789abcdef.json": "mine",
        store.folder(RUN) / "plots" / "weights.safetensors": "mine",
    }
    for path, text in foreign.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    stale = store.folder(RUN) / ".result.json.12.writing"  # of a process that was killed
    stale.write_text("{")
    (store.folder(RUN) / "result.json").unlink()
    execute(RUN, store, [SHARP])
    assert all(path.read_text() == text for path, text in foreign.items())
    assert not stale.exists()
    assert not said


def test_a_store_can_be_moved(root: Path, said: Said, tmp_path: Path) -> None:
    before = numbers(said.store(root).result(RUN))
    other = RUN.model_copy(update={"seed": 3})
    with pytest.raises(KeyboardInterrupt):
        execute(other, said.store(root), on_epoch=pull_the_plug, save_every=0)
    undisturbed = numbers(execute(other, said.store(tmp_path / "undisturbed")))
    shutil.move(root, tmp_path / "elsewhere")
    moved = said.store(tmp_path / "elsewhere")
    assert numbers(moved.result(RUN)) == before
    assert moved.complete(RUN, [SHARP])
    assert numbers(execute(other, moved)) == undisturbed
    assert not any(str(root) in p.read_text() for p in (tmp_path / "elsewhere").rglob("*.json"))
    assert not said


# --- nowhere to write to -----------------------------------------------------------------------------------------


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_full_disk_at_any_moment_loses_nothing(tmp_path: Path, said: Said, finished: Path, monkeypatch) -> None:
    """The n-th time that something is to reach the disk, there is no space left, for each n there is."""
    sync, store = os.fsync, said.store(tmp_path)
    failures = 0
    for n in range(100):
        left = n

        def full(handle: int) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(handle)

        monkeypatch.setattr(os, "fsync", full)
        error = None
        try:
            result = execute(RUN, store, [SHARP], save_every=0)
            break
        except UnwritableError as caught:
            error, failures = caught, failures + 1
        assert error.errno == errno.ENOSPC
        assert str(tmp_path) in error.filename
        assert not [name for name in files(tmp_path) if name.endswith(".writing")]
        assert "runs/failed.json" not in files(tmp_path)
    assert failures >= 8
    assert numbers(result) == numbers(Store(finished).result(RUN))
    assert store.measured(RUN, SHARP) == Store(finished).measured(RUN, SHARP)
    assert not said  # no half-written file was ever met


def test_a_file_that_is_there_outlives_a_full_disk(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"number": 1})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableError, match=r"No space left on device: '.*result\.json'"):
        write_json(path, {"number": 2})
    assert read_json(path) == {"number": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_disk_that_takes_small_files_only(tmp_path: Path, said: Said, finished: Path) -> None:
    """The system itself refuses to write, here more than 20 kB a file: torch.save answers with another error."""
    store, before = said.store(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for save_every in (0, 1000):  # the checkpoint fails, or the weights
            with pytest.raises(UnwritableError, match="File too large"):
                execute(RUN, store, save_every=save_every)
            assert sorted(p.name for p in store.folder(RUN).iterdir()) == [".lock", "log.jsonl", "run.json"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert numbers(execute(RUN, store)) == numbers(Store(finished).result(RUN))
    assert not said


def test_a_folder_that_cannot_be_made(tmp_path: Path, said: Said) -> None:
    (tmp_path / "file").write_text("mine")
    store = said.store(tmp_path / "file" / "store")
    with pytest.raises(UnwritableError, match="file"):
        store.open()
    with pytest.raises(UnwritableError, match="file"):
        execute(RUN, store)
    assert files(tmp_path) == {"file": b"mine"}


def test_a_folder_that_may_only_be_read(finished: Path, said: Said) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        root = Path(place) / "store"
        shutil.copytree(finished, root)
        folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
        for path in root.rglob("*"):
            path.chmod(0o444)
        for path in folders:
            path.chmod(0o555)
        before, user = files(root), os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may write anywhere
        try:
            store = said.store(root)
            with pytest.raises(UnwritableError):
                store.open()
            for seed in (0, 1):
                with pytest.raises(UnwritableError):
                    execute(RUN.model_copy(update={"seed": seed}), store, [SharpnessSettings(radii=(1.0,))])
            assert store.complete(RUN, [SHARP])  # what is there can be read
        finally:
            os.seteuid(user)
        assert files(root) == before
        for path in folders:
            path.chmod(0o755)
    assert not said


def test_numbers_on_disk_are_plain_json(root: Path) -> None:
    folder = Store(root).folder(RUN)
    content = json.loads((folder / "result.json").read_text())
    assert content["summary"]["best"]["test"]["test"] == max(r["test"] for r in content["result"]["records"])
    assert content["run"]["method"] == SAM.model_dump(mode="json")
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [Record.model_validate(line).model_dump(mode="json") for line in lines] == content["result"]["records"]
