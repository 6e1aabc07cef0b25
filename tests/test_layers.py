"""Imports go one way, and the core needs torch and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src" / "lookbehind"
# Each layer may import those before it.
LAYERS = [
    {"_whole"},
    {"optim", "models", "data", "checkpoint"},
    {"measure", "training", "integrations"},
    {"lifelong", "translation", "fine_tuning"},
    {"lab"},
    {"paper", "compare"},
    {"cli"},
]


def _imports(file: Path) -> set[str]:
    """Return the layers of this package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("lookbehind.")}
    return found


def test_imports_go_one_way() -> None:
    allowed: set[str] = set()
    for layer in LAYERS:
        for name in layer:
            files = [SOURCE / f"{name}.py", *(SOURCE / name).rglob("*.py")]
            for file in filter(Path.exists, files):
                assert _imports(file) <= allowed | {name}, file
        allowed |= layer
    every = {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert every - {"__init__"} <= allowed  # a new layer must take its place in the list


def test_the_core_needs_torch_and_nothing_else() -> None:
    others = ["numpy", "sklearn", "scipy", "matplotlib", "rich", "tyro", "pydantic"]
    code = f"""
import sys
before = set(sys.modules)
import torch
with_torch = set(sys.modules)
for name in {others!r}:
    if name not in with_torch:
        sys.modules[name] = None  # importing it raises ImportError
import lookbehind
for name in lookbehind.__all__:
    getattr(lookbehind, name)
assert set(lookbehind.__all__) <= set(dir(lookbehind))
import lookbehind.measure
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_room_is_called_after_nothing() -> None:
    banned = {"utils", "helpers", "common", "base", "core"}
    assert not [p for p in SOURCE.rglob("*") if p.stem.strip("_") in banned]
