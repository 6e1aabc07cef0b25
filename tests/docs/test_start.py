"""What docs/start.md concludes does not depend on the number of threads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.printed import ahead, close, differences

BLOCKS = blocks(DOCS / "start.md")
[SHOWN] = [block.code for block in BLOCKS if block.mark == "printed"]


def test_the_page_shows_what_it_concludes() -> None:
    ahead(SHOWN)


def test_the_picture_has_the_colours_of_the_code() -> None:
    """C0 and C1 of matplotlib, which a reader gets."""
    lines = re.findall(r"stroke: (#[0-9a-f]{6})", (DOCS / "pictures" / "start.svg").read_text())
    assert {"#1f77b4", "#ff7f0e"} <= set(lines)
    assert len({line for line in lines if line not in ("#000000", "#b0b0b0", "#cccccc", "#ffffff")}) == 2


@pytest.mark.timeout(600)
def test_two_threads(tmp_path: Path) -> None:
    """One thread is that of test_pages."""
    pytest.importorskip("matplotlib")
    code = "import torch\ntorch.set_num_threads(2)\n" + "\n".join(b.code for b in BLOCKS if b.language == "python")
    code = code[: code.index("# Your trained model")]
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stderr
    ahead(done.stdout)
    assert differences(SHOWN, done.stdout) == []


def test_the_comparison_sees_numbers_and_words() -> None:
    assert close("rises by 1.00", "rises by 1.09")
    assert not close("rises by 1.00", "rises by 1.12")
    assert close("SGD: 91.2 to 92.7 % right", "SGD: 92.6 to 92.7 % right")
    assert not close("SGD: 91.2 to 92.7 % right", "SGD: 93.2 to 92.7 % right")
    assert not close("SGD: 1.0", "SAM: 1.0")
    assert differences("one\n", "one\ntwo\n") != []
