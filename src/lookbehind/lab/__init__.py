"""The lab: runs as data, a store that loses nothing, engines that fill it, reports that read it. It knows no paper."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookbehind.lab.archive import Archive, pack
    from lookbehind.lab.cell import Candidate, Cell, Derived, chosen_on_validation
    from lookbehind.lab.engines.local import Event, fill
    from lookbehind.lab.estimate import Device
    from lookbehind.lab.execution import execute
    from lookbehind.lab.grids import grid
    from lookbehind.lab.method import Method
    from lookbehind.lab.metrics import Metric, metric
    from lookbehind.lab.parts import Declaration, Heatmap, Item, Lines, Point, Row, Scatter, Series, Style, Table
    from lookbehind.lab.result import Record, Result
    from lookbehind.lab.run import Measurement, NoiseSettings, Run, SharpnessSettings, Workload
    from lookbehind.lab.store import BusyError, DamageWarning, Store, UnwritableError
    from lookbehind.lab.study import Study

# Each is imported when it is asked for: help comes at once, and a command that only shows what is there needs no torch.
_HOMES = {
    "archive": ("Archive", "pack"),
    "cell": ("Candidate", "Cell", "Derived", "chosen_on_validation"),
    "engines.local": ("Event", "fill"),
    "estimate": ("Device",),
    "execution": ("execute",),
    "grids": ("grid",),
    "method": ("Method",),
    "metrics": ("Metric", "metric"),
    "parts": ("Declaration", "Heatmap", "Item", "Lines", "Point", "Row", "Scatter", "Series", "Style", "Table"),
    "result": ("Record", "Result"),
    "run": ("Measurement", "NoiseSettings", "Run", "SharpnessSettings", "Workload"),
    "store": ("BusyError", "DamageWarning", "Store", "UnwritableError"),
    "study": ("Study",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Archive",
    "BusyError",
    "Candidate",
    "Cell",
    "DamageWarning",
    "Declaration",
    "Derived",
    "Device",
    "Event",
    "Heatmap",
    "Item",
    "Lines",
    "Measurement",
    "Method",
    "Metric",
    "NoiseSettings",
    "Point",
    "Record",
    "Result",
    "Row",
    "Run",
    "Scatter",
    "Series",
    "SharpnessSettings",
    "Store",
    "Study",
    "Style",
    "Table",
    "UnwritableError",
    "Workload",
    "chosen_on_validation",
    "execute",
    "fill",
    "grid",
    "metric",
    "pack",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"lookbehind.lab.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
