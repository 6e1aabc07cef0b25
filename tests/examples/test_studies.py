"""The studies of the examples, by the commands of their page: from a folder of one's own, on two engines."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lookbehind.cli import main
from tests.docs.pages import DOCS, ROOT, blocks

COMMANDS = [block.code for block in blocks(DOCS / "studies.md") if block.language == "sh"]


def lines(study: str) -> list[list[str]]:
    """Return the commands of the page that are about a study."""
    [code] = [code for code in COMMANDS if f"run examples/studies/{study}.py" in code]
    words = [shlex.split(line, comments=True) for line in code.splitlines()]
    return [each for each in words if each and each[0] != "export"]


def do(command: list[str], folder: Path) -> None:
    """Run a command of the page beside the examples."""
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    program, *words = command
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LOOKBEHIND_DATA", "my_data")
        if program == "lookbehind":
            assert main(words) == 0
            return
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=250, check=False)
        assert done.returncode == 0, done.stderr


def accuracies(path: Path) -> dict[str, float]:
    """Return the means of a table."""
    with path.open() as file:
        return {row["row"]: float(row["mean"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("study", "methods"),
    [
        ("sign_sam", {"SGD", "SAM", "Momentum-SAM", "GSAM", "Sign-SAM"}),
        ("own_images", {"SGD", "SAM", "Lookbehind"}),
    ],
)
def test_by_the_commands_of_the_page(study: str, methods: set[str], tmp_path: Path) -> None:
    for command in lines(study):
        do(command, tmp_path)
    found = accuracies(tmp_path / "report" / study / "smoke" / "accuracy-1.csv")
    assert found.keys() == methods
    assert min(found.values()) > 30  # one epoch; chance is 10


def test_on_another_engine(tmp_path: Path) -> None:
    [run] = [command for command in lines("own_images") if command[1] == "run"]
    [export] = [command for command in lines("own_images") if command[0] == "python"]
    do(export, tmp_path)
    do(["python", "-m", "torch.distributed.run", "--standalone", "-m", *run, "--engine", "torchrun"], tmp_path)
    do(["lookbehind", "report", *run[2:]], tmp_path)
    assert accuracies(tmp_path / "report" / "own_images" / "smoke" / "accuracy-1.csv").keys() == {
        "SGD",
        "SAM",
        "Lookbehind",
    }


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "studies").glob("*.py")), ids=lambda path: path.stem)
def test_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 80
    assert re.search(rf"lookbehind run examples/studies/{path.name} ", text)
