"""The examples of docs/extending.md, as their readers would use them: under the contract, and as a file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS, ROOT, blocks

PAGE = blocks(DOCS / "extending.md")
CODE = [block.code for block in PAGE if block.language == "python"]
[CLASS] = [code for code in CODE if "class Mixed(" in code]
[ROW] = [code for code in CODE if code.startswith("Row(")]


def test_the_example_optimizer_fulfils_the_contract(tmp_path: Path) -> None:
    (tmp_path / "mixed_row.py").write_text(
        f"from tests.conformance.rows import ROWS, Row\n{CLASS}\nROWS.append({ROW})\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "mixed_row",
            "-p",
            "no:cacheprovider",
            "-k",
            "Mixed",
            "tests/conformance",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    [passed] = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 200  # as the page says
