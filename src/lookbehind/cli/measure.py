"""`lookbehind measure sharpness | noise | spectrum | slice | quantisation | rho`: measurements of a saved model."""

from __future__ import annotations

import inspect
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes

from lookbehind._words import allowed
from lookbehind.cli.errors import UserError, some, writing
from lookbehind.cli.saved import Saved, cross_entropy

PartName = Literal["train", "validation", "test"]


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
    from lookbehind.measure import m_sharpness

    some("--radius", radius, "0.05 0.1")
    model, data = saved.load()
    minibatches = saved.minibatches(getattr(data, part))
    with _mistakes():
        found = m_sharpness(
            model, cross_entropy, minibatches, sorted(set(radius)), perturbation=perturbation, steps=steps, mode=mode
        )
    heads = ["radius r", f"{found.m}-sharpness"]
    _show(saved, {"sharpness": found}, heads, zip(found.radii, found.values, strict=True), f"loss {found.loss:.4f}")


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

    some("--sigma", sigma, "0.1 0.2")
    model, data = saved.load()
    train, test = saved.minibatches(data.train), saved.minibatches(getattr(data, part))
    with _mistakes():
        found = noisy_accuracy(
            model, train, test, sorted(set(sigma)), draws=draws, weights_only=weights_only, seed=saved.seed
        )
    rows = zip(found.sigmas, found.means, found.stds, strict=True)
    _show(saved, {"noise": found}, ["noise σ", "accuracy %", "std over draws"], rows, f"{draws} draws")


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
    results = {"eigenvalues": eigenvalues, "trace": trace, "density": density}
    _show(saved, results, ["", "value", "error"], rows, "; ".join(doubts) or "converged")


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
    from lookbehind.measure import loss_slice

    some("--direction", direction, "random")
    some("--span", span, "1.0")
    if direction in (("sam", "sam"), ("asam", "asam")):
        raise UserError(f"--direction is {' '.join(direction)}; two directions must differ, so choose others or one")
    model, data = saved.load()
    minibatches = saved.first(images, getattr(data, part))
    options: Any = {"points": points, "mode": mode, "seed": saved.seed}
    with _mistakes():
        found = loss_slice(
            model, cross_entropy, minibatches, direction, span=span if len(span) > 1 else span[0], **options
        )
    lowest, highest = min(map(min, found.losses)), max(map(max, found.losses))
    rows = [("at the weights", found.loss), ("lowest", lowest), ("highest", highest)]
    _show(saved, {"slice": found}, ["", "loss"], rows, " × ".join(found.directions))


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

    some("--bits", bits, "8 4")
    model, data = saved.load()
    train = saved.minibatches(data.train) if calibrate else None
    with _mistakes():
        found = quantised_accuracy(model, saved.minibatches(getattr(data, part)), bits=bits, train_minibatches=train)
    rows: list[tuple[str, float, float]] = [("float", found.accuracy, found.accuracy)]
    rows += [(str(b), t, c) for b, t, c in zip(found.bits, found.per_tensor, found.per_channel, strict=True)]
    heads = ["bits", "accuracy %, scale per tensor", "scale per channel"]
    _show(saved, {"quantisation": found}, heads, rows, "batch norm estimated anew" if calibrate else "")


def rho(
    saved: Subject,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    method: str = "sam",
    steps: int = 40,
    repeats: int = 2,
) -> None:
    """Find the range of ρ that suits a trained model, by training on from it with each ρ for a few steps.

    Args:
        saved: model and data; its validation images decide.
        lr: learning rate of SGD, that of the training's main part.
        momentum: of SGD.
        weight_decay: of SGD.
        method: a name of `lookbehind.METHODS` that has a ρ, such as sam, asam, gsam or lookbehind.
        steps: steps for each ρ.
        repeats: how often, each with other minibatches.

    """
    from torch.optim import SGD

    from lookbehind import METHODS
    from lookbehind.measure import suggest_rho

    usable = [name for name, record in METHODS.items() if "rho" in record.options and record.closures == 1]
    if method not in usable:
        raise UserError(f"--method is {method!r}; {allowed(method, usable)}")
    model, data = saved.load()
    with _mistakes():
        found = suggest_rho(
            model,
            cross_entropy,
            list(saved.minibatches(data.train)),
            list(saved.minibatches(data.validation)),
            lambda parameters: SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay),
            optimizer=lambda base, rho: METHODS[method].build(base, rho=rho),
            steps=steps,
            repeats=repeats,
            seed=saved.seed,
        )
    rows = [(f"{r:g}", score) for r, score in zip(found.rhos, found.scores, strict=True)]
    _show(saved, {"rho": found}, ["ρ", "validation accuracy %"], rows, found.conclusion)


COMMANDS = (sharpness, noise, spectrum, slice, quantisation, rho)


@contextmanager
def _mistakes() -> Iterator[None]:
    """Turn the refusal of a measurement into a sentence about the option that it names."""
    try:
        yield
    except ValueError as error:
        options = {name for command in COMMANDS for name in inspect.signature(command).parameters}
        dashes = "--" if str(error).split(" ")[0] in options else ""
        raise UserError(f"{dashes}{error}") from error


def _show(saved: Saved, results: dict[str, Any], heads: list[str], rows: Any, caption: str) -> None:
    """Write results as numbers and pictures, and print a table of the first."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{saved.weights.name}: {next(iter(results))}", box=box.SIMPLE_HEAD, caption=caption)
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.4g}" for value in row))
    try:  # first, since a closed pipe must not lose them
        with writing("--output"):
            paths = [path for name, found in results.items() for path in _write(saved, name, found)]
    finally:
        Console().print(table)
    print("Written: " + ", ".join(map(str, paths)))
    if any(_finite(found.to_dict()) != found.to_dict() for found in results.values()):
        print("Some results are not finite numbers: has the model diverged? They are null in the JSON files.")


def _write(saved: Saved, name: str, found: Any) -> list[Path]:
    """Write numbers and picture."""
    from matplotlib import pyplot

    from lookbehind.lab.files import write

    record = {
        "model": saved.model,
        "weights": str(saved.weights),
        "data": saved.data,
        "seed": saved.seed,
        "train": saved.train,
        "label_noise": saved.label_noise,
        "batch": saved.batch,
        "result": _finite(found.to_dict()),
    }
    paths = [saved.output / f"{name}.{ending}" for ending in ("json", "png", "svg")]
    write(paths[0], (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    figure = found.plot().get_figure()
    for path in paths[1:]:
        picture = io.BytesIO()
        figure.savefig(picture, format=path.suffix[1:], dpi=150)
        write(path, picture.getvalue())
    pyplot.close(figure)
    return paths


def _finite(value: Any) -> Any:
    """Return plain values with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_finite, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
