"""The tables of which-method.md and comparison.md are those of the comparison's own file, and pages quote them."""

from __future__ import annotations

import json
import re

import pytest

from lookbehind.compare import METHODS
from lookbehind.compare.items import GRADIENTS, LOSS, NOISY, TEST
from lookbehind.compare.report import verdict
from tests.compare.saved import rows_of
from tests.docs.pages import DOCS

SAVED = json.loads((DOCS / "results" / "compare" / "compare.json").read_text())
PAGE = (DOCS / "which-method.md").read_text()
PAGE += (DOCS / "comparison.md").read_text()


@pytest.mark.parametrize("labels", ["noisy", "clean"])
def test_tables(labels: str) -> None:
    rows = rows_of(SAVED["runs"], labels)
    for method, values in rows.by_method.items():
        at = LOSS + 1 + rows.comparison.radii.index(0.2)
        numbers = [
            *(values[i].text() for i in (TEST, NOISY, LOSS, at)),
            f"{rows.gradients(method)}" + (" =" if method in rows.equal_cost() else ""),
        ]
        assert f"{METHODS[method].label} | {' | '.join(numbers)} |" in PAGE
        assert rows.gradients(method) == values[GRADIENTS].mean
    assert verdict(rows) == SAVED["verdicts"][labels]


def test_differences() -> None:
    rows = rows_of(SAVED["runs"], "noisy")
    for method in set(rows.by_method) - {"sam"}:
        assert f"{METHODS[method].label} | {rows.against(method, 'sam')} |" in PAGE


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
    own = rows_of(SAVED["runs"], "noisy").by_method[method][TEST].text().split(" ±")[0]
    assert quoted[0] == own
    assert all(f"| {number} ±" in PAGE for number in quoted)
