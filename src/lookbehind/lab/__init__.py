"""The lab: runs as data, a store that loses nothing, engines that fill it, reports that read it. It knows no paper."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lookbehind.lab.method import Method
from lookbehind.lab.result import Record, Result
from lookbehind.lab.run import Measurement, NoiseSettings, Run, SharpnessSettings, Workload
from lookbehind.lab.store import BusyError, DamageWarning, Store, UnwritableError

if TYPE_CHECKING:
    from lookbehind.lab.engines.local import Event, fill
    from lookbehind.lab.execution import execute

__all__ = [
    "BusyError",
    "DamageWarning",
    "Event",
    "Measurement",
    "Method",
    "NoiseSettings",
    "Record",
    "Result",
    "Run",
    "SharpnessSettings",
    "Store",
    "UnwritableError",
    "Workload",
    "execute",
    "fill",
]

# Torch is imported with what trains: a command that only shows what is there needs none.
_LATER = {"Event": "engines.local", "execute": "execution", "fill": "engines.local"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"lookbehind.lab.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
