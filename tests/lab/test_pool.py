"""Many runs on one machine: what is done, in which order, and how it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lookbehind.lab import (
    Event,
    Method,
    Record,
    Run,
    SharpnessSettings,
    Store,
    UnwritableError,
    Workload,
    execute,
    fill,
)
from tests.lab.command import runs
from tests.lab.runs import SAM, TINY, numbers, register

SHARP = SharpnessSettings(radii=(0.1,))
LINUX = pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")


def refuse(sentence: str) -> None:
    raise AssertionError(sentence)


def test_a_mixed_bag(tmp_path: Path) -> None:
    """Done, wanted twice, half measured, impossible, damaged, own model: what is missing is done, largest first."""
    said: list[str] = []
    store = Store(tmp_path, say=said.append)
    small, large, done, damaged, half = (
        Run(workload=TINY.model_copy(update={"epochs": epochs}), method=SAM, seed=seed)
        for seed, epochs in [(1, 1), (2, 8), (3, 2), (4, 3), (5, 2)]
    )
    register()
    own = Run(workload=TINY.model_copy(update={"model": "own", "epochs": 6}), method=SAM)
    impossible = Run(workload=Workload(**{**TINY.model_dump(), "validation": 10**6, "epochs": 20}), method=SAM)
    for run in (done, damaged, half):
        execute(run, store)
    (store.folder(damaged) / "result.json").write_text("x")
    modified = (store.folder(done) / "result.json").stat().st_mtime_ns
    events: list[Event] = []
    wanted = [(small, [SHARP]), (done, []), (large, []), (small, []), (damaged, []), (half, [SHARP]), (impossible, [])]
    failures = fill([*wanted, (own, [])], store, 1, events.append, prepare=register)
    assert list(failures) == [impossible]
    assert failures[impossible].startswith("ValueError: validation is 1000000; a whole number")
    assert store.failure(impossible) == failures[impossible]
    assert (store.folder(done) / "result.json").stat().st_mtime_ns == modified
    ended = [event.run for event in events if event.kind in ("done", "failed")]
    assert [run for run in ended if run != own][:2] == [impossible, large]
    assert Counter(ended) == Counter([impossible, large, own, damaged, half, small])
    assert [e.gradients for e in events if e.kind == "epoch" and e.run == large] == [4 * 2 * n for n in range(1, 9)]
    assert not [e for e in events if e.kind == "epoch" and e.run == half]  # measured, not trained
    assert store.complete(small, [SHARP])
    assert store.complete(half, [SHARP])
    assert len(said) == 1
    assert "result.json is not used" in said[0]
    assert numbers(store.result(large)) == numbers(execute(large, Store(tmp_path / "alone")))

    events.clear()
    assert fill(wanted[:-1], Store(tmp_path, say=refuse), 1, events.append) == {}
    assert events == []


def test_a_lost_worker_is_replaced_and_its_run_can_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path, say=refuse)
    (lost,), (other,) = runs(1, 12), runs(1, 2)

    def kill(event: Event) -> None:
        if event.run == lost and event.gradients == 2 * 8:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGKILL)  # type: ignore[arg-type]

    failures = fill([(other, []), (lost, [])], store, 1, kill, save_every=0)
    assert not multiprocessing.active_children()
    assert failures == {lost: "its process was ended from outside (signal 9), perhaps out of memory"}
    assert store.failure(lost) == failures[lost]
    assert store.complete(other)
    assert not store.complete(lost)
    seen: list[Record] = []
    assert numbers(execute(lost, store, on_epoch=seen.append)) == numbers(execute(lost, Store(tmp_path / "alone")))
    assert 0 < len(seen) < 11
    assert store.failure(lost) is None


def test_a_store_that_cannot_be_written_to_ends_it(tmp_path: Path) -> None:
    store = Store(tmp_path, say=refuse)
    (first,), (other,) = runs(1, 4), runs(1, 3)
    in_the_way = store.folder(first) / "weights.safetensors"
    in_the_way.mkdir(parents=True)
    with pytest.raises(UnwritableError, match=r"weights\.safetensors"):
        fill([(other, []), (first, [])], store, 1, save_every=0)
    assert not multiprocessing.active_children()
    assert len(store.checkpoint(first)["records"]) == 4  # type: ignore[index]
    assert not store.folder(other).exists()
    assert store.failure(first) is None


@pytest.mark.parametrize(
    ("changes", "words"), [({"dataset": "digit"}, "dataset is|on 'digit'"), ({"model": "net"}, "model is 'net'")]
)
def test_mistakes_are_answered_before_anything_starts(tmp_path: Path, changes: Any, words: str) -> None:
    run = Run(workload=TINY.model_copy(update=changes), method=Method(kind="base"))
    with pytest.raises(ValueError, match=words):
        fill([(run, [])], Store(tmp_path), 1)


# --- as a command ------------------------------------------------------------------------------------------------


def two_commands(root: Path, meeting: Path) -> Iterator[subprocess.Popen[str]]:
    """Start two commands on a store, whose workers begin at the same moment."""
    for _ in range(2):
        arguments = [sys.executable, "-m", "tests.lab.command", str(root), str(meeting), "2"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        yield subprocess.Popen(arguments, start_new_session=True, **pipes)  # type: ignore[call-overload]


def until(process: subprocess.Popen[str], kind: str, number: int) -> None:
    """Wait for so many events of a kind."""
    assert process.stdout is not None
    while number:
        line = process.stdout.readline()
        assert line, process.communicate()
        number -= line.startswith(kind)


def workers(parent: int) -> list[int]:
    """Processes of the parent's group besides it that train."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, group = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            if int(group) == parent and state != "Z" and "spawn_main" in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def no_worker_is_left(parent: int) -> None:
    deadline = time.monotonic() + 15
    while left := workers(parent):
        if time.monotonic() > deadline:
            for worker in left:
                os.kill(worker, signal.SIGKILL)
            raise AssertionError(f"{len(left)} workers outlived the command")
        time.sleep(0.02)


def end(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str]:
    """Send a signal; return how the command ended, and what it complained of."""
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)  # the command alone: its workers have to be told, or to notice
    _, errors = process.communicate(timeout=60)
    no_worker_is_left(process.pid)
    return process.returncode, errors


@LINUX
def test_interrupted_commands_leave_no_worker_and_others_go_on(tmp_path: Path) -> None:
    """Two commands at once on two runs: Ctrl-C ends one and SIGTERM the other. Then again two, and one is killed."""
    wanted, store = runs(2, 60), Store(tmp_path / "store", say=refuse)

    def saved() -> list[int]:
        return [len((store.checkpoint(run) or {"records": []})["records"]) for run in wanted]

    one, other = two_commands(store.root, tmp_path / "first")
    until(one, "epoch", 3)
    until(other, "epoch", 3)
    assert end(one, signal.SIGINT) == (130, "")
    assert end(other, signal.SIGTERM) == (143, "")
    before = saved()
    assert min(before) >= 3  # each had a run of its own

    one, other = two_commands(store.root, tmp_path / "second")
    until(one, "epoch", 3)
    until(other, "epoch", 1)
    assert end(one, signal.SIGKILL) == (-9, "")
    output, errors = other.communicate(timeout=120)
    assert (other.returncode, errors) == (0, "")
    trained = Counter(tuple(line.split()[1:]) for line in output.splitlines() if line.startswith("epoch"))
    for run, epochs in zip(wanted, before, strict=True):
        assert numbers(store.result(run)) == numbers(execute(run, Store(tmp_path / "alone")))
        assert all(trained[str(run.seed), str(8 * epoch)] == 0 for epoch in range(epochs + 1))
    assert max(trained.values()) == 1
