"""The tables of which-method.md and comparison.md are those of the comparison's own file, and pages quote them."""

from __future__ import annotations

import json
import re

import pytest

from lookbehind.compare.report import Rows, spread
from lookbehind.compare.runs import METHODS, Result, Run
from tests.docs.pages import DOCS

SAVED = json.loads((DOCS / "results" / "compare" / "compare.json").read_text())
FINISHED = [(Run.model_validate(one["run"]), Result.model_validate(one["result"])) for one in SAVED["runs"]]
PAGE = (DOCS / "which-method.md").read_text()
PAGE += (DOCS / "comparison.md").read_text()


@pytest.mark.parametrize("labels", ["noisy", "clean"])
def test_tables(labels: str) -> None:
    rows = Rows(FINISHED, labels)  # type: ignore[arg-type]
    for method, runs in rows.by_method.items():
        i = runs[0][0].radii.index(0.2)
        numbers = [
            spread(rows.values(method, lambda x: x.test_accuracy)),
            spread(rows.values(method, lambda x: x.noisy_accuracy)),
            spread(rows.values(method, lambda x: x.train_loss), 3),
            spread(rows.values(method, lambda x, i=i: x.sharpness[i]), 3),  # type: ignore[misc]
            f"{rows.gradients(method)}" + (" =" if method in rows.equal_cost() else ""),
        ]
        assert f"{METHODS[method].label} | {' | '.join(numbers)} |" in PAGE


def test_differences() -> None:
    rows = Rows(FINISHED, "noisy")
    for method in set(rows.by_method) - {"sam"}:
        difference = str(rows.against(method, "sam")).replace("-", "−")
        assert f"{METHODS[method].label} | {difference} |" in PAGE


@pytest.mark.parametrize(
    ("page", "method"),
    [
        ("sam", "sam"),
        ("multistep-sam", "multistep"),
        ("lookahead", "lookahead"),
        ("lookbehind", "lookbehind"),
        ("adaptive-alpha", "lookbehind-adaptive"),
    ],
)
def test_pages_quote_their_own_number_and_no_other_than_the_table_has(page: str, method: str) -> None:
    """Accuracies in % with two decimals, in what we measured."""
    ours = (DOCS / "algorithms" / f"{page}.md").read_text().split("## What we measured")[1]
    quoted = re.findall(r"\b(\d\d\.\d\d) %", ours)
    own = spread(Rows(FINISHED, "noisy").values(method, lambda x: x.test_accuracy)).split(" ±")[0]
    assert quoted[0] == own
    assert all(f"| {number} ±" in PAGE for number in quoted)
