"""SGD, SAM and Lookbehind on the digits, compared by every measurement: the numbers and pictures of docs/measure.md.

pip install -e ".[lab]"
python docs/pictures/measurements.py           some twenty minutes on one core; writes docs/results/measure
python docs/pictures/measurements.py --draw    seconds; only the pictures, from the stored numbers
python docs/tables.py                          the table of the page
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot
from torch import nn

from lookbehind import SAM, Lookbehind
from lookbehind._style import COLOURS
from lookbehind.data import Data, load
from lookbehind.measure import (
    HessianTrace,
    LossSlice,
    NoisyAccuracy,
    QuantisedAccuracy,
    Sharpness,
    SpectralDensity,
    TopEigenvalues,
    alpha_trace,
    hessian_trace,
    loss_slice,
    m_sharpness,
    noisy_accuracy,
    quantised_accuracy,
    spectral_density,
    top_eigenvalues,
)
from lookbehind.models import ConvNet
from lookbehind.training import train

FOLDER = Path(__file__).resolve().parent.parent / "results" / "measure"
SEEDS, EPOCHS, RHO, K, ALPHA = 3, 20, 0.2, 2, 0.8
METHODS = ("SGD", "SAM", "Lookbehind-SAM")
METHOD_COLOURS = {"SGD": COLOURS["black"], "SAM": COLOURS["blue"], "Lookbehind-SAM": COLOURS["vermillion"]}


def trained(method: str, data: Data, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = ConvNet()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    optimizer: torch.optim.Optimizer = {
        "SGD": lambda: base,
        "SAM": lambda: SAM(base, rho=RHO, model=model),
        "Lookbehind-SAM": lambda: Lookbehind(base, rho=RHO, k=K, alpha=ALPHA, model=model),
    }[method]()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    train(model, optimizer, *data.train.tensors(), epochs=EPOCHS, seed=seed, scheduler=scheduler)
    return model


def measured(model: nn.Module, data: Data) -> dict[str, Any]:
    """Return every measurement of one model."""
    loss = nn.functional.cross_entropy
    batches, test = list(data.train.minibatches(125)), list(data.test.minibatches(125))
    return {
        "sharpness": m_sharpness(model, loss, batches, [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5]),
        "relative sharpness": m_sharpness(model, loss, batches, [0.1, 0.25, 0.5, 1.0, 1.5, 2.0], perturbation="asam"),
        "noise": noisy_accuracy(model, batches, test, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        "eigenvalues": top_eigenvalues(model, loss, batches, top=1),
        "trace": hessian_trace(model, loss, batches, draws=50),
        "density": spectral_density(model, loss, batches, probes=4),
        "slice": loss_slice(model, loss, batches, "random"),
        "ascent": loss_slice(model, loss, batches, "sam", span=0.5),
        "quantisation": quantised_accuracy(model, test, bits=(8, 6, 5, 4, 3)),
    }


def alpha_star(data: Data) -> Any:
    """Return α* during training with adaptive α."""
    torch.manual_seed(0)
    model = ConvNet()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    optimizer = Lookbehind(base, rho=RHO, k=K, alpha="adaptive", model=model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    with alpha_trace(optimizer) as recording:
        train(model, optimizer, *data.train.tensors(), epochs=EPOCHS, scheduler=scheduler)
    return recording.result()


def picture(found: dict[str, Any], trace: Any) -> None:
    figure, axes = pyplot.subplots(3, 3, figsize=(12, 9.5), layout="constrained")
    for place, name in zip(axes.flat, found["SGD"], strict=False):
        if name in ("eigenvalues", "trace"):
            continue
        for method in METHODS:
            place.set_prop_cycle(color=[METHOD_COLOURS[method]])
            before = len(place.lines)
            found[method][name].plot(place)
            for line in place.lines[before:]:
                line.set_color(METHOD_COLOURS[method])
        if place.get_legend() is not None:
            place.get_legend().remove()
        place.set_title(name)
    for place, name in ((axes.flat[3], "eigenvalues"), (axes.flat[4], "trace")):
        values = [getattr(found[m][name], "values", None) or [found[m][name].trace] for m in METHODS]
        place.bar(METHODS, [v[0] for v in values], color=[METHOD_COLOURS[m] for m in METHODS])
        place.set_title("largest eigenvalue" if name == "eigenvalues" else "trace of the Hessian")
    axes.flat[0].legend(axes.flat[0].lines, METHODS)
    axes.flat[8].text(0.97, 0.05, "□ per channel\n○ per tensor", ha="right", transform=axes.flat[8].transAxes)
    figure.savefig(FOLDER / "measurements.png", dpi=110)
    lone = trace.plot().get_figure()
    lone.savefig(FOLDER / "alpha.png", dpi=110)


KINDS = {
    "sharpness": Sharpness,
    "relative sharpness": Sharpness,
    "noise": NoisyAccuracy,
    "eigenvalues": TopEigenvalues,
    "trace": HessianTrace,
    "density": SpectralDensity,
    "slice": LossSlice,
    "ascent": LossSlice,
    "quantisation": QuantisedAccuracy,
}


def stored() -> dict[str, Any]:
    """Return the measurements of the first seed, from the file."""
    seeds = json.loads((FOLDER / "measurements.json").read_text())
    return {method: {name: KINDS[name](**found) for name, found in of.items()} for method, of in seeds["0"].items()}


def measure() -> None:
    """Train, measure, and store the numbers."""
    numbers: dict[int, dict[str, Any]] = {}
    for seed in range(SEEDS):
        data = load("digits", noise=0.4, seed=seed)
        models = {method: trained(method, data, seed) for method in METHODS}
        numbers[seed] = {
            method: {name: found.to_dict() for name, found in measured(model, data).items()}
            for method, model in models.items()
        }
    (FOLDER / "measurements.json").write_text(json.dumps(numbers) + "\n")


def main() -> None:
    """Measure, unless only the pictures are wanted, and draw."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if "--draw" not in sys.argv:
        measure()
    picture(stored(), alpha_star(load("digits", noise=0.4)))


if __name__ == "__main__":
    main()
