"""The random state that dropout draws from, on the CPU and on the parameters' devices."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

RandomState = dict[torch.device, Tensor]


def random_state(devices: Iterable[torch.device]) -> RandomState:
    """Return torch's random state on the CPU and on devices."""
    state = {torch.device("cpu"): torch.get_rng_state()}
    for device in set(devices) - set(state):
        state[device] = torch.get_device_module(device).get_rng_state(device)
    return state


def set_random_state(state: RandomState) -> None:
    """Go back to a random state."""
    for device, value in state.items():
        if device.type == "cpu":
            torch.set_rng_state(value)
        else:
            torch.get_device_module(device).set_rng_state(value, device)
