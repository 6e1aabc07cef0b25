"""`lookbehind measure sharpness | noise | spectrum | slice | quantisation`: measurements of a saved model."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from lookbehind.cli._mistakes import NEEDS_LAB, UserError, usable

if TYPE_CHECKING:
    from torch import nn

    from lookbehind.data import Data, Part

PartName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Saved:
    """A saved model, and the data that it belongs to.

    Args:
        weights: file with the model's state_dict, as safetensors or from torch.save; a checkpoint that has it under
            "model" will do.
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
        try:
            loaded = data.load(
                self.data, self.root, seed=self.seed, train=self.train, noise=self.label_noise, size=self.size
            )
        except ValueError as error:
            raise UserError(str(error)) from None
        except ImportError:
            raise UserError(NEEDS_LAB) from None
        model = self._build(loaded)
        _fill(model, self.weights)
        return model.to(self.device), loaded.to(self.device)

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
        from lookbehind import models

        if ":" not in self.model:
            try:
                return models.build(self.model, channels=loaded.channels, classes=len(loaded.classes))
            except ValueError as error:
                raise UserError(f"--{error}, or module:function") from None
        module, function = self.model.split(":", 1)
        sys.path.insert(0, os.getcwd())  # the user's own file, beside which the command is called
        try:
            built: nn.Module = getattr(importlib.import_module(module), function)()
        except (ImportError, AttributeError, TypeError) as error:
            raise UserError(f"--model is {self.model!r}, which cannot be called without arguments ({error})") from None
        return built


Subject = Annotated[Saved, OmitArgPrefixes]


def sharpness(
    saved: Subject,
    radius: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    perturbation: Literal["sam", "asam"] = "sam",
    steps: int = 1,
    mode: Literal["eval", "train"] = "eval",
    part: PartName = "train",
) -> None:
    """Measure m-sharpness (eq. 5): how much worse the loss gets within a radius of the weights.

    Args:
        saved: model and data.
        radius: radii at which it is measured.
        perturbation: sam for a ball, asam for one that follows the weights' sizes.
        steps: ascent steps; 1 as in the paper.
        mode: of batch norm.
        part: images to measure on.

    """
    from torch.nn.functional import cross_entropy

    from lookbehind.measure import m_sharpness

    model, data = saved.load()
    minibatches = saved.minibatches(getattr(data, part))
    with _mistakes():
        found = m_sharpness(
            model, cross_entropy, minibatches, sorted(set(radius)), perturbation=perturbation, steps=steps, mode=mode
        )
    heads = ["radius r", f"{found.m}-sharpness"]
    _show(saved, "sharpness", found, heads, zip(found.radii, found.values, strict=True), f"loss {found.loss:.4f}")


def noise(
    saved: Subject,
    sigma: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    draws: int = 10,
    weights_only: bool = False,
    part: PartName = "test",
) -> None:
    """Measure accuracy with noisy weights (section 4.4), batch-norm statistics estimated anew on training images.

    Args:
        saved: model and data.
        sigma: sizes of the noise, relative to each parameter.
        draws: how often noise is drawn for each size.
        weights_only: leave biases and batch norm without noise.
        part: images to measure on.

    """
    from lookbehind.measure import noisy_accuracy

    model, data = saved.load()
    train, test = saved.minibatches(data.train), saved.minibatches(getattr(data, part))
    with _mistakes():
        found = noisy_accuracy(
            model, train, test, sorted(set(sigma)), draws=draws, weights_only=weights_only, seed=saved.seed
        )
    rows = zip(found.sigmas, found.means, found.stds, strict=True)
    _show(saved, "noise", found, ["noise σ", "accuracy %", "std over draws"], rows, f"{draws} draws")


def spectrum(
    saved: Subject,
    top: int = 5,
    steps: int = 100,
    draws: int = 100,
    probes: int = 10,
    images: int = 1000,
    mode: Literal["eval", "train"] = "eval",
    part: PartName = "train",
) -> None:
    """Measure the Hessian's largest eigenvalues, its trace and its spectral density.

    Args:
        saved: model and data.
        top: how many eigenvalues.
        steps: Lanczos steps at most.
        draws: random vectors for the trace.
        probes: random vectors for the density.
        images: how many images to measure on, at most.
        mode: of batch norm.
        part: images to measure on.

    """
    from torch.nn.functional import cross_entropy

    from lookbehind.measure import hessian_trace, spectral_density, top_eigenvalues

    model, data = saved.load()
    minibatches = saved.first(images, getattr(data, part))
    options: Any = {"mode": mode, "seed": saved.seed}
    with _mistakes():
        eigenvalues = top_eigenvalues(model, cross_entropy, minibatches, top=top, steps=steps, **options)
        trace = hessian_trace(model, cross_entropy, minibatches, draws=draws, **options)
        density = spectral_density(model, cross_entropy, minibatches, probes=probes, **options)
    rows: list[tuple[str, float, str]] = [
        (f"λ{i}", value, f"{residual:.1g}")
        for i, (value, residual) in enumerate(zip(eigenvalues.values, eigenvalues.residuals, strict=True), 1)
    ]
    rows.append(("trace", trace.trace, f"{trace.standard_error:.2g}"))
    doubts = [
        sentence
        for fine, sentence in (
            (eigenvalues.converged, "eigenvalues have not converged: more --steps"),
            (trace.converged, "the trace is uncertain: more --draws"),
        )
        if not fine
    ]
    _show(saved, "eigenvalues", eigenvalues, ["", "value", "error"], rows, "; ".join(doubts) or "converged")
    _write(saved, "trace", trace)
    _write(saved, "density", density)


def slice(  # the field's word, which hides a builtin in this file only
    saved: Subject,
    direction: tuple[Literal["random", "sam", "asam"], ...] = ("random",),
    span: tuple[float, ...] = (1.0,),
    points: int = 21,
    images: int = 1000,
    mode: Literal["eval", "train"] = "eval",
    part: PartName = "train",
) -> None:
    """Measure the loss along one direction, or over the plane of two.

    Args:
        saved: model and data.
        direction: one or two of random (normalised by filters), sam and asam (the ascent direction of each).
        span: how far each goes to both sides: in units of the filters' norms, or as ρ along the ascent.
        points: points along each direction.
        images: how many images to measure on, at most.
        mode: of batch norm.
        part: images to measure on.

    """
    from torch.nn.functional import cross_entropy

    from lookbehind.measure import loss_slice

    model, data = saved.load()
    minibatches = saved.first(images, getattr(data, part))
    options: Any = {"points": points, "mode": mode, "seed": saved.seed}
    with _mistakes():
        found = loss_slice(
            model, cross_entropy, minibatches, direction, span=span if len(span) > 1 else span[0], **options
        )
    lowest, highest = min(map(min, found.losses)), max(map(max, found.losses))
    rows = [("at the weights", found.loss), ("lowest", lowest), ("highest", highest)]
    _show(saved, "slice", found, ["", "loss"], rows, " × ".join(found.directions))


def quantisation(
    saved: Subject,
    bits: tuple[int, ...] = (8, 4),
    calibrate: bool = False,
    part: PartName = "test",
) -> None:
    """Measure accuracy with weights of few bits, scaled per tensor and per output channel.

    Args:
        saved: model and data.
        bits: bits of a weight.
        calibrate: estimate batch-norm statistics anew on training images.
        part: images to measure on.

    """
    from lookbehind.measure import quantised_accuracy

    model, data = saved.load()
    train = saved.minibatches(data.train) if calibrate else None
    with _mistakes():
        found = quantised_accuracy(model, saved.minibatches(getattr(data, part)), bits=bits, train_minibatches=train)
    rows: list[tuple[str, float, float]] = [("float", found.accuracy, found.accuracy)]
    rows += [(str(b), t, c) for b, t, c in zip(found.bits, found.per_tensor, found.per_channel, strict=True)]
    heads = ["bits", "accuracy %, scale per tensor", "scale per channel"]
    _show(saved, "quantisation", found, heads, rows, "batch norm estimated anew" if calibrate else "")


COMMANDS = (sharpness, noise, spectrum, slice, quantisation)


@contextmanager
def _mistakes() -> Iterator[None]:
    """What a measurement refuses is the user's mistake."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"--{error}") from None


def _fill(model: nn.Module, path: Path) -> None:
    """Load weights, without unpickling anything but tensors and plain values."""
    from lookbehind import checkpoint

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = checkpoint.load(path)
            state = state.get("model", state)
        model.load_state_dict(state)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except checkpoint.CheckpointError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # safetensors has errors of its own, and load_state_dict many lines
        first = str(error).strip().splitlines()
        reason = " ".join(line.strip() for line in first[:2])
        raise UserError(f"{path} does not fit the model: {reason[:300]}; see --model, --data and --size") from None


def _show(saved: Saved, name: str, found: Any, heads: list[str], rows: Any, caption: str) -> None:
    """Print a table, and write what it shows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{saved.weights.name}: {name}", box=box.SIMPLE_HEAD, caption=caption)
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.4g}" for value in row))
    Console().print(table)
    _write(saved, name, found)


def _write(saved: Saved, name: str, found: Any) -> None:
    """Write numbers and picture."""
    record = {
        "model": saved.model,
        "weights": str(saved.weights),
        "data": saved.data,
        "seed": saved.seed,
        "train": saved.train,
        "label_noise": saved.label_noise,
        "batch": saved.batch,
        "result": found.to_dict(),
    }
    paths = [saved.output / f"{name}.{ending}" for ending in ("json", "png", "svg")]
    try:
        saved.output.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps(record, indent=1) + "\n")
        figure = found.plot().get_figure()
        for path in paths[1:]:
            figure.savefig(path, dpi=150)
    except OSError as error:
        raise UserError(f"{error.filename or saved.output} cannot be written ({error.strerror or error})") from None
    print("Written: " + ", ".join(map(str, paths)))
