"""Data sets: tensors in memory, with seeded splits."""

from lookbehind.data.digits import Digits, load_digits

__all__ = ["Digits", "load_digits"]
