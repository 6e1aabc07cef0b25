"""The picture of the comparison, drawn anew from its stored numbers.

pip install -e ".[lab]"
python docs/pictures/compare.py      seconds; writes docs/results/compare/compare.png and compare.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.compare.saved import rows_of  # noqa: E402

from lookbehind.compare.figure import draw  # noqa: E402


def main() -> None:
    """Draw noisy labels above clean ones."""
    folder = ROOT / "docs" / "results" / "compare"
    runs = json.loads((folder / "compare.json").read_text())["runs"]
    draw([rows_of(runs, labels) for labels in ("noisy", "clean")], folder)


if __name__ == "__main__":
    main()
