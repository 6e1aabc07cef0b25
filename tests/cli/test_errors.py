"""Errors of the user's code and of the system: one sentence, no traceback, and advice that is true."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from lookbehind.cli import errors, main
from lookbehind.data import load
from lookbehind.models import build

HEAD = "import os, signal, sys, torch\nfrom torch import nn\n"
# A linear layer on the digits, and what is done with its outputs.
NET = HEAD + (
    "class Net(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.l = nn.Linear(64, {classes})\n"
    "    def forward(self, x):\n"
    "        y = self.l(x.flatten(1))\n"
    "        {after}\n"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights: of a linear layer, of the small net, and of the net after its loss became NaN."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(torch.nn.Module.state_dict(torch.nn.ModuleDict({"l": torch.nn.Linear(64, 10)})), "linear.pt")
    state = build("convnet", channels=1).state_dict()
    torch.save(state, "net.pt")
    torch.save({name: t * float("nan") if t.is_floating_point() else t for name, t in state.items()}, "nan.pt")
    return tmp_path


def module(here: Path, text: str) -> str:
    """Write a module with a name that no other test has imported."""
    name = f"mine_{abs(hash((str(here), text)))}"
    (here / f"{name}.py").write_text(text)
    return name


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("lookbehind: ")
    assert len(lines[0]) < 600
    return lines[0].removeprefix("lookbehind: ")


@pytest.mark.parametrize(
    ("classes", "after", "words"),
    [
        (10, "return {'classes': y}", "needed is a tensor of shape (2, 10), a tuple that begins with one"),
        (10, "return None", "needed is a tensor of shape (2, 10)"),
        (10, "return y.mean()", "returns shape () for 2 images; (2, 10) is needed, since digits has 10 classes"),
        (10, "return y[:, :7]", "returns shape (2, 7) for 2 images"),
        (10, "return y[..., None, None]", "returns shape (2, 10, 1, 1)"),
        (10, "return y @ x", "fails on images of shape (2, 1, 8, 8) (RuntimeError: "),
        (10, "raise KeyError('a\\nb')", "fails on images of shape (2, 1, 8, 8) (KeyError: "),
        (10, "raise Exception", "fails on images of shape (2, 1, 8, 8) (Exception)"),
        (7, "return y", "linear.pt does not fit the model"),
    ],
)
def test_models_that_cannot_be_measured(here: Path, capsys, classes: int, after: str, words: str) -> None:
    name = module(here, NET.format(classes=classes, after=after))
    assert main(["measure", "sharpness", "linear.pt", "--model", f"{name}:Net"]) == 2
    assert words in sentence(capsys)
    assert not (here / "measure").exists()


def test_a_model_that_returns_its_classes_in_a_dict_or_a_tuple_is_measured_as_a_bare_one(here: Path) -> None:
    found = []
    for number, after in enumerate(("return y", "return {'logits': y}", "return y, x")):
        name = module(here, NET.format(classes=10, after=after))
        for command in ("sharpness", "noise", "spectrum", "slice", "quantisation"):
            options = ["--draws", "2"] if command in ("noise", "spectrum") else []
            options += ["--images", "50"] if command in ("spectrum", "slice") else []
            options += ["--steps", "5", "--probes", "2", "--top", "1"] if command == "spectrum" else []
            call = ["measure", command, "linear.pt", "--model", f"{name}:Net", "--output", f"{number}", *options]
            assert main(call) == 0
        found.append(sorted((file.name, file.read_text()) for file in (here / str(number)).glob("*.json")))
    assert len(found[0]) > 5
    assert [name for name, _ in found[0]] == [name for name, _ in found[1]] == [name for name, _ in found[2]]

    def numbers(text: str) -> list[float]:
        return [float(n) for n in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)]

    for (_, one), (_, two), (_, three) in zip(*found, strict=True):
        assert numbers(one) == numbers(two) == numbers(three)


@pytest.mark.parametrize(
    ("text", "function", "words"),
    [
        ("def net(:\n", "net", "cannot be imported (SyntaxError: "),
        (
            "import nothing_of_that_name\n",
            "net",
            "cannot be imported (ModuleNotFoundError: No module named 'nothing_of",
        ),
        ("1 / 0\n", "net", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("raise SystemExit('no GPU')\n", "net", "cannot be imported (SystemExit: no GPU)"),
        ("", "net", "has no attribute 'net'"),
        ("def net(width): pass\n", "net", "cannot be called without arguments (TypeError: "),
        ("def net(): raise ValueError('width')\n", "net", "cannot be called without arguments (ValueError: width)"),
        ("def net(): return 3\n", "net", "which returns a int; a module is needed"),
        ("net = 3\n", "net", "cannot be called without arguments (TypeError: "),
        ("", "", "a name of lookbehind.models or module:function is needed"),
    ],
)
def test_files_that_hold_no_model(here: Path, capsys, text: str, function: str, words: str) -> None:
    name = module(here, text)
    assert main(["measure", "sharpness", "linear.pt", "--model", f"{name}:{function}"]) == 2
    assert words in sentence(capsys)


def test_a_module_without_a_name(here: Path, capsys) -> None:
    assert main(["measure", "sharpness", "net.pt", "--model", ":net"]) == 2
    assert sentence(capsys).startswith("--model is ':net'; a name of lookbehind.models or module:function is needed")


def test_a_failure_while_measuring_and_its_traceback(here: Path, capsys) -> None:
    """The first forward pass succeeds, a later one does not."""
    after = "self.n = getattr(self, 'n', 0) + 1; assert self.n < 3, 'third pass'; return y"
    name = module(here, NET.format(classes=10, after=after))
    command = ["measure", "sharpness", "linear.pt", "--model", f"{name}:Net", "--radius", "0.1"]
    assert main(command) == 2
    assert sentence(capsys) == "AssertionError: third pass; --traceback shows where"
    for place in range(len(command) + 1):
        if place in (0, 2, len(command)):  # wherever it stands
            assert main([*command[:place], "--traceback", *command[place:]]) == 2
            shown = capsys.readouterr().err
            assert "Traceback (most recent call last)" in shown
            assert "in forward" in shown


def test_a_traceback_shows_the_user_s_own_line(here: Path, capsys) -> None:
    name = module(here, "def net():\n    return nothing\n")
    assert main(["measure", "sharpness", "net.pt", "--model", f"{name}:net", "--traceback"]) == 2
    assert "return nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["measure", "sharpness", "net.pt", "--radius"], "--radius is empty; at least one value is needed, such as"),
        (["measure", "noise", "net.pt", "--sigma"], "--sigma is empty"),
        (["measure", "slice", "net.pt", "--direction"], "--direction is empty"),
        (["measure", "slice", "net.pt", "--span"], "--span is empty"),
        (["measure", "quantisation", "net.pt", "--bits"], "--bits is empty"),
        (["run", "table5", "--device"], "--device is empty"),
        (["compare", "--radius"], "--radius is empty"),
        (
            ["measure", "slice", "net.pt", "--direction", "sam", "sam"],
            "--direction is sam sam; two directions must differ",
        ),
        (["measure", "slice", "net.pt", "--direction", "random", "sam", "asam"], "there are 3 directions"),
        (["measure", "slice", "net.pt", "--points", "1"], "--points is 1"),
        (["measure", "quantisation", "net.pt", "--bits", "40"], "--bits"),
        (["measure", "sharpness", "net.pt", "--seed", "9" * 20], "--seed is 9999"),
        (["report", "table5", "--scale", "smoke", "--store", "net.pt"], "--store is net.pt, which is not a folder"),
        (["show", "table5", "--store", "~nobody-here/x"], "--store is ~nobody-here/x, whose home folder is unknown"),
        (["measure", "sharpness", "old.pt"], "old.pt has the format of torch before 1.6"),
        (
            ["measure", "sharpness", "net.pt", "--output", "net.pt"],
            "net.pt cannot be written (File exists); choose another",
        ),
        (["measure", "sharpness", "net.pt", "--output", "net.pt/x"], "net.pt/x cannot be written (Not a directory)"),
        (["report", "table5", "--scale", "smoke", "--store", "net.pt"], "net.pt, which is not a folder; name a folder"),
        (["compare", "--quick", "--output", "net.pt"], "cannot be written"),
    ],
)
def test_options_are_checked_before_the_work(here: Path, capsys, arguments: list[str], words: str) -> None:
    torch.save(torch.load("net.pt"), "old.pt", _use_new_zipfile_serialization=False)
    assert main(arguments) == 2
    assert words in sentence(capsys)


def test_an_output_folder_is_checked_before_anything_is_measured(here: Path, capsys, monkeypatch) -> None:
    def measured(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("lookbehind.measure.m_sharpness", measured)
    for output in ("/proc/x", "/dev/null"):
        assert main(["measure", "sharpness", "net.pt", "--output", output]) == 2
        assert f"{output} cannot be written" in sentence(capsys)


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (
            ["measure", "spectrum", "net.pt"],
            "interrupted; nothing is kept of a measurement, and the same command begins",
        ),
        (["compare"], "interrupted; finished runs are kept, and the same command continues"),
        (["run", "table5"], "interrupted; finished runs are kept, and the same command continues"),
        (["report", "table5"], "interrupted; the same command writes all pages anew"),
        (["show", "table5"], "interrupted"),
        (["list"], "interrupted"),
        (["models"], "interrupted"),
        ([], "interrupted"),
    ],
)
def test_advice_after_ctrl_c(capsys, monkeypatch, command: list[str], advice: str) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["lookbehind.cli.main"], "_dispatch", interrupt)
    assert main(command) == errors.INTERRUPTED
    found = sentence(capsys)
    assert found.startswith(advice)
    assert "kept" in advice or "kept" not in found


def test_ctrl_c_in_a_measurement(here: Path, capsys) -> None:
    name = module(here, NET.format(classes=10, after="os.kill(os.getpid(), signal.SIGINT); return y"))
    assert main(["measure", "spectrum", "linear.pt", "--model", f"{name}:Net"]) == errors.INTERRUPTED
    assert sentence(capsys).startswith("interrupted; nothing is kept of a measurement")
    assert not (here / "measure").exists()


def test_results_that_are_not_finite_are_null(here: Path, capsys) -> None:
    assert main(["measure", "sharpness", "nan.pt", "--radius", "0.1"]) in (0, 2)
    printed = capsys.readouterr()
    if "not finite" in printed.out:
        text = Path("measure/sharpness.json").read_text()
        result = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))["result"]
        assert result["values"] == [None]
    else:  # refused by the measurement
        assert len(printed.err.strip().splitlines()) == 1
    assert main(["measure", "sharpness", "net.pt", "--radius", "0.1"]) == 0
    assert "not finite" not in capsys.readouterr().out


def test_a_full_disk_loses_no_table(here: Path, capsys, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["measure", "quantisation", "net.pt", "--bits", "4"]) == 2
    printed = capsys.readouterr()
    assert "scale per tensor" in printed.out
    assert printed.err.startswith("lookbehind: measure/quantisation.json cannot be written (No space left on device)")
    assert len(printed.err.splitlines()) == 1
    assert not list(Path("measure").iterdir())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module.", "model.module._orig_mod."])
def test_names_with_something_before_them(here: Path, prefix: str) -> None:
    state = torch.load("net.pt")
    torch.save({"state_dict": {prefix + name: t for name, t in state.items()}}, "wrapped.pt")
    averaged = {"n_averaged": torch.tensor(3), **{prefix + name: t for name, t in state.items()}}
    torch.save(averaged, "averaged.pt")
    for file in ("net", "wrapped", "averaged"):
        assert main(["measure", "quantisation", f"{file}.pt", "--bits", "4", "--output", file]) == 0
    results = [json.loads(Path(f, "quantisation.json").read_text())["result"] for f in ("net", "wrapped", "averaged")]
    assert results[0] == results[1] == results[2]


def test_names_that_belong_to_the_model_stay(here: Path, capsys) -> None:
    """The model has a part of its own that is called module."""
    text = NET.format(classes=10, after="return y").replace("self.l", "self.module")
    name = module(here, text)
    state = OrderedDict(torch.load("linear.pt"))
    torch.save({"module." + key.removeprefix("l."): t for key, t in state.items()}, "own.pt")
    torch.save({"module.module." + key.removeprefix("l."): t for key, t in state.items()}, "wrapped.pt")
    torch.save({"module.l." + key: t for key, t in state.items()}, "other.pt")
    for file, code in (("own.pt", 0), ("wrapped.pt", 0), ("other.pt", 2)):
        assert main(["measure", "quantisation", file, "--bits", "4", "--model", f"{name}:Net"]) == code
    assert "does not fit the model" in capsys.readouterr().err


def test_more_weights_than_the_model_has_are_refused(here: Path, capsys) -> None:
    state = {f"module.{name}": t for name, t in torch.load("net.pt").items()}
    torch.save({**state, "module.extra.weight": torch.ones(1)}, "more.pt")
    assert main(["measure", "quantisation", "more.pt"]) == 2
    assert "extra.weight" in sentence(capsys)


# --- in a process of its own, as a shell starts it ----------------------------------------------------------------


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lookbehind", *arguments], stderr=subprocess.PIPE, text=True, timeout=240, **options
    )


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["models"], ["measure", "quantisation", "net.pt"]])
def test_a_closed_pipe_ends_quietly(here: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = command(*arguments, stdout=closed)
    assert (done.returncode, done.stderr) == (errors.CLOSED, "")
    if "measure" in arguments:  # the results are there
        assert len(list((here / "measure").iterdir())) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["models"], ["show", "all"]])
def test_a_full_disk_behind_stdout(here: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = command(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("lookbehind: ")
    assert "standard output cannot be" in done.stderr
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_no_home_and_a_matplotlib_backend_that_there_is_not(here: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "MPLCONFIGDIR")}
    environment |= {"MPLBACKEND": "nonsense", "MPLCONFIGDIR": str(here)}
    done = command("measure", "quantisation", "net.pt", "--bits", "4", env=environment, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "measure" / "quantisation.png").exists()


@pytest.mark.parametrize("before", [None, "module://matplotlib_inline.backend_inline"])
def test_the_command_leaves_the_callers_environment(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that called it would show no more pictures, nor would a process started from there."""
    monkeypatch.delenv("MPLBACKEND", raising=False)
    if before is not None:
        monkeypatch.setenv("MPLBACKEND", before)
    environment = dict(os.environ)
    assert main(["--version"]) == 0
    assert main(["list", "no-study"]) == 2
    assert dict(os.environ) == environment


def test_closed_standard_streams(here: Path) -> None:
    shell = f"{shlex.quote(sys.executable)} -m lookbehind"
    assert subprocess.run(["sh", "-c", f"{shell} --version >&-"], check=False).returncode == 0
    assert subprocess.run(["sh", "-c", f"{shell} show 2>&-"], check=False).returncode == 2


def test_the_data_are_as_the_commands_assume() -> None:
    assert len(load("digits").classes) == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--label-noise", "2"], "--label-noise is 2.0; a fraction from 0 to 1"),
        (["--train", "0"], "--train is 0; a whole number"),
        (["--size", "9"], "--size is 9"),
        (["--data", "nothing"], "--data is 'nothing'"),
    ],
)
def test_mistakes_about_the_data_name_the_option(here: Path, capsys, options: list[str], words: str) -> None:
    name = module(here, NET.format(classes=10, after="return y"))
    assert main(["measure", "sharpness", "linear.pt", "--model", f"{name}:Net", *options]) == 2
    assert sentence(capsys).startswith(words)


@pytest.mark.parametrize("command", [["compare"], ["run"], ["measure", "noise"]])
def test_each_help_tells_of_the_traceback(command: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.count("--traceback shows where an error arose") == 1
