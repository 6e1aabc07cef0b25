"""The folder for data sets. No torch: `lookbehind models` shows it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def default_root() -> Path:
    """Return the folder for data sets: the environment variable LOOKBEHIND_DATA, else in the user's cache folder.

    For a user without a home, it is in the system's folder for temporary files.
    """
    if chosen := os.environ.get("LOOKBEHIND_DATA"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        cache = "~/Library/Caches"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "lookbehind"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / "lookbehind"
