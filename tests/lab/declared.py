"""Be another process, as far as studies go."""

from __future__ import annotations

import sys
from typing import Any

from lookbehind.data import DATASETS
from lookbehind.lab import build, declared
from lookbehind.lab.work import IMAGES, forward_flops
from lookbehind.models import MODELS


def forget() -> None:
    """Forget what studies outside the package have declared."""
    things: dict[str, tuple[dict[str, Any], str]] = {
        "method": (declared.METHODS, "build"),
        "model": (MODELS, "builder"),
        "dataset": (DATASETS, "read"),
    }
    for kind, name in list(declared.SOURCES):
        registry, function = things[kind]
        module = getattr(getattr(registry.get(name), function, None), "__module__", "")
        if module.startswith("lookbehind."):
            continue
        del declared.SOURCES[kind, name]
        registry.pop(name, None)
        IMAGES.pop(name, None)
        sys.modules.pop(module, None)
        for remembered in (forward_flops, build.loaded, build._source, build.fetched):
            remembered.cache_clear()
