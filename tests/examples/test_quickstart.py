"""The notebook runs, and what it shows is what its code gives."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tests.docs.printed import NUMBER, ahead
from tests.examples.running import EXAMPLES

NOTEBOOK = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def text(cell: dict[str, Any]) -> str:
    """Return what a cell printed: in a file a list of lines, from a run one string."""
    return "".join("".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream")


def pictures(cell: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode("".join(out["data"]["image/png"])) for out in cell["outputs"] if "data" in out]


def test_the_first_cell_installs_in_one_line() -> None:
    assert "".join(CODE[0]["source"]) == '%pip install -q "..[lab]"'
    assert not any("pip install" in "".join(cell["source"]) for cell in CODE[1:])


def test_what_is_stored_reads_well() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) >= (4, 5)
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert "error" not in {out["output_type"] for cell in CODE for out in cell["outputs"]}
    drawn = [picture for cell in CODE for picture in pictures(cell)]
    assert len(drawn) == 2
    assert all(picture.startswith(b"\x89PNG") and 2_000 < len(picture) < 100_000 for picture in drawn)
    assert max(len(line) for cell in CODE for line in "".join(cell["source"]).splitlines()) <= 110
    ahead("".join(map(text, CODE)))
    paths = re.findall("/(?:home|root|tmp|work|Users)/", json.dumps(NOTEBOOK))
    assert paths == []


@pytest.mark.timeout(600)
def test_it_runs_and_comes_to_what_is_stored(tmp_path: Path) -> None:
    """Same cells, same words, as many pictures, the same inequality. Digits may differ."""
    for needed in ("nbclient", "ipykernel"):
        pytest.importorskip(needed, reason='the notebook needs pip install ".[dev]"')
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "docs" / "pictures" / "quickstart.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    notebook = script.executed(tmp_path)
    ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in ran] == ["".join(cell["source"]) for cell in CODE]
    for cell, stored in zip(ran, CODE, strict=True):
        assert NUMBER.sub("0", text(cell)) == NUMBER.sub("0", text(stored))
        assert len(pictures(cell)) == len(pictures(stored))
    ahead("".join(map(text, ran)))
    assert list(tmp_path.iterdir()) == []
