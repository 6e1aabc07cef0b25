"""The command as a user types it: results, resuming, mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "lookbehind.cli"]
SMALL = ["compare", "--quick", "--labels", "noisy", "--methods", "sgd", "sam", "lookbehind", "--radius", "0.1", "0.2"]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, **options)


def test_results_and_reuse(tmp_path: Path) -> None:
    first = run(*SMALL, "--output", str(tmp_path / "out[/b]"))
    assert first.returncode == 0, first.stderr
    for words in ("Lookbehind-SAM", "1 seed", "6 epochs", "sharpness", "With noisy labels", "3/3"):
        assert words in first.stdout
    assert "\x1b" not in first.stdout  # no terminal: plain text
    names = {"compare.txt", "compare.json", "compare.csv", "compare.png", "compare.svg", "runs"}
    assert {p.name for p in (tmp_path / "out[/b]").iterdir()} == names
    assert (tmp_path / "out[/b]" / "compare.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "out[/b]" / "compare.json").read_text())
    assert {r["run"]["method"]: r["result"]["gradients"] for r in numbers["runs"]} == {
        "sgd": 96, "sam": 192, "lookbehind": 288}  # fmt: skip

    assert f"Written to {tmp_path}/out[/b]: compare.txt" in first.stdout  # not taken for markup, not wrapped

    # One file is damaged, one belongs to nobody: the first is done again, the second is left alone.
    runs = tmp_path / "out[/b]" / "runs"
    damaged = sorted(runs.iterdir())[0]
    damaged.write_text("nonsense")
    (runs / "note.txt").write_text("mine")
    without_unicode = {**os.environ, "PYTHONIOENCODING": "ascii"}
    second = run(*SMALL, "--output", str(tmp_path / "out[/b]"), env=without_unicode)
    assert second.returncode == 0, second.stderr
    assert "2 of 3 runs are in" in second.stdout
    assert f"{damaged.name} is not used" in second.stdout
    assert (runs / "note.txt").read_text() == "mine"
    again = json.loads((tmp_path / "out[/b]" / "compare.json").read_text())
    for a, b in zip(numbers["runs"], again["runs"], strict=True):
        a["result"]["seconds"] = b["result"]["seconds"] = 0
        assert a == b


def _wait(until, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _workers(parent: int) -> list[int]:
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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_command_continues(tmp_path: Path, how: signal.Signals) -> None:
    arguments = [*COMMAND, *SMALL, "--output", str(tmp_path)]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    runs = tmp_path / "runs"
    _wait(lambda: process.poll() is not None or list(runs.glob("*.json")))
    assert process.poll() is None
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.kill()  # the command alone: its workers have to notice
    try:
        _wait(lambda: not _workers(process.pid), seconds=60)
    finally:
        for worker in _workers(process.pid):
            os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors.strip() == "lookbehind: interrupted; finished runs are kept, and the same command continues"
    kept = {p.name: p.read_text() for p in runs.glob("*.json")}
    assert len(kept) >= 1
    after = run(*SMALL, "--output", str(tmp_path))
    assert after.returncode == 0, after.stderr
    assert f"{len(kept)} of 3 runs are in" in after.stdout
    assert all((runs / name).read_text() == text for name, text in kept.items())


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_ctrl_c_while_workers_start_and_a_worker_that_is_killed(tmp_path: Path) -> None:
    for how, code, words in (("ctrl-c", 130, "interrupted"), ("worker", 1, "a worker process was ended from outside")):
        process = subprocess.Popen(
            [*COMMAND, *SMALL, "--output", str(tmp_path / how)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        _wait(lambda p=process: _workers(p.pid))
        if how == "ctrl-c":
            time.sleep(0.1)  # the new process is importing
            os.killpg(process.pid, signal.SIGINT)
        else:
            _wait(lambda: list((tmp_path / "worker" / "runs").glob("*.json")))
            os.kill(_workers(process.pid)[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == code
        assert errors.startswith(f"lookbehind: {words}")
        assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rho", "-1"], "--rho is -1.0; a finite number of at least 0 is needed"),
        (["--alpha", "1.5"], "--alpha is 1.5; a number greater than 0 and at most 1 is needed"),
        (["--k", "0"], "--k is 0; a whole number of at least 1 is needed"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--radius", "0.1", "nan"], "--radius is nan"),
        (["--device", "abacus"], "--device is 'abacus', which cannot be used here"),
        (["--device", "meta"], "--device is 'meta', which cannot be used here"),
        (["--output", "/dev/null/x"], "/dev/null/x/runs cannot be written (Not a directory)"),
    ],
)
def test_mistakes(arguments: list[str], words: str) -> None:
    done = run("compare", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("lookbehind: ")
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["compare", "--methods", "adam"], ["compare", "--k", "two"], ["nonsense"]])
def test_mistakes_that_the_parser_finds(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert arguments[-1] in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version() -> None:
    assert run("--version").stdout.startswith("lookbehind 0.")
    for arguments in (["--help"], ["compare", "--help"], []):
        done = run(*arguments)
        assert done.returncode == 0
        assert "compare" in done.stdout


def test_a_missing_extra_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tyro").mkdir()
    (tmp_path / "tyro" / "__init__.py").write_text("raise ImportError")
    done = run("compare", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr == "lookbehind: the command line needs the extra 'lab': pip install 'lookbehind[lab]'\n"
