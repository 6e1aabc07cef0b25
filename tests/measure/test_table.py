"""The page's table of measurements by kinds of models and data says what happens, cell by cell."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lookbehind.measure
from lookbehind.measure import noisy_accuracy, quantised_accuracy, suggest_rho
from tests.measure.test_any_model import LOSS, Keyword, classifier, forms

PAGE = Path(__file__).parent.parent.parent / "docs" / "measure-definitions.md"
HEAD, _, *ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and line.count("|") == 11]
KINDS = [cell.strip() for cell in HEAD.split("|")[2:-1]]
CELLS = [
    (row.split("|")[1].strip(" `"), kind, cell.strip(" `"))
    for row in ROWS
    for kind, cell in zip(KINDS, row.split("|")[2:-1], strict=True)
]


def case(kind: str) -> tuple[nn.Module, Any, list[Any]]:
    """Return a model, its loss and minibatches of a kind that the page's table has."""
    model, data = classifier()
    binary = nn.functional.binary_cross_entropy_with_logits
    one = nn.Sequential(model, nn.Linear(3, 1))
    pixels = [(torch.randn(4, 1, 3, 3), torch.randint(3, (4, 3, 3))) for _ in range(2)]
    found: dict[str, tuple[nn.Module, Any, list[Any]]] = {
        "class numbers": (model, LOSS, data),
        "… of each pixel": (nn.Conv2d(1, 3, 1), LOSS, pixels),
        "one logit": (one, binary, [(x, (y[:, None] > 0).float()) for x, y in data]),
        "one-hot": (model, LOSS, [(x, nn.functional.one_hot(y, 3).float()) for x, y in data]),
        "regression": (one, nn.functional.mse_loss, [(x, x[:, :1]) for x, y in data]),
        "dicts": (Keyword(model), None, [{"pixels": x, "labels": y} for x, y in data]),
        "two inputs": forms(model, data)["two inputs"],
        "an iterator": (model, LOSS, data),
        "no parameter": (nn.Flatten(), LOSS, data),
    }
    return found[kind]


@pytest.mark.parametrize(("function", "kind", "cell"), CELLS)
def test_the_table_of_the_page(function: str, kind: str, cell: str) -> None:
    model, loss, data = case(kind)
    given: Any = iter(data * 9) if kind == "an iterator" else data
    sgd = partial(torch.optim.SGD, lr=0.01)

    def measured(**options: Any) -> Any:
        if function == "noisy_accuracy":
            return noisy_accuracy(model, given, data, [0.1], draws=1, **options)
        if function == "quantised_accuracy":
            return quantised_accuracy(model, given, **options)
        if function == "suggest_rho":
            return suggest_rho(model, loss, given, data, sgd, rhos=[0, 0.1, 0.2], steps=2, **options)
        more = {"m_sharpness": {"radii": [0.1]}, "spectral_density": {"steps": 2}}.get(function, {})
        return getattr(lookbehind.measure, function)(model, loss, given, **more)

    if cell in ("refused", "score="):
        with pytest.raises(
            ValueError, match="pass score=" if cell == "score=" else "no parameter|iterator|empty parameter"
        ):
            measured()
    if cell == "score=":
        measured(score=lambda out, y: -(out - y).square()[:, 0])
    if cell in ("yes", "loss=None"):
        assert (loss is None) is (kind == "dicts")
        measured()
