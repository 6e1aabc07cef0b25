"""A saved model that the command line is asked to measure, and the data that it belongs to."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from lookbehind.cli.errors import NEEDS_LAB, UserError, reason, usable, writable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lookbehind.data import Data, Part


# What the library calls the data's options, and the command line's words for them.
OPTIONS = {"dataset": "--data", "noise": "--label-noise", "train": "--train", "size": "--size"}
WRAPPERS = ("module", "_orig_mod", "model")


@dataclass(frozen=True)
class Saved:
    """A saved model, and the data that it belongs to.

    Args:
        weights: file with the model's state_dict, as safetensors or from torch.save; a checkpoint that has it under
            "model", "state_dict" or "model_state_dict" will do, and so will names with "module.", "_orig_mod." or
            "model." before them.
        model: a name of `lookbehind.models`, such as convnet or wrn-28-10, or module:function, which is called without
            arguments and returns the module.
        data: a name of `lookbehind.data`, such as digits, fashion-mnist or cifar10.
        root: folder with the data sets; if not said, $LOOKBEHIND_DATA or the user's cache folder.
        seed: of the split, the subset and the label noise in training; also of what the measurement draws.
        train: number of training images in training; if not said, the data set's default.
        label_noise: fraction of the training labels that were drawn anew in training.
        size: height of the images, where the data set has a choice.
        batch: images a minibatch; for m-sharpness this is m.
        device: where to measure, such as cpu, cuda or mps.
        output: folder for numbers (JSON) and picture (PNG, SVG).

    """

    weights: Positional[Path]
    model: str = "convnet"
    data: str = "digits"
    root: Path | None = None
    seed: int = 0
    train: int | None = None
    label_noise: float = 0.0
    size: int | None = None
    batch: int = 128
    device: str = "cpu"
    output: Path = Path("measure")

    def load(self) -> tuple[nn.Module, Data]:
        """Return the model with its weights, and the data, on the device."""
        from lookbehind import data

        usable(self.device)
        if not 0 <= self.seed < 1 << 63:
            raise UserError(f"--seed is {self.seed}; a whole number from 0 to 2^63 - 1 is needed")
        try:
            loaded = data.load(
                self.data, self.root, seed=self.seed, train=self.train, noise=self.label_noise, size=self.size
            )
        except ValueError as error:
            name, _, rest = str(error).partition(" ")
            raise UserError(f"{OPTIONS.get(name, name)} {rest}") from error
        except ImportError as error:
            raise UserError(NEEDS_LAB) from error
        model = self._build(loaded)
        _fill(model, self.weights)
        model, loaded = model.to(self.device), loaded.to(self.device)
        self._try(model, loaded)
        writable(self.output, "--output")
        return model, loaded

    def minibatches(self, part: Part) -> Any:
        """Return a part of the data in order."""
        if self.batch < 1:
            raise UserError(f"--batch is {self.batch}; at least 1 is needed")
        return part.minibatches(self.batch)

    def first(self, images: int, part: Part) -> Any:
        """Return the first images of a part, in minibatches."""
        if images < 1:
            raise UserError(f"--images is {images}; at least 1 is needed")
        return list(islice(self.minibatches(part), -(-images // self.batch)))

    def _build(self, loaded: Data) -> nn.Module:
        from torch import nn

        from lookbehind import models

        if ":" not in self.model:
            try:
                return models.build(self.model, channels=loaded.channels, classes=len(loaded.classes))
            except ValueError as error:
                raise UserError(f"--{error}, or module:function") from error
        module, function = self.model.split(":", 1)
        if not module or not function:
            raise UserError(f"--model is {self.model!r}; a name of lookbehind.models or module:function is needed")
        sys.path.insert(0, os.getcwd())  # the user's own file, beside which the command is called
        importlib.invalidate_caches()
        try:
            make = getattr(importlib.import_module(module), function)
        except (Exception, SystemExit) as error:  # whatever is in the user's file
            raise UserError(f"--model is {self.model!r}, which cannot be imported ({reason(error)})") from error
        try:
            built = make()
        except (Exception, SystemExit) as error:
            raise UserError(
                f"--model is {self.model!r}, which cannot be called without arguments ({reason(error)})"
            ) from error
        if not isinstance(built, nn.Module):
            raise UserError(f"--model is {self.model!r}, which returns a {type(built).__name__}; a module is needed")
        return built

    def _try(self, model: nn.Module, loaded: Data) -> None:
        """Refuse a model that does not return one number for each class of the data."""
        import torch

        from lookbehind._minibatch import form_of, logits_of

        images, _ = next(iter(loaded.train.minibatches(2)))
        modes = [(module, module.training) for module in model.modules()]
        try:
            with torch.no_grad():
                outputs = model.eval()(images)
        except Exception as error:
            raise UserError(
                f"model {self.model} fails on images of shape {tuple(images.shape)} ({reason(error)}); "
                "see --model, --data and --size"
            ) from error
        finally:
            for module, training in modes:
                module.training = training
        needed = len(images), len(loaded.classes)
        try:
            logits = logits_of(outputs)
        except ValueError as error:
            raise UserError(
                f"model {self.model} returns {form_of(outputs)}; needed is a tensor of shape {needed}, a tuple that "
                "begins with one, or an output or a dict with one as its logits"
            ) from error
        if logits.shape != needed:
            raise UserError(
                f"model {self.model} returns shape {tuple(logits.shape)} for {len(images)} images; "
                f"{needed} is needed, since {self.data} has {len(loaded.classes)} classes"
            )


def cross_entropy(outputs: Any, targets: Any) -> Tensor:
    """Return the cross-entropy of the classes in whatever a model returned."""
    from torch.nn.functional import cross_entropy

    from lookbehind._minibatch import logits_of

    return cross_entropy(logits_of(outputs), targets)


def _fill(model: nn.Module, path: Path) -> None:
    """Load weights, without unpickling anything but tensors and plain values."""
    from lookbehind import checkpoint

    state: Any = None
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = checkpoint.load(path)
            state = next((state[key] for key in ("model", "state_dict", "model_state_dict") if key in state), state)
        model.load_state_dict(_bare(state, model.state_dict()))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; the file with the model's state_dict is needed") from error
    except checkpoint.CheckpointError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # safetensors has errors of its own, and load_state_dict many lines
        first = str(error).strip().splitlines()
        why = " ".join(line.strip() for line in first[:2])[:300]
        has = f"; it holds {', '.join(map(str, list(state)[:4]))}, ..." if state else ""
        raise UserError(f"{path} does not fit the model: {why}{has}; see --model, --data and --size") from error


def _bare(state: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return a state without what DDP, ``torch.compile``, Lightning and weight averages put before each name."""
    if not wanted.keys() & state.keys():
        first = next(iter(wanted), "")
        for name in map(str, state):
            prefix = name.removesuffix(first)
            if {*prefix.split(".")} <= {*WRAPPERS, ""} and all(prefix + rest in state for rest in wanted):
                return {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    return state
