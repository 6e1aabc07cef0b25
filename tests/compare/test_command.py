"""The command as a user types it: results, resuming, mistakes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lookbehind.cli import main

COMMAND = [sys.executable, "-m", "lookbehind.cli"]
SMALL = ["compare", "--quick", "--labels", "noisy", "--methods", "sgd", "sam", "lookbehind", "--radius", "0.1", "0.2"]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, **options)


@pytest.mark.usefixtures("forked_workers")
def test_results_and_reuse(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*SMALL, "--output", str(tmp_path / "out[/b]")]) == 0
    first = capsys.readouterr().out
    for words in ("Lookbehind-SAM", "1 seed", "6 epochs", "sharpness", "With noisy labels", "3/3"):
        assert words in first
    assert "\x1b" not in first  # no terminal: plain text
    names = {"compare.txt", "compare.json", "compare.csv", "compare.png", "compare.svg", "runs"}
    assert {p.name for p in (tmp_path / "out[/b]").iterdir()} == names
    assert (tmp_path / "out[/b]" / "compare.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "out[/b]" / "compare.json").read_text())
    assert {r["run"]["method"]: r["result"]["gradients"] for r in numbers["runs"]} == {
        "sgd": 96, "sam": 192, "lookbehind": 288}  # fmt: skip

    assert f"Written to {tmp_path}/out[/b]: compare.txt" in first  # not taken for markup, not wrapped

    # One file is damaged, one belongs to nobody: the first is done again, the second is left alone.
    runs = tmp_path / "out[/b]" / "runs"
    damaged = sorted(runs.glob("*/result.json"))[0]
    damaged.write_text("nonsense")
    (runs / "note.txt").write_text("mine")
    without_unicode = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", without_unicode)
    assert main([*SMALL, "--output", str(tmp_path / "out[/b]")]) == 0
    without_unicode.flush()
    second = without_unicode.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "2 of 3 runs are in" in second
    assert str(damaged) in second
    assert (runs / "note.txt").read_text() == "mine"
    again = json.loads((tmp_path / "out[/b]" / "compare.json").read_text())
    for a, b in zip(numbers["runs"], again["runs"], strict=True):
        a["result"]["seconds"] = b["result"]["seconds"] = 0
        assert a == b


STUDY = """
from lookbehind.lab import Study, Workload
study = Study("Mine")
study.compare("Few digits", Workload(dataset="digits", model="convnet", train=100, epochs=2, batch=50))
"""


@pytest.mark.usefixtures("forked_workers")
def test_on_the_workload_of_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(STUDY)
    words = ["compare", "--study", "mine.py", "--quick", "--methods", "sam", "lookbehind"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for sentence in ("Few digits · 1 seed · 2 epochs", "Few digits, at 12 gradients each", "Lookbehind-SAM"):
        assert sentence in printed or "nothing to compare at equal cost" in printed
    content = json.loads((tmp_path / "compare" / "compare.json").read_text())
    assert {one["run"]["labels"] for one in content["runs"]} == {"Few digits"}
    assert [one["result"]["gradients"] for one in content["runs"]] == [8, 12]
    if Path("/dev/full").exists():  # the fault is standard output's, not that of --output
        with open("/dev/full", "w") as full:
            done = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert done.stderr == "lookbehind: standard output cannot be written (No space left on device)\n"
    (tmp_path / "empty.py").write_text(STUDY.replace("study.compare", "print"))
    for wrong, sentence in [
        (["compare", "--study", "empty.py"], "empty.py declares nothing to compare on; write study.compare("),
        (["compare", "--study", "yours.py"], "there is no file"),
        (["compare", "--study", "mine.py", "--labels", "noisy"], "--labels is noisy; they are those of the digits"),
    ]:
        assert main(wrong) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("forked_workers")
def test_an_interrupted_command_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What else can happen to a store is tested in tests/lab."""
    (tmp_path / "mine.py").write_text(STUDY.replace("epochs=2", "epochs=30"))
    arguments = ["compare", "--study", str(tmp_path / "mine.py"), "--methods", "sgd", "sam", "lookbehind"]
    arguments += ["--radius", "0.1", "--seeds", "2", "--output", str(tmp_path)]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("runs/*/result.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip() == "lookbehind: interrupted; finished runs are kept, and the same command continues"
    kept = {path: path.read_bytes() for path in tmp_path.glob("runs/*/result.json")}
    assert main(arguments) == 0
    assert "6/6" in capsys.readouterr().out
    assert all(path.read_bytes() == content for path, content in kept.items())


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
        (["--output", "/dev/null/x"], "/dev/null/x cannot be written (Not a directory)"),
    ],
)
def test_mistakes(arguments: list[str], words: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("lookbehind: ")
    assert words in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""


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
    assert done.stderr == "lookbehind: the command line needs the extra 'lab': pip install '.[lab]' in the clone\n"
