"""Errors raised when data are missing, damaged or not what they should be."""

from __future__ import annotations


class DataError(ValueError):
    """Files of a data set that are missing, damaged, or hold something else."""
