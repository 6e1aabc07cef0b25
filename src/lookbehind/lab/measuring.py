"""Measurements of finished runs, from their weights on disk."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lookbehind.data import Data, Part
from lookbehind.fine_tuning import Corpus
from lookbehind.fine_tuning.texts import Texts
from lookbehind.lab.build import loss_of
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
    Workload,
)
from lookbehind.lab.store import Store
from lookbehind.lab.workloads import training
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
    trained: Any = training(run, device)
    if not hasattr(trained, "examples"):
        raise TypeError(f"the workload is a {type(run.workload).__name__}; only classifiers are measured")
    model, data = trained.model, trained.examples
    model.load_state_dict(weights)
    start = time.perf_counter()
    values = _values(run, measurement, model, data)
    about = {"seconds": time.perf_counter() - start, "environment": environment(device)}
    store.save_measurement(run, measurement, finite(values), about)


def _values(run: Run, measurement: Measurement, model: nn.Module, data: Data | Corpus) -> dict[str, Any]:
    workload: Any = run.workload
    batch = workload.batch
    loss = loss_of(workload) if isinstance(workload, Workload) else nn.functional.cross_entropy
    match measurement:
        case SharpnessSettings():
            # η = 0 is eq. 8 to the letter.
            rule = Euclidean() if measurement.perturbation == "sam" else Adaptive(eta=0.0)
            minibatches = first(data.train, measurement.images).minibatches(measurement.m)
            found = m_sharpness(model, loss, minibatches, measurement.radii, perturbation=rule, steps=measurement.steps)
            return found.to_dict()
        case NoiseSettings():
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
            test, train = data.test.minibatches(batch), data.train.minibatches(batch)
            return quantised_accuracy(model, test, measurement.bits, train_minibatches=train).to_dict()
        case EigenvalueSettings():
            minibatches = first(data.train, measurement.images).minibatches(measurement.m)
            return top_eigenvalues(model, loss, minibatches, steps=measurement.steps).to_dict()
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


def first(part: Part | Texts, images: int | None) -> Part | Texts:
    """Return the first so many examples of a part, or all of them."""
    if images is None or images >= len(part):
        return part
    index = torch.arange(images)
    if isinstance(part, Texts):
        return replace(part, inputs=part.inputs[index], labels=part.labels[index], lengths=part.lengths[index])
    return replace(part, pixels=part.pixels[index], labels=part.labels[index.to(part.labels.device)])
