"""`lookbehind measure` on saved models."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lookbehind import ASAM, checkpoint
from lookbehind.cli import main
from lookbehind.data import load
from lookbehind.measure import (
    hessian_trace,
    loss_slice,
    m_sharpness,
    noisy_accuracy,
    quantised_accuracy,
    suggest_rho,
    top_eigenvalues,
)
from lookbehind.models import build
from lookbehind.training import train


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A folder with the same trained net as safetensors, as a state_dict and within a checkpoint."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    data, model = load("digits"), build("convnet", channels=1)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), *data.train.tensors(), epochs=3)
    torch.save(model.state_dict(), folder / "plain.pt")
    save_file(model.state_dict(), folder / "net.safetensors")
    checkpoint.save(folder / "last.pt", {"model": model.state_dict(), "step": 3})
    (folder / "mine.py").write_text("from lookbehind.models import ConvNet\n\n\ndef net():\n    return ConvNet()\n")
    return folder


def net(saved: Path) -> torch.nn.Module:
    model = build("convnet", channels=1)
    model.load_state_dict(torch.load(saved / "plain.pt", weights_only=True))
    return model


@pytest.mark.parametrize("name", ["plain.pt", "net.safetensors", "last.pt"])
def test_sharpness_equals_the_function_for_each_kind_of_file(saved: Path, tmp_path: Path, name: str, capsys) -> None:
    arguments = ["sharpness", str(saved / name), "--radius", "0.2", "0.05", "--batch", "100", "--output", str(tmp_path)]
    assert main(["measure", *arguments]) == 0
    batches = load("digits").train.minibatches(100)
    expected = m_sharpness(net(saved), torch.nn.functional.cross_entropy, batches, [0.05, 0.2])
    result = json.loads((tmp_path / "sharpness.json").read_text())["result"]
    assert result["values"] == pytest.approx(expected.values)
    assert result["m"] == 100
    assert (tmp_path / "sharpness.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "sharpness.svg").read_text()
    assert "100-sharpness" in capsys.readouterr().out


def test_noise_equals_the_function_also_for_a_model_of_the_user_s(saved: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(saved)
    options = ["--sigma", "0.4", "--draws", "2", "--model", "mine:net", "--output", str(tmp_path)]
    assert main(["measure", "noise", "plain.pt", *options]) == 0
    data = load("digits")
    expected = noisy_accuracy(net(saved), data.train.minibatches(128), data.test.minibatches(128), [0.4], draws=2)
    assert json.loads((tmp_path / "noise.json").read_text())["result"]["accuracies"] == [list(expected.accuracies[0])]


def test_rho_equals_the_function(saved: Path, tmp_path: Path, capsys) -> None:
    options = ["--steps", "3", "--repeats", "1", "--batch", "200", "--lr", "0.05", "--method", "asam"]
    assert main(["measure", "rho", str(saved / "plain.pt"), *options, "--output", str(tmp_path)]) == 0
    data = load("digits")
    expected = suggest_rho(
        net(saved),
        torch.nn.functional.cross_entropy,
        list(data.train.minibatches(200)),
        list(data.validation.minibatches(200)),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4),
        optimizer=ASAM,
        steps=3,
        repeats=1,
    )
    assert json.loads((tmp_path / "rho.json").read_text())["result"]["scores"] == pytest.approx(list(expected.scores))
    capsys.readouterr()
    assert main(["measure", "rho", str(saved / "plain.pt"), "--method", "gsamm"]) == 2
    assert "--method is 'gsamm'; did you mean gsam? Allowed are sam, asam, " in capsys.readouterr().err


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict"])
def test_weights_within_a_checkpoint(saved: Path, tmp_path: Path, key: str) -> None:
    torch.save({key: net(saved).state_dict(), "epoch": 3}, tmp_path / "whole.pt")
    for file in (saved / "plain.pt", tmp_path / "whole.pt"):
        assert main(["measure", "quantisation", str(file), "--bits", "4", "--output", str(tmp_path / file.stem)]) == 0
    one, other = (json.loads((tmp_path / name / "quantisation.json").read_text()) for name in ("plain", "whole"))
    assert one["result"] == other["result"]


def test_spectrum_slice_and_quantisation_equal_the_functions(saved: Path, tmp_path: Path) -> None:
    options = [str(saved / "plain.pt"), "--output", str(tmp_path)]
    few = ["--images", "100", "--batch", "50"]
    assert main(["measure", "spectrum", *options, *few, "--top", "2", "--draws", "4", "--probes", "2"]) == 0
    assert main(["measure", "slice", *options, *few, "--direction", "random", "sam", "--points", "3"]) == 0
    assert main(["measure", "quantisation", *options, "--bits", "4", "2"]) == 0

    def result(name: str):
        assert (tmp_path / f"{name}.svg").exists()
        return json.loads((tmp_path / f"{name}.json").read_text())["result"]

    data, loss = load("digits"), torch.nn.functional.cross_entropy
    batches = list(islice(data.train.minibatches(50), 2))
    assert result("eigenvalues")["values"] == list(top_eigenvalues(net(saved), loss, batches, top=2).values)
    assert result("trace")["trace"] == hessian_trace(net(saved), loss, batches, draws=4).trace
    assert len(result("density")["nodes"]) == 2
    expected = loss_slice(net(saved), loss, batches, ("random", "sam"), points=3)
    assert result("slice")["losses"] == [list(row) for row in expected.losses]
    rounded = quantised_accuracy(net(saved), data.test.minibatches(128), bits=(4, 2))
    assert result("quantisation")["per_channel"] == list(rounded.per_channel)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.pt"], "there is no file missing.pt"),
        (["plain.pt", "--model", "vgg"], "--model is 'vgg'; allowed are convnet"),
        (
            ["plain.pt", "--model", "nowhere:net"],
            "--model is 'nowhere:net', which cannot be imported (ModuleNotFoundError",
        ),
        (["plain.pt", "--model", "resnet8"], "plain.pt does not fit the model"),
        (["plain.pt", "--data", "mnist"], "--data is 'mnist'; allowed are digits"),
        (["plain.pt", "--batch", "0"], "--batch is 0"),
        (["plain.pt", "--radius", "-1"], "--radius is -1"),
        (["plain.pt", "--device", "abacus"], "--device is 'abacus'"),
        (["plain.pt", "--output", "/dev/null/x"], "/dev/null/x cannot be written"),
        (["mine.py"], "mine.py is truncated, or no file of torch.save"),
        (["broken.safetensors"], "broken.safetensors does not fit the model"),
        (["other.pt"], "it holds weights, epoch"),
        (["."], ". is a folder"),
    ],
)
def test_mistakes_are_one_sentence(saved: Path, monkeypatch, capsys, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(saved)
    Path("broken.safetensors").write_bytes(b"nothing")
    torch.save({"weights": {}, "epoch": 3}, "other.pt")
    assert main(["measure", "sharpness", *arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("lookbehind: ")
    assert words in errors
    assert len(errors.strip().splitlines()) == 1
