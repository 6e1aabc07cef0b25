"""Registry of what studies declare: their methods, and the digest of the source behind each name."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DeclaredMethod:
    """A method of a study.

    Args:
        build: from a base optimizer and options to an optimizer. It is offered ``model`` and ``steps``, the number of
            steps of the whole training, if it has parameters of these names.
        title: what a sentence calls it.
        gradients: from its options to the sample gradients of a step, in units of a minibatch's.

    """

    build: Callable[..., Any]
    title: str
    gradients: Callable[..., float]


METHODS: dict[str, DeclaredMethod] = {}
SOURCES: dict[tuple[str, str], str] = {}  # by ("method" | "model" | "dataset", name)


def source_of(**names: str) -> str:
    """Return the digest of what was declared under names, such as ``model="mine"``; empty if nothing was.

    Example:
        >>> source_of(dataset="digits", model="convnet")
        ''

    """
    found = [f"{kind} {name} {SOURCES[kind, name]}" for kind, name in names.items() if (kind, name) in SOURCES]
    return digest(found) if found else ""


def declare(kind: str, name: str, thing: Any) -> None:
    """Note the source behind a name.

    Raises:
        ValueError: if another source was declared under this name.

    """
    found = source_digest(thing)
    if SOURCES.setdefault((kind, name), found) != found:
        raise ValueError(f"the {kind} {name!r} is declared twice, with different sources; give each a name of its own")


def source_digest(thing: Any) -> str:
    """Return sixteen digits of a function's or class's source, and of all in its file that it names.

    Comments, formatting, docstrings and decorators do not count; nor does what is imported.

    Raises:
        ValueError: if it has no name at the top of a file.

    """
    name = getattr(thing, "__name__", "")
    try:
        path = inspect.getsourcefile(thing)
        tree = ast.parse(Path(path or "").read_text(encoding="utf-8"))
    except (OSError, TypeError) as error:
        raise ValueError(f"{thing!r} has no source in a file; a function or class of a file is needed") from error
    defined = dict(_defined(tree))
    if name not in defined:
        raise ValueError(f"{name or thing!r} is not defined at the top of {path}; move it there, under a name")
    todo, seen = [name], set[str]()
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += sorted(_names(defined[one]) & defined.keys())
    return digest(f"{one} {ast.unparse(_bare(defined[one]))}" for one in sorted(seen))


def digest(lines: Iterable[str]) -> str:
    """Return sixteen digits that stand for lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _defined(tree: ast.Module) -> Iterable[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def _names(node: ast.stmt) -> set[str]:
    return {inner.id for part in _parts(node) for inner in ast.walk(part) if isinstance(inner, ast.Name)}


def _parts(node: ast.stmt) -> Iterable[ast.AST]:
    """Yield what a definition does, without its decorators, which declare it."""
    if isinstance(node, ast.FunctionDef):
        yield from (node.args, *node.body)
    elif isinstance(node, ast.ClassDef):
        yield from (*node.bases, *node.keywords, *node.body)
    else:
        yield node


def _bare(node: ast.stmt) -> ast.stmt:
    """Drop decorators and docstring, in place."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            if inner is node:
                inner.decorator_list = []
            if ast.get_docstring(inner) is not None:
                inner.body = inner.body[1:] or [ast.Pass()]
    return node
