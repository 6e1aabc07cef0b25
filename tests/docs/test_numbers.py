"""The tables of which-method.md, comparison.md and the pages of methods are those of the comparison's own file."""

from __future__ import annotations

import json
import math
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
def test_pages_of_methods_have_their_own_row(page: str, method: str) -> None:
    text = (DOCS / "algorithms" / f"{page}.md").read_text()
    values = rows_of(SAVED["runs"], "noisy").by_method[method]
    assert f"| {METHODS[method].label} | {values[TEST].text()} | {values[NOISY].text()} |" in text


def test_the_longer_step_has_about_three_quarters_of_the_gain() -> None:
    """As several pages say: of the logarithm of sharpness, at a training loss of 1.1."""
    page = (DOCS / "algorithms" / "lookbehind.md").read_text()
    sam, longer, lookbehind = (
        math.log(float(re.search(rf"^\| {name} \| (0\.\d\d) \|", page, re.M)[1]))  # type: ignore[index]
        for name in ("SAM", "SAM at rate α·k·η", "Lookbehind-SAM")
    )
    assert (sam - longer) / (sam - lookbehind) == pytest.approx(0.75, abs=0.07)
