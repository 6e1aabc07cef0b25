"""`lookbehind list`, `show`, `run` and `report`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lookbehind.cli import main
from lookbehind.data import DATASETS
from lookbehind.lab import Store
from lookbehind.lab.report import read, tasks_now
from lookbehind.models import MODELS
from lookbehind.paper import ITEMS


def test_list_names_every_item_and_scale(capsys) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*ITEMS, "smoke", "cpu", "paper"])


def test_models_and_data_sets_are_listed(capsys) -> None:
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*MODELS, *DATASETS])


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A store with Table 5 at scale smoke, made by the command."""
    store = tmp_path_factory.mktemp("lab") / "store"
    assert main(["run", "table5", "--scale", "smoke", "--store", str(store), "--processes", "2"]) == 0
    return store


def test_run_does_what_show_says_is_left(done: Path, tmp_path: Path, capsys) -> None:
    parts = ITEMS["table5"].at("smoke").parts
    store = Store(done)
    assert all(store.complete(run, measurements) for run, measurements in tasks_now(parts, store))
    assert main(["show", "table5", "--scale", "smoke", "--store", str(done)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "table5" in line)
    runs = len(tasks_now(parts, store))
    assert row.split()[1:3] == [str(runs), str(runs)]
    assert row.split()[-2:] == ["0", "s"]
    assert main(["show", "all", "--scale", "smoke", "--store", str(tmp_path / "none")]) == 0
    assert "together" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_what_is_done_is_not_done_again(done: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("result.json")}
    assert main(["run", "table5", "--scale", "smoke", "--store", str(done)]) == 0
    assert {path: path.stat().st_mtime_ns for path in done.rglob("result.json")} == before
    assert "All runs of table5 at scale smoke are in" in capsys.readouterr().out


def test_report_shows_the_store_s_numbers(done: Path, tmp_path: Path) -> None:
    assert main(["report", "table5", "--scale", "smoke", "--store", str(done), "--output", str(tmp_path)]) == 0
    page = (tmp_path / "table5.html").read_text()
    assert (tmp_path / "index.html").exists()
    values = [value for row in read(ITEMS["table5"].at("smoke").parts[0], Store(done)).values for value in row if value]
    assert len(values) >= 2
    assert all(value.text() in page for value in values)


def test_report_says_that_there_is_no_store(tmp_path: Path, capsys) -> None:
    command = ["report", "table5", "--scale", "smoke", "--output", str(tmp_path / "report"), "--store"]
    assert main([*command, str(tmp_path / "nowhere")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "There is no store at" in said
    assert not (tmp_path / "nowhere").exists()
    assert main([*command, str(tmp_path)]) == 0
    assert "There is no store at" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "table99"], "item 'table99' is unknown; there are all, table1"),
        (["show"], "no item is named"),
        (["run", "table5", "--processes", "0"], "--processes is 0"),
        (["run", "table5", "--device", "abacus"], "--device is 'abacus'"),
        (["run", "table5", "--scale", "smoke", "--store", "/dev/null/x"], "cannot be used (Not a directory)"),
        (["show", "table5", "--store", "/dev/null/x"], "cannot be used (Not a directory)"),
        (["report", "table5", "--scale", "smoke", "--output", "/dev/null/x"], "/dev/null/x cannot be written"),
        (["run", "table5", "--scale", "paper", "--store", "store"], "CIFAR-10 is missing from"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, monkeypatch, capsys, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "LOOKBEHIND_DATA", str(tmp_path))
    monkeypatch.setattr("lookbehind.data.download._fetch", _no_network)
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("lookbehind: ")
    assert words in errors
    assert len(errors.strip().splitlines()) == 1


def _no_network(*_: object) -> None:
    raise OSError("no network in this test")
