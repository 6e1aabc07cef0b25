"""A folder for data with the small dictionary and the small encoder in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fine_tuning.small import dictionary, encoder


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("data")
    dictionary(folder)
    encoder(folder / "weights" / "small")
    return folder
