"""Measurements of finished runs, from their weights on disk."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lookbehind.data import Data, Part
from lookbehind.lab.build import data_of, loss_of, of_images, trainer_of
from lookbehind.lab.environment import environment
from lookbehind.lab.result import finite
from lookbehind.lab.run import (
    CalibrationSettings,
    EigenvalueSettings,
    Measurement,
    NoiseSettings,
    QuantisationSettings,
    Run,
    SharpnessSettings,
)
from lookbehind.lab.store import Store
from lookbehind.measure import m_sharpness, noisy_accuracy, quantised_accuracy, top_eigenvalues
from lookbehind.measure.noise import Minibatches
from lookbehind.optim import Adaptive, Euclidean


def measure(run: Run, store: Store, measurement: Measurement, device: str) -> None:
    """Measure a finished run's weights, and keep what was found beside them.

    Raises:
        UnwritableError: if it cannot be kept.

    """
    weights = store.weights(run)
    assert weights is not None  # the caller has looked
    data = data_of(run, device)
    model = trainer_of(run, data, device).model
    model.load_state_dict(weights)
    start = time.perf_counter()
    values = _values(run, measurement, model, data)
    about = {"seconds": time.perf_counter() - start, "environment": environment(device)}
    store.save_measurement(run, measurement, finite(values), about)


def _values(run: Run, measurement: Measurement, model: nn.Module, data: Data) -> dict[str, Any]:
    match measurement:
        case SharpnessSettings():
            # η = 0 is eq. 8 to the letter.
            rule = Euclidean() if measurement.perturbation == "sam" else Adaptive(eta=0.0)
            minibatches = first(data.train, measurement.images).minibatches(measurement.m)
            loss = loss_of(of_images(run))
            found = m_sharpness(model, loss, minibatches, measurement.radii, perturbation=rule, steps=measurement.steps)
            return found.to_dict()
        case NoiseSettings():
            batch = of_images(run).batch
            noisy = noisy_accuracy(
                model,
                data.train.minibatches(batch),
                data.test.minibatches(batch),
                measurement.sigmas,
                draws=measurement.draws,
                weights_only=measurement.weights_only,
                seed=run.seed,
            )
            return noisy.to_dict()
        case QuantisationSettings():
            batch = of_images(run).batch
            test, train = data.test.minibatches(batch), data.train.minibatches(batch)
            return quantised_accuracy(model, test, measurement.bits, train_minibatches=train).to_dict()
        case EigenvalueSettings():
            minibatches = first(data.train, measurement.images).minibatches(measurement.m)
            return top_eigenvalues(model, loss_of(of_images(run)), minibatches, steps=measurement.steps).to_dict()
        case CalibrationSettings():
            return {"error": calibration(model, data.test.minibatches(256), measurement.bins)}


@torch.no_grad()
def calibration(model: nn.Module, minibatches: Minibatches, bins: int) -> float:
    r"""Return the expected calibration error in percent (Guo et al., 2017).

    .. math:: \sum_{b=1}^{B} \frac{n_b}{n} \, | \text{accuracy}_b - \text{confidence}_b |

    over B bins of the confidence, of equal width in (0, 1].
    """
    confidences, right = [], []
    model.eval()
    for images, labels in minibatches:
        confidence, predicted = model(images).softmax(1).max(1)
        confidences.append(confidence.double())
        right.append((predicted == labels).double())
    difference = torch.cat(right) - torch.cat(confidences)
    bin_of = (torch.cat(confidences) * bins).ceil().long().clamp(1, bins) - 1
    sums = torch.zeros(bins, dtype=torch.float64, device=difference.device).index_add_(0, bin_of, difference)
    return 100.0 * float(sums.abs().sum()) / len(difference)


def first(part: Part, images: int | None) -> Part:
    """Return the first so many images of a part, or all of them."""
    if images is None:
        return part
    index = torch.arange(min(images, len(part)))
    return replace(part, pixels=part.pixels[index], labels=part.labels[index.to(part.labels.device)])
