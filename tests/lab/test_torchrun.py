"""One run on several processes, started by the real torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lookbehind.cli import main
from lookbehind.lab import Store, execute
from lookbehind.lab.engines.torchrun import TOLD, Together
from tests.lab import together

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed package")


def torchrun(*arguments: object, processes: int = 2) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launcher, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_two_processes_train_what_one_would_and_go_on_after_a_kill(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(together.MODELS, "perceptron", together.Model(together.perceptron, "for tests"))
    killed = torchrun("-m", "tests.lab.together", tmp_path / "two", 6)  # in the second epoch of the second run
    assert killed.returncode != 0
    two, one = Store(tmp_path / "two"), Store(tmp_path / "one")
    first, second, third = together.RUNS
    assert two.result(first) is not None
    assert (two.result(second), two.result(third)) == (None, None)
    assert len(two.checkpoint(second)["records"]) == 2
    done = torchrun("-m", "tests.lab.together", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    for run in together.RUNS:
        ours, theirs = two.result(run), execute(run, one, (together.NOISE,))
        for a, b in zip(ours.records, theirs.records, strict=True):
            assert a.gradients == b.gradients
            assert a.loss == pytest.approx(b.loss, rel=1e-5)
            assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-5)
            assert a.alpha == (None if b.alpha is None else pytest.approx(b.alpha, rel=1e-4))
            assert (a.validation, a.test) == (b.validation, b.test)
        weights = one.weights(run)
        for name, weight in two.weights(run).items():
            torch.testing.assert_close(weight, weights[name], rtol=1e-5, atol=1e-6)
        assert two.measured(run, together.NOISE) == one.measured(run, together.NOISE)
    environments = two.result(second).environments  # one process has died, and another pair has gone on
    assert {e["after"] for e in environments} == {0}


def test_the_first_process_does_all_that_touches_files() -> None:
    """A method of ``Store`` that nobody shares would let every process write."""
    public = {name for name in vars(Store) if not name.startswith("_")}
    own = {name for name in vars(Together) if not name.startswith("_")}
    assert public - own - set(TOLD) == {"folder", "say"}


def test_minibatches_that_cannot_be_divided(tmp_path: Path) -> None:
    ended = torchrun("-m", "tests.lab.together", tmp_path, processes=3)
    assert ended.returncode != 0
    assert "minibatches of 16 cannot be divided evenly over 3 processes" in ended.stderr
    failed = Store(tmp_path).failure(together.RUNS[0])
    assert "cannot be divided" in failed


def test_the_command_line(tmp_path: Path, capsys) -> None:
    command = ["run", "figure12", "--scale", "smoke", "--engine", "torchrun", "--store", tmp_path]
    ran = torchrun("-m", "lookbehind.cli", *command)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("All runs of figure12") == 1  # the first process speaks
    logs = [path.read_text().splitlines() for path in tmp_path.glob("runs/*/log.jsonl")]
    assert logs
    assert all([json.loads(line)["epoch"] for line in log] == [1, 2] for log in logs)
    assert main([*map(str, command)]) == 2
    assert "torchrun --nproc-per-node 2" in capsys.readouterr().err
