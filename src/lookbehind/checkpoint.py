"""Checkpoints that survive being killed: written whole or not at all, and checked when read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from lookbehind._atomic import atomic_write


class CheckpointError(ValueError):
    """A file that is damaged, or no checkpoint."""


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write a checkpoint: to a temporary name, through to the disk, then under its own name.

    Whenever the process is killed, the file is the previous checkpoint or this one.

    Args:
        path: where the checkpoint goes.
        state: what ``torch.load(weights_only=True)`` can read: tensors, numbers, strings, lists and dicts of them, such
            as the ``state_dict`` of models, optimizers, schedulers and scalers, and random states.

    Raises:
        OSError: if it cannot be written. The previous checkpoint, if any, is then as it was.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> save(folder.name + "/last.pt", {"step": 3, "random": torch.get_rng_state()})
        >>> load(folder.name + "/last.pt")["step"]
        3

    """
    with atomic_write(Path(path)) as file:
        torch.save(state, file)


def load(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint, without unpickling anything but tensors and plain values.

    ``torch.load`` does not notice a flipped bit; the checksums in the file are compared here.

    Args:
        path: the checkpoint.
        map_location: as for ``torch.load``. Default "cpu".

    Returns:
        What was saved.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is truncated or damaged, or no checkpoint.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged: the checksum of {damaged} is wrong; use an older checkpoint")
        state = torch.load(path, map_location=map_location, weights_only=True)
    except (FileNotFoundError, IsADirectoryError, CheckpointError):
        raise
    except zipfile.BadZipFile as error:
        advice = "use an older checkpoint, or save a model's state_dict()"
        raise CheckpointError(f"{path} is truncated, or no file of torch.save ({error}); {advice}") from error
    except Exception as error:  # whatever a hostile or damaged file makes torch raise
        raise CheckpointError(
            f"{path} holds something else than tensors and plain values, or is damaged; save a model's state_dict(), "
            "not the model"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is no checkpoint: it holds {type(state).__name__} instead of a dict")
    return state
