"""The picture of docs/start.md, made by the page's own code.

pip install -e ".[lab]"
python docs/pictures/start.py      half a minute; writes docs/pictures/start.svg
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib
from cycler import cycler

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Run the page in a temporary folder, with its picture as SVG."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "lookbehind", "axes.prop_cycle": cycler(color=["#000000", "#0072B2"])})
    blocks = re.findall(r"```python\n(.*?)```", (FOLDER.parent / "start.md").read_text(), flags=re.DOTALL)
    code = "\n".join(blocks[:2]).replace('savefig("sharpness.png")', 'savefig("start.svg", metadata={"Date": None})')
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec(compile(code, "start.md", "exec"), {"__name__": "page"})
        shutil.copy("start.svg", FOLDER / "start.svg")
        os.chdir(FOLDER)


if __name__ == "__main__":
    main()
