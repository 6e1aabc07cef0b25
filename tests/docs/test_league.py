"""The league's page, pictures and sentences are what the archive's results give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, ROOT, script


@pytest.fixture(scope="module")
def league() -> Any:
    return script("league")


def test_every_number_is_the_archive_s(league: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written anew into another folder, nothing differs."""
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    for name in ("README.md", "docs/which-method.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.setattr(league, "FOLDER", tmp_path / "docs")
    league.main(DOCS / "results" / "league.xz")
    for name in ("README.md", "docs/which-method.md", "docs/league.md"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), f"python docs/league.py writes {name} anew"
    for path in (tmp_path / "docs" / "pictures").glob("*.svg"):  # fonts differ; who is first does not
        first, second = (
            re.findall(r">([A-Z][^<>]*)</text>", file.read_text()) for file in (path, DOCS / "pictures" / path.name)
        )
        assert sorted(first) == sorted(second)
        assert len(first) > 2


def test_the_sentences_by_hand(league: Any) -> None:
    """The first sentence of the README, from the numbers of single runs."""
    from lookbehind.lab import Archive
    from lookbehind.league.entrants import ENTRANTS

    [at, *_] = league.boards_of(Archive(DOCS / "results" / "league.xz"))
    means = {}
    for name, entrant in ENTRANTS.items():
        if not entrant.stops_early:
            winner = at.accuracy(entrant, 1.0).winner
            tests = [at.results.result(run).records[-1].test for run in winner.runs]
            means[name] = sum(tests) / len(tests)
            assert [run.seed for run in winner.runs] == [0, 1, 2, 3, 4]
    best = max(means, key=means.__getitem__)
    text = (ROOT / "README.md").read_text().split("<!-- league -->\n")[1]
    sentence = text.split(f"- {at.task.name}. 1 ×: ")[1].split(", ")[0]
    assert best in sentence
    assert f"{means[best]:.2f} ± " in sentence
