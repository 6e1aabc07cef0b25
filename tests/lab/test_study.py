"""A study in a file of somebody's own: loaded, run by worker processes, edited, refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lookbehind.cli.main import main
from lookbehind.lab import Method, Run, Store, Study, Workload, grid
from lookbehind.lab.build import optimizer_of
from lookbehind.lab.engines.slurm_job import Chunk
from lookbehind.lab.engines.slurm_options import Slurm
from lookbehind.lab.report import tasks
from lookbehind.lab.study import StudyError, load
from lookbehind.methods import METHODS
from tests.lab.declared import forget

Write = Callable[..., Path]
FILE = '''
    import torch
    from lookbehind.lab import Row, Study, Table, Workload, chosen_on_validation, grid

    study = Study("Mine")
    FACTOR = 1.0

    class Slow(torch.optim.SGD):
        pass

    def helper(rho):  # a comment
        return FACTOR * rho

    @study.method(gradients=1, title="My own")
    def mine(base, rho=0.5):
        """Do nothing."""
        helper(rho)
        return base

    @study.model
    def net(channels, classes):
        """A net."""
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * 64, classes))

    @study.item("All of it")
    def table(scale):
        work = Workload(dataset="digits", model="net", train=60, validation=20, test=20, batch=30, epochs=2)
        cells = chosen_on_validation(grid(work, "mine", range(2), rho=(0.1, 0.2)))
        return [Table("A table", ("digits",), (Row("mine", (cells,)),))]
'''


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return what writes a study file, with words of it replaced."""

    def written(*replaced: tuple[str, str], name: str = "study_a.py") -> Path:
        text = textwrap.dedent(FILE)
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return path

    return written


def addresses(path: Path) -> list[str]:
    forget()
    return [run.address for run, _ in tasks(load(str(path)).items["table"].at("smoke").parts)]


@pytest.mark.usefixtures("forked_workers")
def test_runs_and_reports_from_the_command_line(
    write: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, store = str(write()), str(tmp_path / "store")
    for command in (["list", path], ["show", path], ["run", path, "--processes", "2"]):
        scale = [] if command[0] == "list" else ["--scale", "smoke", "--store", store]
        assert main([*command, *scale]) == 0
    assert main(["report", path, "table", "--scale", "smoke", "--store", store, "--output", str(tmp_path / "out")]) == 0
    printed = capfd.readouterr()
    assert "Mine" in printed.out
    assert not printed.err
    row = (tmp_path / "out" / "study_a" / "smoke" / "table-1.csv").read_text().splitlines()[1]
    assert row.startswith("mine,digits,ρ=")
    assert ",2,2," in row  # two numbers, two seeds


def test_torchrun_imports_it_too(write: Write, tmp_path: Path) -> None:
    path, store = write(), tmp_path / "store"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["lookbehind", "run", str(path), "--scale", "smoke", "--store", str(store), "--engine", "torchrun"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = [run for run, _ in tasks(load(str(path)).items["table"].at("smoke").parts)]
    assert all(Store(store).complete(run) for run in runs)


def test_a_job_of_a_cluster_imports_it_too(write: Write, tmp_path: Path) -> None:
    from functools import partial

    from lookbehind.lab.study import load_all

    path = write()
    wanted = tuple(tasks(load(str(path)).items["table"].at("smoke").parts))
    chunk = Chunk(wanted, tmp_path / "store", Slurm(), 10.0, False, partial(load_all, (str(path),)))
    sent = pickle.dumps(chunk)
    forget()
    pickle.loads(sent)()
    assert all(Store(tmp_path / "store").complete(run) for run, _ in wanted)


@pytest.mark.usefixtures("forked_workers")
def test_an_edited_method_is_another_run_and_says_so(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["run", str(write()), "--scale", "smoke", "--store", str(tmp_path / "store"), "--processes", "1"]
    assert main(ask) == 0
    assert "another source" not in capsys.readouterr().out
    forget()
    write(("FACTOR = 1.0", "FACTOR = 2.0"))
    assert main(ask) == 0
    assert (
        f"{tmp_path / 'store'} has 4 runs of another source of the method mine: it was edited"
        in capsys.readouterr().out
    )
    assert len(list((tmp_path / "store" / "runs").glob("*/result.json"))) == 8


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# a comment", "", True),
        ('"""Do nothing."""', '"""Do nothing at all."""', True),
        ("class Slow(torch.optim.SGD):", "class Slow(torch.optim.Adam):", True),  # the method does not name it
        ('title="My own"', 'title="Another title"', True),
        ("FACTOR * rho", "FACTOR + rho", False),
        ("return base", "return Slow(base.param_groups)", False),
        ("torch.nn.Flatten()", "torch.nn.Flatten(1)", False),
    ],
)
def test_the_address_holds_the_source_that_matters(write: Write, old: str, new: str, same: bool) -> None:
    before = addresses(write())
    after = addresses(write((old, new)))
    assert (before == after) is same


def test_nothing_of_a_study_moves_an_address_of_the_package(write: Write) -> None:
    run = Run(workload=Workload(dataset="digits", model="convnet", epochs=1), method=Method(kind="base"))
    before = run.address
    load(str(write()))
    assert Run.model_validate_json(run.model_dump_json()).address == before


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("import torch", "import torch, missing_package", "ModuleNotFoundError: No module named 'missing_package'"),
        ("import torch", "import torch (", "SyntaxError"),
        ('study = Study("Mine")', 'study = Study("Mine")\n    other = Study("Two")', "has 2 studies; one is needed"),
        ("def mine(", "def gsam(", "method 'gsam' is this package's; give yours another name"),
        ("def net(", "def resnet8(", "model 'resnet8' is this package's; give yours another name"),
    ],
)
def test_refused_with_a_sentence(
    write: Write, old: str, new: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = textwrap.dedent(FILE).replace(old, textwrap.dedent(new).replace("\n    ", "\n"))
    path = write()
    path.write_text(text)
    assert main(["list", str(path)]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert len(printed.splitlines()) == 1


def test_words_that_name_nothing(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in [
        ([str(tmp_path / "nowhere.py")], f"there is no file {tmp_path / 'nowhere.py'}"),
        (["tabel1"], "item 'tabel1' is unknown; did you mean table1?"),
        ([str(write()), "tabel"], "item 'tabel' is unknown; did you mean table?"),
        ([str(write()), "--scale", "paper"], "--scale is 'paper', which Mine lacks; allowed are smoke, cpu"),
        (["digits-clean"], "item 'digits-clean' is of the study league: lookbehind show league digits-clean"),
    ]:
        assert main(["show", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_a_file_without_a_study(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(StudyError, match="has no studies; one is needed, as in: study = Study"):
        load(str(tmp_path / "empty.py"))


def test_a_method_needs_a_name_at_the_top_of_a_file() -> None:
    with pytest.raises(ValueError, match="not defined at the top of"):
        Study("x").method(gradients=1)(lambda base: base)


def test_packages_offer_studies(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    from importlib.metadata import EntryPoint

    path = write(name="study_offered.py")
    monkeypatch.syspath_prepend(path.parent)
    point = EntryPoint("mine", "study_offered:study", "lookbehind.studies")
    monkeypatch.setattr("lookbehind.lab.study.entry_points", lambda group: [point])
    assert main(["show", "mine", "--scale", "smoke"]) == 0


# --- every method of the family is a method of runs ---------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [name for name, record in METHODS.items() if name not in ("sam", "lookahead", "lookbehind")]
)
def test_every_record_is_a_kind(kind: str) -> None:
    record = METHODS[kind]
    method = Method(kind=kind, options=tuple(record.trial.items()))
    assert method.title == record.title
    assert method.gradients == pytest.approx(record.gradients(10_000, **record.trial) / 10_000)
    model = torch.nn.Linear(2, 2)
    optimizer = optimizer_of(method, torch.optim.SGD(model.parameters(), lr=0.1), model)
    assert type(optimizer) is record.kind


def test_options_that_a_record_does_not_have() -> None:
    with pytest.raises(ValueError, match="gsam has no option 'beta' \\(1\\); it has rho, alpha"):
        Method(kind="gsam", options=(("beta", 1),))
    with pytest.raises(ValueError, match=r"kind is 'gsamm'; did you mean gsam\? Allowed are base, sam, "):
        Method(kind="gsamm")
    with pytest.raises(ValueError, match=r"rho is 0\.1; gsam takes it among its options"):
        Method(kind="gsam", rho=0.1)


def test_grids() -> None:
    digits = Workload(dataset="digits", model="convnet", epochs=10, milestones=(4,))
    found = grid(digits, "looksam", (3, 4), rho=(0.1, 0.2), every=5, lr=(0.5, 1.0), budget=2.4)
    assert [c.label for c in found] == ["ρ=0.1, η=0.5", "ρ=0.1, η=1", "ρ=0.2, η=0.5", "ρ=0.2, η=1"]
    first = found[0].runs[0]
    assert (first.workload.lr, first.method.options) == (0.5, (("every", 5), ("rho", 0.1)))
    assert first.workload.epochs == 20  # 1.2 gradients a step
    assert first.workload.milestones == (8,)
    assert [run.seed for run in found[0].runs] == [3, 4]
    with pytest.raises(ValueError, match="looksam has no option 'radius', nor has the workload"):
        grid(digits, "looksam", (0,), radius=1)
    with pytest.raises(ValueError, match="lr"):
        grid(digits, "base", (0,), lr=-1.0)


# --- what a newcomer gets wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "@study.model",
            "@study.method(gradients=1)\ndef mine(base):\n    return base\n\n@study.model",
            "the method 'mine' is declared twice",
        ),
        ('@study.method(gradients=1, title="My own")', "@study.method", "write @study.method(gradients=2)"),
        ('@study.item("All of it")', "@study.item", 'write @study.item("What it shows")'),
        (
            "return [Table(",
            "x = [Table(",
            "item table returns None at scale smoke; a list of tables and figures is needed",
        ),
        (
            "return [Table(",
            "1 / 0\n    return [Table(",
            "item table fails at scale smoke: ZeroDivisionError: division by zero (study_a.py, line ",
        ),
        (
            '(Row("mine", (cells,)),))',
            '(Row("mine", (cells,)),), against="mien")',
            "table 'A table': against is 'mien'; did you mean mine?",
        ),
        ('(Row("mine", (cells,)),))', '(Row("mine", (cells, cells)),))', "row 'mine' has 2 cells for 1 columns"),
        ("batch=30, epochs=2", "batch=30, epoch=2", "Workload has no field 'epoch'; did you mean epochs?"),
        ('dataset="digits"', 'dataset="digit"', "the cost of training on 'digit' is unknown; did you mean digits?"),
        ('"mine", range(2)', '"mien", range(2)', "kind is 'mien'; did you mean mine?"),
    ],
)
def test_a_newcomers_mistake_is_one_sentence(
    write: Write, old: str, new: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(write((old, new))), "--scale", "smoke"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_lists_are_choices_too() -> None:
    digits = Workload(dataset="digits", model="convnet", epochs=1)
    assert [c.label for c in grid(digits, "gsam", [0], rho=[0.1, 0.2])] == ["ρ=0.1", "ρ=0.2"]


def test_items_of_two_studies_do_not_hide_each_other(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    other = (
        ("def mine(", "def other("),
        ("def net(", "def net2("),
        ('"mine", range', '"other", range'),
        ('"net"', '"net2"'),
    )
    paths = [str(write()), str(write(*other, name="study_b.py"))]
    assert main(["show", *paths, "--scale", "smoke"]) == 2
    assert "two studies have an item table; name one study at a time" in capsys.readouterr().err


def test_an_item_of_a_study_comes_before_one_of_the_paper(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(("def table(scale)", "def table1(scale)")))
    assert main(["show", path, "table1", "--scale", "smoke"]) == 0
    assert "│" not in capsys.readouterr().out
    assert main(["show", path, "table1", "--scale", "smoke", "--store", "nowhere"]) == 0
    assert " 4 " in capsys.readouterr().out  # its runs; the paper's has 52


def test_scales_of_ones_own(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(('Study("Mine")', 'Study("Mine", scales=("small", "big"))')))
    assert main(["show", path, "--scale", "big"]) == 0
    assert main(["show", path]) == 2
    assert "--scale is 'cpu', which Mine lacks; allowed are small, big" in capsys.readouterr().err


@pytest.mark.usefixtures("forked_workers")
def test_a_wrong_cost_is_noticed(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(("gradients=1,", "gradients=2,")))
    assert main(["run", path, "--scale", "smoke", "--store", str(tmp_path / "store"), "--processes", "1"]) == 0
    assert "method mine took 4 gradients where its declaration comes to 8" in capsys.readouterr().out


def test_a_folder_that_is_missing_is_said_before_anything_is_trained(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declared_ = (
        "    @study.model",
        "    @study.dataset(train=10, channels=1, size=8, classes=2, folder='pets')\n"
        "    def pets(folder, size):\n        return None\n\n    @study.model",
    )
    monkeypatch.setenv("LOOKBEHIND_DATA", str(tmp_path / "data"))
    path = str(
        write((declared_[0].strip(), textwrap.dedent(declared_[1]).strip()), ('dataset="digits"', 'dataset="pets"'))
    )
    assert main(["run", path, "--scale", "smoke", "--store", str(tmp_path / "store")]) == 2
    said = capsys.readouterr().err
    assert f"pets: there is no folder {tmp_path / 'data' / 'pets'}; put the images there" in said
    assert "LOOKBEHIND_DATA" in said
