"""`lookbehind list`, `show`, `run` and `report`."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from lookbehind.cli import lab as commands
from lookbehind.cli import main
from lookbehind.cli.lab import _watch
from lookbehind.data import DATASETS
from lookbehind.lab import Event, Store
from lookbehind.lab.progress import Waiting
from lookbehind.lab.report import read, tasks_now
from lookbehind.models import MODELS
from lookbehind.paper import ITEMS


def test_list_names_every_item_and_scale(capsys) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*ITEMS, "smoke", "cpu", "paper"])


def listed() -> dict[str, str]:
    """Return the models and the data sets as `lookbehind models` stores them."""
    models = [("name", "what it is"), *((name, model.description) for name, model in MODELS.items())]
    datasets = [("name", "title", "sizes", "files")]
    for name, dataset in DATASETS.items():
        files = ", ".join(file.name for file in dataset.files) or "in scikit-learn" * (name == "digits") or "a folder"
        datasets.append((name, dataset.title, ", ".join(map(str, dataset.sizes)), files))
    texts = {}
    for name, rows in {"models": models, "datasets": datasets}.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        texts[name] = text.getvalue()
    return texts


def stored(name: str) -> Path:
    return Path(commands.__file__).with_name(f"{name}.csv")


def test_models_and_data_sets_are_listed(capsys) -> None:
    """As they are: ``python -m tests.cli.test_lab`` stores them anew."""
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*MODELS, *DATASETS])
    assert {name: stored(name).read_text() for name in listed()} == listed()


@pytest.fixture(scope="module")
def done(tmp_path_factory, forked_workers: None) -> Path:
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
    said = capsys.readouterr().out
    assert "together" in said
    assert f"There is no store at {tmp_path / 'none'}; --store names another." in said
    assert not (tmp_path / "none").exists()


def test_what_is_done_is_not_done_again(done: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("result.json")}
    assert main(["run", "table5", "--scale", "smoke", "--store", str(done)]) == 0
    assert {path: path.stat().st_mtime_ns for path in done.rglob("result.json")} == before
    assert "All runs of table5 at scale smoke are in" in capsys.readouterr().out


def test_a_suggested_command_can_be_pasted(done: Path, tmp_path: Path, capsys) -> None:
    store = str(tmp_path / "a store; of 'mine'")
    shutil.copytree(done, store)
    assert main(["run", "table5", "--scale", "smoke", "--store", store]) == 0
    suggested = capsys.readouterr().out.split("See: ")[1].strip()
    assert shlex.split(suggested) == ["lookbehind", "report", "table5", "--scale", "smoke", "--store", store]


def test_report_shows_the_store_s_numbers(done: Path, tmp_path: Path) -> None:
    assert main(["report", "table5", "--scale", "smoke", "--store", str(done), "--output", str(tmp_path)]) == 0
    page = (tmp_path / "smoke" / "table5.html").read_text()
    assert (tmp_path / "smoke" / "index.html").exists()
    values = [value for row in read(ITEMS["table5"].at("smoke").parts[0], Store(done)).values for value in row if value]
    assert len(values) >= 2
    assert all(value.text() in page for value in values)


def test_report_writes_no_page_without_a_number(done: Path, tmp_path: Path, capsys) -> None:
    def refused(*words: str) -> str:
        assert main(["report", *words, "--output", str(tmp_path / "report")]) == 2
        assert not (tmp_path / "report").exists()
        return capsys.readouterr().err

    nowhere = str(tmp_path / "nowhere")
    assert f"there is no store at {nowhere}; --store names another" in refused("table5", "--store", nowhere)
    said = refused("table5", "--store", str(done))
    assert f"no run of table5 at scale cpu is finished in {done}; --scale smoke has " in said
    (tmp_path / "empty").mkdir()
    said = refused("table5", "--scale", "smoke", "--store", str(tmp_path / "empty"))
    assert "lookbehind run table5 --scale smoke trains them" in said


def test_report_names_items_without_runs(done: Path, tmp_path: Path, capsys) -> None:
    words = ["--scale", "smoke", "--store", str(done)]
    assert main(["report", "table5", "table9", *words, "--output", str(tmp_path)]) == 0
    assert (
        "No run of table9 is finished, so the page has no numbers; "
        f"lookbehind run table5 table9 --scale smoke --store {done} trains them." in capsys.readouterr().out
    )
    assert main(["report", "table5", *words, "--output", str(tmp_path)]) == 0
    assert "No run of" not in capsys.readouterr().out


def test_a_log_has_lines_of_progress(tmp_path: Path, monkeypatch, capsys) -> None:
    """Of hundreds of runs each twentieth has a line, and each minute has one at the latest."""
    wanted = [(run, ()) for run, _ in tasks_now(ITEMS["table1"].at("cpu").parts, Store(tmp_path))]
    assert len(wanted) >= 40
    clock = [0.0]
    monkeypatch.setattr("lookbehind.cli.lab.time.monotonic", lambda: clock[0])
    with _watch(Console(width=150), wanted) as watch:
        for i, (run, _) in enumerate(wanted):
            for now in (100 * i + 30.0, 100 * i + 95.0):
                clock[0] = now
                watch.hear(Event("epoch", run, gradients=1))
            watch.hear(Event("done", run))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{len(wanted)} runs to do on ")
    assert lines[1].startswith(f"0 of {len(wanted)} runs, 0% of the gradients, after 2 min")
    assert len(lines) > len(wanted)
    assert lines[-1].startswith(f"{len(wanted)} of {len(wanted)} runs, 100% of the gradients, after ")


def test_a_bar_appears_where_it_takes_long_and_is_gone_at_the_end() -> None:
    for patience, shown in ((0.01, True), (60.0, False)):
        terminal = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lookbehind.lab.progress.PATIENCE", patience)
            with Waiting(Console(file=terminal, force_terminal=True, width=60), "reading") as waiting:
                waiting.expect(2)
                waiting.advance()
                time.sleep(0.3)
        assert ("reading" in terminal.getvalue()) is shown
    quiet = io.StringIO()
    with Waiting(Console(file=quiet), "reading"):
        pass
    assert quiet.getvalue() == ""


def test_an_index_keeps_the_pages_of_earlier_reports(done: Path, tmp_path: Path) -> None:
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "mine.html").write_text("<html><title>mine: A &lt; B</title></html>")
    (tmp_path / "smoke" / "notes.html").write_text("<html><title>Notes</title></html>")
    assert main(["report", "table5", "--scale", "smoke", "--store", str(done), "--output", str(tmp_path)]) == 0
    index = (tmp_path / "smoke" / "index.html").read_text()
    assert '<a href="mine.html">mine</a></th><td class="text">A &lt; B</td>' in index
    assert "notes.html" not in index
    assert "A smoke test: these are not results." in index


def test_an_archive_is_read_as_a_store(done: Path, tmp_path: Path, capsys) -> None:
    packed, again = tmp_path / "results.xz", tmp_path / "again.xz"
    assert main(["archive", str(done), str(packed)]) == 0
    assert main(["archive", str(done), str(again)]) == 0
    assert packed.read_bytes() == again.read_bytes()
    for store, folder in ((done, "a"), (packed, "b")):
        command = ["report", "table5", "--scale", "smoke", "--store", str(store), "--output", str(tmp_path / folder)]
        assert main(command) == 0
    for path in (tmp_path / "a" / "smoke").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "smoke" / path.name).read_bytes()
    assert main(["report", "table5", "--scale", "smoke", "--store", str(done), "--output", "/dev/null/x"]) == 2
    assert "/dev/null/x/smoke cannot be written" in capsys.readouterr().err
    packed.write_bytes(packed.read_bytes()[:-50])
    for words, sentence in [
        (["run", "table5", "--store", str(again)], "runs are trained into a folder, and an archive is only read"),
        (["report", "table5", "--store", str(packed)], "is damaged, or no archive of results"),
        (["report", "table5", "--store", str(tmp_path / "x.xz")], "and there is no such file"),
        (["archive", str(done), str(tmp_path / "results")], "a name that ends in .xz is needed"),
        (["archive", str(tmp_path / "nowhere"), str(again)], "has no finished run; there is nothing to archive"),
    ]:
        assert main(words) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 80, 100, 150])
@pytest.mark.parametrize("words", [["list"], ["show", "table1", "table2"]])
def test_no_number_is_cut(width: int, words: list[str], tmp_path: Path) -> None:
    """In a real terminal of each width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "lookbehind", *words], cwd=tmp_path, stdout=slave, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        text = b""
        with suppress(OSError):  # the end of a terminal
            while chunk := os.read(master, 1 << 16):
                text += chunk
        assert process.wait() == 0
    os.close(master)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode()).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    left_out = [line for line in lines if line.startswith("Left out at a width of")]
    assert bool(left_out) is (width == 60 or (width == 80 and words == ["list"]))
    assert any("235" in line and "10 min" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "table99"], "item 'table99' is unknown; did you mean table9?"),
        (["run", "accuracy"], "item 'accuracy' is unknown; allowed are all, table1"),
        (["show"], "no item is named"),
        (["shwo", "table1"], "'shwo' is no command; did you mean show?"),
        (["measure", "sharpnes"], "'sharpnes' is no command; did you mean sharpness?"),
        (["show", "table1", "--scale", "smok"], "--scale is 'smok', which table1 lacks; did you mean smoke?"),
        (["run", "table1", "--engine=lokal"], "--engine is 'lokal'; did you mean local?"),
        (["compare", "--methods", "sgd", "samm"], "--methods is 'samm'; did you mean sam?"),
        (["run", "table5", "--processes", "0"], "--processes is 0"),
        (["run", "table5", "--device", "abacus"], "--device is 'abacus'"),
        (["run", "table5", "--scale", "smoke", "--store", "/dev/null/x"], "cannot be used (Not a directory)"),
        (["show", "table5", "--store", "/dev/null/x"], "cannot be used (Not a directory)"),
        (["report", "table5", "--scale", "smoke"], "there is no store at lab"),
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


if __name__ == "__main__":
    for name, text in listed().items():
        stored(name).write_text(text)
