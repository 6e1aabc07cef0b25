"""Imports go one way, and the core needs torch and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "lookbehind"
# Each layer may import those before it.
LAYERS = [
    {"_atomic", "_checks", "_distributed", "_modes", "_random", "_root", "_style", "_warning", "_words"},
    {"_minibatch", "_tensors"},
    {"optim", "methods", "models", "data", "checkpoint"},
    {"measure", "training", "integrations"},
    {"lifelong", "translation", "fine_tuning"},
    {"lab"},
    {"paper", "league", "compare"},
    {"cli"},
    {"__main__"},
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


def _modules_imported(file: Path) -> set[str]:
    """Return the modules of this package that a file imports, those for type checkers among them."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if _file(name) is not None}


def _file(module: str) -> Path | None:
    """Return the file of a module of this package."""
    if module.split(".")[0] != "lookbehind":
        return None
    path = SOURCE.joinpath(*module.split(".")[1:])
    candidates = [path / "__init__.py", path.with_suffix(".py")] if path != SOURCE else [SOURCE / "__init__.py"]
    return next(filter(Path.exists, candidates), None)


def _module(file: Path) -> str:
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_circle_of_imports() -> None:
    """A package's ``__init__`` gathers its modules' names, so it is left out: only modules can form a circle."""
    modules = [_module(f) for f in SOURCE.rglob("*.py") if f.name != "__init__.py"]
    files = {module: _file(module) for module in modules}
    graph = {m: {name for name in _modules_imported(f) if name in files and name != m} for m, f in files.items() if f}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_package_imports_what_another_keeps_to_itself() -> None:
    """A module whose name begins with ``_`` belongs to the folder that it is in."""
    found = []
    for file in SOURCE.rglob("*.py"):
        for name in _modules_imported(file):
            owner, _, module = name.rpartition(".")
            home = SOURCE.joinpath(*owner.split(".")[1:])
            if module.startswith("_") and home not in file.parents:
                found.append(f"{file.relative_to(SOURCE)} imports {name}")
    assert not found


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
