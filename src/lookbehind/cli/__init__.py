"""The command line: `lookbehind`."""

from lookbehind.cli.main import main

__all__ = ["main"]
