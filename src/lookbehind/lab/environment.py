"""Environment of a run: all beside its settings that may move its last digits."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lookbehind import __version__

LIBRARIES = ("torch", "numpy", "scikit-learn", "safetensors", "pydantic")
SOURCE = Path(__file__).resolve().parent.parent


def environment(device: str) -> dict[str, Any]:
    """Return versions of libraries and of this code, Python, platform, device and threads, as plain values.

    Args:
        device: where the run is trained.

    Example:
        >>> environment("cpu")["device"]
        'cpu'

    """
    cuda = torch.device(device).type == "cuda" and torch.cuda.is_available()
    return {
        "libraries": _versions(),
        "lookbehind": __version__,
        "code": _code(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "machine": platform.machine(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if cuda else None,
        "threads": torch.get_num_threads(),
    }


@lru_cache(maxsize=1)
def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


@lru_cache(maxsize=1)
def _code() -> str:
    """Sixteen digits that stand for the package's source: between two releases the version says too little."""
    digest = hashlib.sha256()
    for file in sorted(SOURCE.rglob("*.py")):
        digest.update(file.relative_to(SOURCE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
