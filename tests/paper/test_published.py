"""The published numbers, against another transcription of the paper's tables."""

from __future__ import annotations

import pytest

from lookbehind.lab.cell import Published
from lookbehind.paper.published import published, values

# As printed: CIFAR-10 with ResNet-34 and WRN-28-2, CIFAR-100 with ResNet-50 and WRN-28-10, ImageNet with ResNet-18.
PAIRS = [
    ("CIFAR-10", "ResNet-34"),
    ("CIFAR-10", "WRN-28-2"),
    ("CIFAR-100", "ResNet-50"),
    ("CIFAR-100", "WRN-28-10"),
    ("ImageNet", "ResNet-18"),
]
TABLE_1 = """
SGD             95.84 .13  93.58 .11  74.35 1.23  78.80 .08  69.91 .04
Lookahead-SGD   95.59 .21  94.01 .02  75.96 .12   78.53 .18  69.63 .12
SAM             95.80 .07  93.93 .20  76.57 .59   80.50 .06  70.01 .06
Multistep-SAM   95.72 .15  94.39 .09  77.03 .65   80.55 .06  69.92 .07
Lookahead-SAM   95.80 .11  93.97 .17  76.16 .98   80.09 .10  69.99 .07
Lookbehind-SAM  96.27 .07  94.81 .22  78.62 .48   80.99 .02  70.16 .08
ASAM            96.32 .02  94.41 .09  78.62 .67   81.67 .28  70.15 .06
Multistep-ASAM  95.91 .14  95.06 .15  77.81 .52   81.67 .06  70.06 .01
Lookahead-ASAM  96.01 .15  94.28 .04  77.55 1.10  80.97 .17  70.00 .11
Lookbehind-ASAM 96.54 .21  95.23 .01  78.86 .29   82.16 .09  70.23 .22
"""
TABLE_8_NEW = """
Multistep-SAM + average grads    95.74 .25  94.55 .22  76.97 .57  80.58 .21  70.01 .07
Lookbehind-SAM + adaptive alpha  96.33 .04  94.88 .12  78.33 .36  80.86 .13  70.07 .12
Multistep-ASAM + average grads   95.91 .24  94.92 .09  78.39 .52  81.35 .36  70.11 .03
Lookbehind-ASAM + adaptive alpha 96.57 .03  95.08 .15  78.89 .45  81.86 .22  70.16 .08
"""
TABLE_5 = """
SAM   164.66 9.87   141.33 15.45  167.66 21.06  172.00 9.00  83.66 2.05
ASAM  164.00 12.83  158.66 29.45  178.66 3.77   179.50 4.50  86.00 2.16
"""


def printed(text: str) -> dict[tuple[str, str, str], Published]:
    found = {}
    for line in text.strip().splitlines():
        words = line.split()
        numbers = list(map(float, words[-10:]))
        for (dataset, model), mean, std in zip(PAIRS, numbers[::2], numbers[1::2], strict=True):
            found[dataset, model, " ".join(words[:-10])] = Published(mean, std)
    return found


@pytest.mark.parametrize(
    ("number", "text", "metric"),
    [
        (1, TABLE_1, "val_accuracy_pct"),
        (8, TABLE_8_NEW, "val_accuracy_pct"),
        (5, TABLE_5, "best_epoch"),
    ],
)
def test_values_are_those_printed(number: int, text: str, metric: str) -> None:
    for (dataset, model, method), value in printed(text).items():
        assert published(number, dataset, model, method, metric) == value


def test_tables_that_repeat_each_other_agree() -> None:
    for (table, dataset, model, method, metric), value in values().items():
        if table in ("3", "8"):
            others = [values().get((other, dataset, model, method, metric)) for other in ("1", "3", "8")]
            assert {other for other in others if other is not None} == {value}


def test_there_are_as_many_values_as_in_the_paper() -> None:
    counts = {number: sum(key[0] == number for key in values()) for number in "1234589"}
    # 10 × 5, 10 × 4, 4 × 5, 7 × 2, 2 × 5, 8 × 5, 5
    assert counts == {"1": 50, "2": 40, "3": 20, "4": 14, "5": 10, "8": 40, "9": 5}


def test_table_9_and_a_number_without_spread() -> None:
    row = ("CIFAR-100", "WRN-28-10")
    assert published(9, *row, "Lookbehind-ASAM", "test_accuracy_pct") == Published(84.0, 0.18)
    assert published(9, *row, "SGD", "test_accuracy_pct") == Published(81.56, 0.13)
    assert published(4, "ImageNet", "ViT-Base", "SGD") == Published(81.79, None)
    with pytest.raises(KeyError):
        published(1, *row, "Adam")
