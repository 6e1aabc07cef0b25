"""The picture and the printed lines of docs/start.md, made by the page's own code.

pip install -e ".[lab]"
OMP_NUM_THREADS=1 python docs/pictures/start.py      a minute; writes docs/pictures/start.svg, prints the lines
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib

FOLDER = Path(__file__).resolve().parent


def code() -> str:
    """Return the three blocks of the page that train, draw and print."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (FOLDER.parent / "start.md").read_text(), flags=re.DOTALL)[:3])


def main() -> None:
    """Run the page in a temporary folder, with its picture as SVG."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "lookbehind"})
    drawn = code().replace('savefig("sharpness.png")', 'savefig("start.svg", metadata={"Date": None})')
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec(compile(drawn, "start.md", "exec"), {"__name__": "page"})
        shutil.copy("start.svg", FOLDER / "start.svg")
        os.chdir(FOLDER)


if __name__ == "__main__":
    main()
