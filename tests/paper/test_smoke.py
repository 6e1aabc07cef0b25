"""Every item, trained at scale smoke by the command line, and reported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from lookbehind.cli import main
from lookbehind.lab import Store
from lookbehind.lab.export import to_csv
from lookbehind.lab.lookup import remembered
from lookbehind.lab.report import read
from lookbehind.paper import ITEMS


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.skipif(find_spec("sacrebleu") is None, reason="Table 4 needs the extra text")
def test_all_items_are_trained_and_every_cell_has_its_number(tmp_path: Path, capsys) -> None:
    store = tmp_path / "store"
    assert main(["run", "all", "--scale", "smoke", "--store", str(store), "--processes", "2"]) == 0
    assert "All runs of table1, table2, " in capsys.readouterr().out
    results = remembered(Store(store))
    for name, item in ITEMS.items():
        for part in item.at("smoke").parts:
            values = [value for row in read(part, results).values for value in row if value is not None]
            ours = [value for value in values if value.settings]  # others stand for published numbers alone
            assert all(value.open == 0 and not value.waiting for value in values), (name, part.title)
            assert not [value for value in ours if value.mean is None and not value.states.get("diverged")], part.title
    pages = tmp_path / "pages"
    assert main(["report", "all", "--scale", "smoke", "--store", str(store), "--output", str(pages)]) == 0
    pages /= "smoke"
    assert {f"{name}.html" for name in ITEMS} | {"index.html"} == {path.name for path in pages.glob("*.html")}
    # A table of streams of tasks: accuracy and forgetting within reason, and the paper's numbers on its page.
    lifelong = read(ITEMS["table2"].at("smoke").parts[0], results)
    for values in lifelong.values:
        assert 40 < values[0].mean <= 100
        assert -30 < values[1].mean < 60
    assert "ER + Lookbehind-SAM" in to_csv(lifelong)
    page = (pages / "table2.html").read_text()
    assert page.count("<svg") >= 5  # curves and four matrices
    assert all(number in page for number in ("58.41", "12.37"))
