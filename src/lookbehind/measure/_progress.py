"""A progress bar for what takes over two seconds, where somebody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 2.0  # seconds without a bar


def track(items: Iterable[T], what: str) -> Iterator[T]:
    """Go through items; show a bar on standard error from the third second on, if it is a terminal."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield from items
        return
    if not sys.stderr.isatty():
        yield from items
        return
    total = len(items) if isinstance(items, Sized) else None
    start = time.monotonic()
    progress = Progress(console=Console(stderr=True), transient=True)
    task = progress.add_task(what, total=total)
    shown = False
    try:
        for item in items:
            if not shown and time.monotonic() - start > PATIENCE:
                progress.start()
                shown = True
            yield item
            progress.advance(task)
    finally:
        progress.stop()
