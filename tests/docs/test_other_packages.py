"""The README's table about another package's SAM: each line is an experiment, run here for this package.

For the other package too where it is installed: pip install -e ".[bench]".
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest

from tests.docs.pages import ROOT

INSTALLED = importlib.util.find_spec("pytorch_optimizer") is not None
# Experiment: what comes out theirs and ours, and the README's words for both.
LINES = {
    "ordinary_closure": (
        "1 gradient(s); the first step is plain SGD's",
        "2 gradient(s); the first step is SAM's",
        "| an ordinary closure | its first step is plain SGD's; no error | SAM's step |",
    ),
    "grad_scaler": (
        "the step is 1024 times the unscaled one",
        "the step is 1 times the unscaled one",
        "| `GradScaler` at scale 1024 | 1024 times too long; no error | right: ",
    ),
    "batch_norm": (
        "2 minibatch(es) tracked for one",
        "1 minibatch(es) tracked for one",
        "| BatchNorm | one minibatch counts twice | once, with `model=model` |",
    ),
    "failing_closure": (
        "weights are off by 0.50",
        "weights are off by 0.00",
        "| the closure raises, or Ctrl-C | the weights stay perturbed | the weights of before the step |",
    ),
    "loss_returned": ("NoneType", "Tensor", "| what `step` returns | `None` | the loss |"),
    "deepcopy": (
        "AttributeError: 'SAM' object has no attribute 'perturb_eps'",
        "a copy steps",
        "| `deepcopy` | `AttributeError` at the next step | a copy that steps |",
    ),
}


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not INSTALLED:
        monkeypatch.setitem(sys.modules, "pytorch_optimizer", ModuleType("pytorch_optimizer"))
    monkeypatch.delitem(sys.modules, "benchmarks.other_packages", raising=False)
    return importlib.import_module("benchmarks.other_packages")


@pytest.mark.filterwarnings("ignore:no parameter has a gradient")
@pytest.mark.parametrize("name", LINES)
def test_a_line_of_the_table(experiments: ModuleType, name: str) -> None:
    theirs, ours, words = LINES[name]
    assert words in (ROOT / "README.md").read_text()
    assert getattr(experiments, name)(True) == ours
    if INSTALLED:
        assert getattr(experiments, name)(False) == theirs


def test_the_table_has_no_other_line() -> None:
    table = (ROOT / "README.md").read_text().partition("| | pytorch_optimizer 4.1.0 | here |")[2].partition("\n\n")[0]
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == len(LINES)
