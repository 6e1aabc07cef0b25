"""The paper's tables and figures as declarations. It knows no machinery: what is run, stored and drawn is the lab's."""

from pathlib import Path

from lookbehind.lab.study import Study
from lookbehind.paper.lifelong import LIFELONG
from lookbehind.paper.sensitivity import SENSITIVITY
from lookbehind.paper.sharpness import SHARPNESS
from lookbehind.paper.stages import STAGES
from lookbehind.paper.table4 import TABLE4
from lookbehind.paper.tables import TABLES
from lookbehind.paper.workloads import DEVICES, SCALES

study = Study(
    "Lookbehind-SAM: k steps back, 1 step forward (ICML 2024)", SCALES, DEVICES, Path(__file__).parent / "costs.csv"
)
# In the paper's order: tables, then figures. Other items take their place here.
study.add(
    *sorted(
        (*TABLES, *TABLE4, *LIFELONG, *SHARPNESS, *SENSITIVITY, *STAGES),
        key=lambda item: (item.name.startswith("figure"), int("".join(filter(str.isdigit, item.name)))),
    )
)
ITEMS = study.items

__all__ = ["DEVICES", "ITEMS", "SCALES", "study"]
