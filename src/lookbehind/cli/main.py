"""The entry. Heavy imports wait until a command needs them, so that help comes at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from lookbehind import __version__
from lookbehind.cli._mistakes import INTERRUPTED, NEEDS_LAB, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for a mistake, 130 for Ctrl-C."""
    # Waiting OpenMP threads that spin make a busy machine many times slower. Torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Greek letters must not stop the command where the terminal or a pipe has no Unicode.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments in (["--version"], ["-V"]):
        print(f"lookbehind {__version__}")
        return 0
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"lookbehind: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("lookbehind: interrupted; finished runs are kept, and the same command continues", file=sys.stderr)
        return INTERRUPTED


def _dispatch(arguments: Sequence[str]) -> int:
    try:
        from tyro.extras import SubcommandApp
    except ImportError:
        raise UserError(NEEDS_LAB) from None
    from lookbehind.cli import lab, measure
    from lookbehind.cli.compare import compare

    app, measurements = SubcommandApp(), SubcommandApp()
    app.command(compare)
    for name, command in lab.COMMANDS.items():
        app.command(command, name=name)  # type: ignore[call-overload]  # its overloads forget this form
    for command in measure.COMMANDS:
        measurements.command(command)
    app.command(measurements, name="measure", help="Measure a saved model.")
    about = "Sharpness-aware optimisation for PyTorch, measured."
    if arguments == ["measure"]:
        arguments = ["measure", "--help"]
    app.cli(args=list(arguments) or ["--help"], prog="lookbehind", description=about)
    return 0
