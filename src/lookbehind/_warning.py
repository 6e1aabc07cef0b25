"""Warnings that point at the caller's own line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

OURS = tuple(str(Path(file).parent) for file in (__file__, torch.__file__ or __file__))


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the first line outside this package and torch, which is the one that the reader can change."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
