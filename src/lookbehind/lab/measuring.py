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
from lookbehind.lab.run import Measurement, NoiseSettings, Run, SharpnessSettings
from lookbehind.lab.store import Store
from lookbehind.measure import m_sharpness, noisy_accuracy
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


def first(part: Part, images: int | None) -> Part:
    """Return the first so many images of a part, or all of them."""
    if images is None:
        return part
    index = torch.arange(min(images, len(part)))
    return replace(part, pixels=part.pixels[index], labels=part.labels[index.to(part.labels.device)])
