"""The study itself, to which the other files of this folder add methods and items."""

from __future__ import annotations

from pathlib import Path

from lookbehind.lab.estimate import A100, TWO_CORES
from lookbehind.lab.study import Study

study = Study(
    "The league: what a gradient buys",
    scales=("smoke", "cpu", "paper"),
    devices={"smoke": TWO_CORES, "cpu": TWO_CORES, "paper": A100},
    costs=Path(__file__).parent / "costs.csv",
)
