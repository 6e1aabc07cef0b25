"""Checkpoints that survive being killed: written whole or not at all, and checked when read."""

from __future__ import annotations

import io
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from lookbehind._atomic import atomic_write

_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the pickled number that torch wrote first before 1.6


class CheckpointError(ValueError):
    """A file that is damaged or no checkpoint, or a state that ``load`` could not read."""


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write a checkpoint: to a temporary name, through to the disk, then under its own name.

    Whenever the process is killed, the file is the previous checkpoint or this one. An existing file keeps its mode. If
    the path is a symbolic link, its target is written.

    Args:
        path: file of the checkpoint.
        state: what ``torch.load(weights_only=True)`` can read: tensors, numbers, strings, lists and dicts of them, such
            as the ``state_dict`` of models, optimizers, schedulers and scalers, and random states. A NumPy number is
            saved as the Python number.

    Raises:
        CheckpointError: if ``load`` could not read an entry. The message names it, and nothing is written.
        OSError: if the file cannot be written. The previous checkpoint, if any, is then as it was.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> save(folder.name + "/last.pt", {"step": 3, "random": torch.get_rng_state()})
        >>> load(folder.name + "/last.pt")["step"]
        3

    """
    if not isinstance(state, dict):
        raise CheckpointError(f"the state is a {type(state).__name__}; save a dict of tensors and plain values")
    try:
        state = _readable(state, ())
    except RecursionError:
        raise CheckpointError("the state is nested too deeply, or contains itself; save flat dicts and lists") from None
    with atomic_write(Path(path)) as file:
        torch.save(state, file)


def _readable(value: Any, place: tuple[Any, ...]) -> Any:
    """Return a value with Python numbers for NumPy's, or raise ``CheckpointError`` if ``load`` would refuse it."""
    kind = type(value)
    if kind in (dict, OrderedDict):
        items = {_readable(key, (*place, key)): _readable(item, (*place, key)) for key, item in value.items()}
        metadata = _readable(vars(value), place) if kind is OrderedDict else None  # such as a state_dict's versions
        if all(new is key and items[new] is value[key] for new, key in zip(items, value, strict=True)):
            return value
        changed = kind(items)
        if metadata:
            changed.__dict__.update(metadata)
        return changed
    if kind in (list, tuple, set):
        entries = [_readable(item, (*place, i)) for i, item in enumerate(value)]
        return value if all(new is old for new, old in zip(entries, value, strict=True)) else kind(entries)
    if kind in (type(None), bool, float, str) or (kind is int and abs(value) < 1 << 63):
        return value
    if kind in (torch.Tensor, torch.nn.Parameter) and not vars(value):
        return value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and type(value.item()) is not kind:
        return _readable(value.item(), place)
    try:  # what else torch reads depends on its version, and on what the user has declared to be safe
        file = io.BytesIO()
        torch.save(value, file)
        file.seek(0)
        torch.load(file, map_location="cpu", weights_only=True)
    except RecursionError:
        raise
    except Exception as error:
        where = " -> ".join(repr(key)[:200] for key in place) or "the state"
        advice = "its state_dict()" if hasattr(value, "state_dict") else "tensors, numbers, strings, lists and dicts"
        raise CheckpointError(f"{where} is of type {kind.__name__}, which load cannot read; save {advice}") from error
    return value


def load(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint, without unpickling anything but tensors and plain values.

    ``torch.load`` does not notice a flipped bit; the checksums in the file are compared here.

    Args:
        path: the checkpoint.
        map_location: as for ``torch.load``. Default "cpu".

    Returns:
        What was saved.

    Raises:
        OSError: if there is no such file, or it may not be read.
        CheckpointError: if the file is truncated or damaged, no checkpoint, or in torch's old format.

    """
    with open(path, "rb") as file:
        if file.read(len(_OLD_FORMAT)) == _OLD_FORMAT:
            raise CheckpointError(
                f"{path} has the format of torch before 1.6, which has no checksums; read it with "
                "torch.load(path, weights_only=True), and save it again with torch.save"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged: the checksum of {damaged} is wrong; use an older checkpoint")
        state = torch.load(path, map_location=map_location, weights_only=True)
    except CheckpointError:
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
