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
    """The first sentence of the README, and the first board, from the numbers of single runs."""
    from lookbehind.lab import Archive
    from lookbehind.league.entrants import ENTRANTS

    [at, *_] = league.boards_of(Archive(DOCS / "results" / "league.xz"))
    means = {}
    for name, entrant in ENTRANTS.items():
        if not entrant.stops_early:
            winner = at.accuracy(entrant, 2.0).winner
            tests = [at.results.result(run).records[-1].test for run in winner.runs]
            means[name] = sum(tests) / len(tests)
            assert [run.seed for run in winner.runs] == [0, 1, 2, 3, 4]
    best = max(means, key=means.__getitem__)
    text = (ROOT / "README.md").read_text().split("<!-- league -->\n")[1]
    sentence = text.split(f"- {at.task.name}: ")[1].splitlines()[0]
    assert sentence.startswith(f"{best} +{means[best] - means['SGD']:.2f} [")
    assert f"]; SAM +{means['SAM'] - means['SGD']:.2f} [" in sentence
    row = (DOCS / "league.md").read_text().split(f"## {at.task.name}\n")[1].split(f"**{best}** | ")[1]
    assert f"{means[best]:.2f} ± " in row.splitlines()[0]


def test_an_answer_by_hand(league: Any) -> None:
    """A paired difference from the numbers of single runs, with Student's t at four degrees of freedom."""
    import statistics

    from lookbehind.lab import Archive
    from lookbehind.league.entrants import ENTRANTS

    [at, *_] = league.boards_of(Archive(DOCS / "results" / "league.xz"))
    tests = [
        [at.results.result(run).records[-1].test for run in at.accuracy(ENTRANTS[name], 1.0).winner.runs]
        for name in ("Climb while accumulating", "Momentum-SAM")
    ]
    gaps = [ours - theirs for ours, theirs in zip(*tests, strict=True)]
    mean, half = statistics.fmean(gaps), 2.7764451 * statistics.stdev(gaps) / 5**0.5
    said = f"{at.task.name} {mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]".replace("-", "\u2212")
    page = (DOCS / "league.md").read_text()
    assert said in page.split("earn its place beside Momentum-SAM?**")[1].splitlines()[0]


def test_each_call_builds_what_the_lab_builds(league: Any) -> None:
    """The page's calls, run as a user would write them."""
    import torch

    import lookbehind
    from lookbehind.lab.build import optimizer_of
    from lookbehind.league import rivals
    from lookbehind.league.entrants import ENTRANTS
    from lookbehind.league.tasks import tasks

    known = {**vars(rivals), **{name: getattr(lookbehind, name) for name in lookbehind.__all__}}
    page = (DOCS / "league.md").read_text()
    workload = tasks("cpu")["texts-noisy"].workload
    for name, entrant in ENTRANTS.items():
        [call] = re.findall(rf"^\| {re.escape(name)} \| `(.*)` \|$", page, re.MULTILINE)
        model = torch.nn.Linear(2, 1)
        base = torch.optim.AdamW(model.parameters(), lr=0.1)
        made = eval(call, known, {"base": base, "model": model, "steps": 8})
        [first] = entrant.candidates(workload, (0,), 1.0, 1)
        model = torch.nn.Linear(2, 1)
        base = torch.optim.AdamW(model.parameters(), lr=0.1)
        expected = optimizer_of(first.runs[0].method, base, model, lambda: 8)
        assert type(made) is type(expected), name
        assert settings(made) == settings(expected), name
        if isinstance(made, rivals.Averaged):
            assert [made.share(t) for t in range(9)] == [expected.share(t) for t in range(9)]
            assert made.first == expected.first


def settings(optimizer: Any) -> list[dict[str, Any]]:
    """Return all numbers of the groups, and the words of the optimizer and of those that it wraps."""
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    while True:
        groups.append({k: v for k, v in vars(optimizer).items() if isinstance(v, str | float | int)})
        if not hasattr(optimizer, "base"):
            return groups
        optimizer = optimizer.base


def test_a_board_of_a_stream_and_of_texts(league: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are made up: forgetting is told where there are tasks, and ranks only of what is measured."""
    from dataclasses import replace

    from lookbehind.lab.cell import Candidate, Value
    from lookbehind.league.entrants import ENTRANTS
    from lookbehind.league.tasks import tasks

    order = list(ENTRANTS.values())

    def value(self: Any, entrant: Any, metric: Any, budget: float) -> Value:
        """The first entrants have the largest numbers, and with them the most forgetting."""
        number = 90.0 - order.index(entrant) + budget
        by_seed = {seed: number + 0.1 * seed for seed in range(3)}
        return Value(mean=number, std=0.1, n=3, by_seed=by_seed, winner=Candidate("ρ=1", ()))

    monkeypatch.setattr(league.Board, "value", value)
    monkeypatch.setattr(league, "FOLDER", tmp_path)
    (tmp_path / "pictures").mkdir()
    boards = [league.Board(name, tasks("cpu")[name], None) for name in ("digits-noisy", "texts-noisy", "stream")]
    boards = [replace(at, task=replace(at.task, budgets=(1.0, 2.0))) for at in boards]
    digits, texts, stream = map(league.board, boards)
    assert "| **AdamW** |" in texts
    assert "SGD" not in texts
    assert "λ₁" in digits
    assert "λ₁" not in texts
    assert "forgetting, 1 ×" in stream
    assert "Climb while accumulating" not in stream
    least = stream.split("forgetting, 2 × | seconds |\n")[1].splitlines()[1]
    assert least.startswith("| Lookbehind, k = 2, adaptive α |")
    assert league.bars(boards).count("noisy weights") == 2
    assert league.bars(boards).count("accuracy: against") == 3
    overall = league.over_all(boards)
    assert "accuracy, 1 × (3 tasks) | noisy weights, 1 × (2 tasks)" in overall
    assert "| SGD | 1.0 (1–1) | 1.0 (1–1) |" in overall
    assert any("AdamW" in line for line in league.decisions(boards))
    assert "AdamW first" in league.front(boards)
    for at in boards:
        league.draw(at)
    assert "forgetting (%)" in (tmp_path / "pictures" / "league-stream.svg").read_text()
