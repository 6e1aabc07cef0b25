"""What the pictures of docs/algorithms show is what the paper's equations say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lookbehind import SAM, Lookbehind, MultistepSAM
from tests.docs.pages import DOCS

START, RHO, ETA = np.array([-1.7, -0.12]), 0.45, 0.6


@pytest.fixture(scope="module")
def recording() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recording", DOCS / "pictures" / "recording.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["recording"] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


def gradient(w: np.ndarray) -> np.ndarray:
    """Of the valley 0.1 x² + 0.8 y²."""
    return np.array([0.2, 1.6]) * w


def climbed(w: np.ndarray, k: int) -> list[np.ndarray]:
    points = [w]
    for _ in range(k):
        g = gradient(points[-1])
        points.append(points[-1] + RHO * g / np.sqrt((g**2).sum()))
    return points


def test_sam(recording: ModuleType) -> None:
    [step] = recording.record(lambda base: SAM(base, rho=RHO), tuple(START), lr=ETA)
    path = climbed(START, 1)
    np.testing.assert_allclose(step.gradients, path, atol=1e-12)
    np.testing.assert_allclose(step.end, START - ETA * gradient(path[1]), atol=1e-12)


def test_multistep(recording: ModuleType) -> None:
    [step] = recording.record(lambda base: MultistepSAM(base, rho=RHO, k=3), tuple(START), lr=ETA)
    path = climbed(START, 3)
    np.testing.assert_allclose(step.gradients, path, atol=1e-12)
    np.testing.assert_allclose(step.end, START - ETA * gradient(path[3]), atol=1e-12)


def test_lookbehind(recording: ModuleType) -> None:
    [step, following] = recording.record(lambda base: Lookbehind(base, rho=RHO, k=2, alpha=0.5), tuple(START), 2, ETA)
    path = climbed(START, 2)
    fast = [START - ETA * gradient(path[1]), START - ETA * (gradient(path[1]) + gradient(path[2]))]
    np.testing.assert_allclose(step.perturbed, path[1:], atol=1e-12)
    np.testing.assert_allclose(step.moved, fast, atol=1e-12)
    np.testing.assert_allclose(step.end, (START + fast[1]) / 2, atol=1e-12)
    assert following.start == step.end


def test_the_scripts_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    import paths

    monkeypatch.setattr(paths, "FOLDER", tmp_path)
    for draw in (paths.sam, paths.asam, paths.multistep, paths.lookahead, paths.lookbehind, paths.switching):
        draw()
    paths.adaptive("adaptive-alpha.svg", paths.valley)
    assert {p.name for p in tmp_path.iterdir()} <= {p.name for p in (DOCS / "pictures").iterdir()}
    assert len(list(tmp_path.iterdir())) == 7
