"""A measurement may do with a model what it likes, and leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from lookbehind._modes import clear_weight_caches
from lookbehind._random import random_state, set_random_state


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Let a measurement run in modes that do not depend on the caller's, and put everything back, whatever happens.

    Within, gradients are recorded, autocast and inference mode are off: who wants to measure under autocast puts it
    into the model. Afterwards the model has its tensors, with their values, in their places: weights, gradients, modes,
    buffers (those replaced, made or resized meanwhile too), hooks, and attributes that are tensors. So has torch
    its random state.
    """
    if any(is_lazy(t) for t in [*model.parameters(), *model.buffers()]):
        raise ValueError(
            "the model has lazy layers without weights yet; call it once on a minibatch before measuring it"
        )
    if any(t.is_inference() for t in [*model.parameters(), *model.buffers()]):
        raise ValueError("the model was made in inference mode, so it has no gradients; make it outside of that")
    devices = {p.device for p in model.parameters()}
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for kind in {device.type for device in devices} | {"cpu"}:
            modes.enter_context(torch.autocast(kind, enabled=False))
        random = random_state(devices)
        modules = [(module, _attributes(module)) for module in model.modules()]
        held = {id(t): t for module, _ in modules for t in _tensors(module)}
        tensors = [(t, t.detach().clone()) for t in held.values()]
        leaves = [(p, p.requires_grad, p.grad) for p in model.parameters()]
        clear_weight_caches()
        try:
            yield
        finally:
            for module, attributes in modules:
                _put_back(module, attributes)
            with torch.no_grad():
                for tensor, value in tensors:
                    if tensor.shape != value.shape:
                        tensor.resize_(value.shape)
                    tensor.copy_(value)
            for p, requires_grad, gradient in leaves:
                p.requires_grad_(requires_grad)
                p.grad = gradient
            set_random_state(random)
            clear_weight_caches()


OWN = vars(nn.Module())  # the attributes of every module: parameters, buffers, modules, hooks, mode


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are torch's own, with copies of its dicts and sets; and its tensors."""
    return {
        name: (value, value.copy() if isinstance(value, (dict, set)) else None)
        for name, value in vars(module).items()
        if name in OWN or isinstance(value, Tensor) or (name == "momentum" and isinstance(module, _BatchNorm))
    }


def _put_back(module: nn.Module, attributes: dict[str, Any]) -> None:
    for name, (value, content) in attributes.items():
        if content is not None:
            value.clear()
            value.update(content)
        vars(module)[name] = value


def _tensors(module: nn.Module) -> list[Tensor]:
    """Return the tensors that a module keeps itself: parameters, buffers, attributes."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return own + [v for v in vars(module).values() if isinstance(v, Tensor)]
