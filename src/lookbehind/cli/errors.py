"""Turn exceptions, of the user's code and of the system too, into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

MISTAKE = 2  # the exit code of argument parsers
CLOSED = 1  # the reader of a pipe is gone
INTERRUPTED = 130
TRACEBACK = "--traceback"
NEEDS_LAB = "the command line needs the extra 'lab': pip install '.[lab]' in the clone"


class UserError(Exception):
    """A mistake that one sentence can explain."""

    code = MISTAKE


class WorkerLostError(UserError):
    """A worker process that somebody else ended; no mistake of the user's."""

    code = 1


def answer(command: Callable[[], None], interrupted: str, show: bool) -> int:
    """Run a command and return its exit code. An exception becomes one sentence on stderr.

    Args:
        command: what to run.
        interrupted: advice after Ctrl-C.
        show: print tracebacks too.

    """
    try:
        try:
            command()
        finally:  # also after an error: if stdout is what failed, it fails again here
            _flush()
        return 0
    except BrokenPipeError:
        _drop_output()
        return CLOSED
    except (Exception, KeyboardInterrupt) as error:
        code, sentence = _explained(error)
        if isinstance(error, KeyboardInterrupt):
            sentence += interrupted
        with suppress(OSError):
            if show:
                traceback.print_exc()
            print("lookbehind:", " ".join(sentence.splitlines()), file=sys.stderr)
        return code


def _explained(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the sentence."""
    if isinstance(error, UserError):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, OSError):
        return MISTAKE, f"{error.filename or 'a file or standard output'} cannot be used ({error.strerror or error})"
    return MISTAKE, f"{reason(error)}; {TRACEBACK} shows where"


def reason(error: BaseException) -> str:
    """Return the type and the first words of an exception."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300]}" if words else type(error).__name__


@contextmanager
def writing(option: str) -> Iterator[None]:
    """Turn an ``OSError`` into a sentence about the option that names the place, or about standard output."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:  # what is written to a folder names its file
            raise UserError(f"standard output cannot be written ({error.strerror or error})") from error
        verb = "written" if option == "--output" else "used"
        raise UserError(
            f"{error.filename} cannot be {verb} ({error.strerror or error}); choose another {option} or make room"
        ) from error


def writable(folder: Path, option: str) -> None:
    """Make a folder, and refuse one in which no file can be made."""
    with writing(option):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def some(option: str, values: Sequence[object], example: str) -> None:
    """Refuse an option that is given without values."""
    if not values:
        raise UserError(f"{option} is empty; at least one value is needed, such as {option} {example}")


def usable(device: str) -> None:
    """Refuse a device on which nothing can be computed here."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        advice = "cpu always works, and items go before options"
        raise UserError(f"--device is {device!r}, which cannot be used here ({first}); {advice}") from error


def _flush() -> None:
    if sys.stdout is None:  # closed before the start
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise UserError(f"standard output cannot be written ({error.strerror or error})") from error


def _drop_output() -> None:
    """Let Python's own flush at exit succeed."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
