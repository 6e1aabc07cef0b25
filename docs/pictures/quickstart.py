"""The notebook examples/quickstart.ipynb, run, with its outputs and pictures stored in it.

pip install -e ".[dev]"
OMP_NUM_THREADS=1 python docs/pictures/quickstart.py      a minute; writes examples/quickstart.ipynb
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent.parent / "examples" / "quickstart.ipynb"


def executed(folder: Path) -> nbformat.NotebookNode:
    """Run the notebook in a folder and return it with what came out."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, record_timing=False
    )
    client.execute(
        env={name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    )  # as a notebook draws
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"
        if cell.source.startswith("%pip"):
            cell.outputs = []  # what an installer says differs
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    """Run the notebook and store what came out."""
    nbformat.write(executed(NOTEBOOK.parent), NOTEBOOK)


if __name__ == "__main__":
    main()
