"""The entry. Heavy imports wait until a command needs them, so that help comes at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lookbehind import __version__
from lookbehind._words import allowed
from lookbehind.cli.errors import NEEDS_LAB, TRACEBACK, UserError, answer

# What is true after Ctrl-C in a command that takes long.
_KEPT = "; finished runs are kept, and the same command continues"
_INTERRUPTED = {
    "compare": _KEPT,
    "run": _KEPT,
    "measure": "; nothing is kept of a measurement, and the same command begins it anew",
    "report": "; the same command writes all pages anew",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for an error, 130 for Ctrl-C, 1 for a closed pipe."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    arguments = [argument for argument in given if argument != TRACEBACK]
    interrupted = _INTERRUPTED.get(arguments[0], "") if arguments else ""
    # Greek letters must not stop the command where the terminal or a pipe has no Unicode.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    with _environment():
        return answer(lambda: _dispatch(arguments), interrupted, show=TRACEBACK in given)


@contextmanager
def _environment() -> Iterator[None]:
    """Set what libraries read when they are imported, here and in processes started from here."""
    before = {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "MPLBACKEND")}
    # Waiting OpenMP threads that spin make a busy machine many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["MPLBACKEND"] = "agg"  # pictures are written, never shown
    try:
        yield
    finally:  # a notebook that calls `main` goes on to show pictures
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _dispatch(arguments: Sequence[str]) -> None:
    if arguments in (["--version"], ["-V"]):
        print(f"lookbehind {__version__}")
        return
    try:
        from tyro.extras import SubcommandApp
    except ImportError as error:
        raise UserError(NEEDS_LAB + (f" ({error})" if str(error) else "")) from error
    from lookbehind.cli import lab, measure
    from lookbehind.cli.compare import compare

    app, measurements = SubcommandApp(), SubcommandApp()
    app.command(compare)
    for name, command in lab.COMMANDS.items():
        app.command(command, name=name)  # type: ignore[call-overload]  # its overloads forget this form
    for command in measure.COMMANDS:
        measurements.command(command)
    app.command(measurements, name="measure", help="Measure a saved model.")
    about = f"Sharpness-aware optimisation for PyTorch, measured. {TRACEBACK} shows where an error arose."
    if arguments == ["measure"]:
        arguments = ["measure", "--help"]
    _check_words(arguments, {"compare": compare, "measure": None, **lab.COMMANDS}, measure.COMMANDS)
    try:
        app.cli(args=list(arguments) or ["--help"], prog="lookbehind", description=about)
    except SystemExit:
        if arguments and {"--help", "-h"} & set(arguments[1:]):
            print(f"{TRACEBACK} shows where an error arose.")
        raise


def _check_words(
    arguments: Sequence[str],
    commands: Mapping[str, Callable[..., Any] | None],
    measurements: Sequence[Callable[..., Any]],
) -> None:
    """Refuse a command or a choice that does not exist, and name the one that was probably meant."""
    known, words, command = commands, list(arguments), None
    while command is None and words and not words[0].startswith("-"):
        word = words.pop(0)
        if word not in known:
            raise UserError(f"{word!r} is no command; {allowed(word, known)}")
        command, known = known[word], {each.__name__.replace("_", "-"): each for each in measurements}
    hints = {} if command is None else get_type_hints(command)
    option, choices = "", list[str]()
    for word in words:
        if word.startswith("-"):
            option, _, word = word.partition("=")
            choices = _choices(hints.get(option.removeprefix("--").replace("-", "_")))
        if word and choices and word not in choices:
            raise UserError(f"{option} is {word!r}; {allowed(word, choices)}")


def _choices(hint: Any) -> list[str]:
    """Return the words that an option takes, if they are listed."""
    found = (get_args(each) for each in (hint, *get_args(hint)) if get_origin(each) is Literal)
    return [str(word) for word in next(found, ())]
