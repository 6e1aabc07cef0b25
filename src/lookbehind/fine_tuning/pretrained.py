"""Pretrained weights: found on disk or fetched from the hub, compared with the model, loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lookbehind.data import default_root
from lookbehind.data.errors import DataError

SUFFIXES = (".safetensors", ".pt", ".pth")


def find_weights(name: str, root: str | Path | None = None, *, download: bool = True) -> Path:
    """Return the file of pretrained weights.

    Args:
        name: a file; or the name of a model of timm, such as "vit_base_patch16_224.orig_in21k_ft_in1k". Its file is
            looked for as ``weights/<name>.safetensors``, ``.pt`` or ``.pth`` under the root, and then on the hub, if
            ``huggingface_hub`` is installed.
        root: the folder for data. Default ``lookbehind.data.default_root()``.
        download: ask the hub. Default True.

    Returns:
        The path of the file.

    Raises:
        DataError: a ``ValueError``, if it is nowhere.

    """
    given = Path(name).expanduser()
    if given.is_file():
        return given
    folder = (default_root() if root is None else Path(root).expanduser()) / "weights"
    for suffix in SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    nowhere = f"the weights {name!r} are neither a file nor {folder / name}.safetensors"
    if not download:
        raise DataError(f"{nowhere}; put them there, or let them be downloaded")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise DataError(
            f"{nowhere}; put them there, or have them downloaded from huggingface.co/timm: pip install huggingface_hub"
        ) from None
    try:
        return Path(hf_hub_download(f"timm/{name}", "model.safetensors"))
    except Exception as error:  # of many kinds: no network, no such name, no space
        first = str(error).strip().split("\n")[0]
        raise DataError(f"{nowhere}, and huggingface.co/timm did not give them ({first})") from error


def load_weights(model: nn.Module, path: str | Path, *, new: Collection[str] = ()) -> nn.Module:
    """Load a file of weights into a model. All of them must fit, but for those that are said to be new.

    Args:
        model: the model; ``VisionTransformer`` has timm's names.
        path: a ``.safetensors`` file, or one of ``torch.save`` with a dict of tensors.
        new: submodules that keep what they have, such as ``("head",)`` for other classes. Default: none.

    Returns:
        The model.

    Raises:
        DataError: if the file is missing, damaged, or of another model. The model is then as it was.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> torch.save(nn.Linear(2, 3).state_dict(), folder.name + "/linear.pt")
        >>> load_weights(nn.Linear(2, 3), folder.name + "/linear.pt")
        Linear(in_features=2, out_features=3, bias=True)

    """
    path = Path(path)
    return fit_in(model, read_weights(path), f"{path}", new)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights, without running code that it may hold.

    Raises:
        DataError: if it is missing or damaged.

    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except ImportError as error:
        raise DataError(f"{path} needs the package safetensors: pip install safetensors") from error
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise DataError(
            f"{path} cannot be read as weights ({type(error).__name__}): it is damaged or another kind of file; "
            "fetch it anew"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataError(f"{path} holds something else than a dict of tensors; save model.state_dict() itself")
    return weights


def fit_in(model: nn.Module, weights: Mapping[str, Tensor], where: str, new: Collection[str] = ()) -> nn.Module:
    """Load weights into a model, all or none.

    Raises:
        DataError: if names or shapes differ; it names the first.

    """

    def kept(names: Collection[str]) -> set[str]:
        return {name for name in names if not any(name.startswith(f"{module}.") for module in new)}

    own = model.state_dict()
    wanted, given = kept(own), kept(weights)
    hint = "use the model that they were trained with"
    if missing := sorted(wanted - given):
        raise DataError(f"{where} lacks {missing[0]} and {len(missing) - 1} other weights of the model; {hint}")
    if surplus := sorted(given - wanted):
        raise DataError(f"{where} has {surplus[0]} and {len(surplus) - 1} other weights that the model lacks; {hint}")
    for name in sorted(wanted):
        theirs, ours = tuple(weights[name].shape), tuple(own[name].shape)
        if theirs != ours:
            raise DataError(f"{where} has {name} of shape {theirs} and the model of shape {ours}; {hint}")
    model.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    return model
