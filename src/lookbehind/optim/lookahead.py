"""Lookahead: k steps forward, 1 step back (Zhang et al., 2019), around any optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lookbehind._checks import count, fraction
from lookbehind._tensors import copy_, lerp_
from lookbehind.optim._passes import Closure
from lookbehind.optim._snapshot import Snapshot, uninterrupted, without_grad
from lookbehind.optim._wrapper import Group, Wrapper, steps_by_closure


class Lookahead(Wrapper):
    r"""Let the base optimizer take k steps with fast weights, then follow them with slow weights.

    .. math::
        \phi_t = \phi_{t-1} + \alpha (\phi_{t,k} - \phi_{t-1}), \qquad \phi_{t+1,0} = \phi_t

    where :math:`\phi_{t,1}, \dots, \phi_{t,k}` are k ordinary steps of the base optimizer from
    :math:`\phi_{t,0} = \phi_{t-1}`, each on its own minibatch (Zhang et al., 2019; algorithm 2 of Mordido et al.,
    2024, where the base is SAM). No gradients beyond the base optimizer's. The base optimizer's momentum is kept when
    fast and slow weights meet.

    Between steps the model holds the fast weights; evaluate within ``with optimizer.slow_weights():``.

    Args:
        base: any optimizer, also ``SAM(...)``.
        k: base steps in a cycle. Default 5.
        alpha: α in (0, 1], the step size of the slow weights; per group and changeable. Default 0.5.
        nonfinite: as in ``SAM``. Set it here rather than on the base.
        rollback: as in ``SAM``.

    Raises:
        TypeError: if ``base`` is not an optimizer, ``alpha`` not a number or ``k`` not a whole number.
        ValueError: if a number is out of range or a word unknown.

    Example:
        >>> import torch
        >>> from lookbehind import SAM, Lookahead
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = Lookahead(SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05), k=5, alpha=0.5)
        >>> with optimizer.slow_weights():
        ...     prediction = model(torch.randn(8, 3))

    """

    needs_closure = False

    def __init__(
        self,
        base: Optimizer,
        k: int = 5,
        alpha: float = 0.5,
        *,
        nonfinite: str = "propagate",
        rollback: str = "weights",
    ) -> None:
        self.k = count("k", k)
        self._slow: dict[Tensor, Tensor] = {}
        self._fast: dict[Tensor, Tensor] = {}  # while the model holds the slow weights
        super().__init__(base, {"alpha": alpha, "cycle_step": 0}, model=None, nonfinite=nonfinite, rollback=rollback)
        self.needs_closure = steps_by_closure(base)
        self.base_moves_last = not self.needs_closure

    def _check(self, name: str, value: Any) -> Any:
        return fraction("alpha", value) if name == "alpha" else value

    @property
    def cycle_step(self) -> int:
        """Base steps taken in the present cycle: 0 … k − 1. At 0 the model holds the slow weights."""
        return int(self.param_groups[0][self.group_key("cycle_step")])

    def slow_weights(self) -> SlowWeights:
        """Return a context in which the model holds the slow weights; outside it holds the fast ones."""
        return SlowWeights(self)

    def _closures(self, closure: Any) -> Sequence[Closure]:
        return [] if closure is None and not self.needs_closure else super()._closures(closure)

    def _snapshot(self) -> Snapshot:
        SlowWeights(self).leave()
        return super()._snapshot()

    def _update(self, closures: Sequence[Closure], start: list[Tensor]) -> None:
        slow = self._slow_of(self._weights)
        if self.cycle_step == 0:
            copy_(slow, self._weights)  # φ_{t,0} ← φ_{t-1}
        self._base_step(closures)
        if self.last_step_skipped:
            return
        cycle_step = (self.cycle_step + 1) % self.k
        if cycle_step == 0:
            for group, part in self._parts:  # φ_t ← φ_{t-1} + α (φ_{t,k} − φ_{t-1}), seen from φ_{t,k}
                lerp_(part, self._slow_of(part), 1.0 - group[self.group_key("alpha")])
        self._set(self.group_key("cycle_step"), cycle_step)

    def _base_step(self, closures: Sequence[Closure]) -> None:
        """Let the base take a step, with gradients that have passed this optimizer's checks."""
        if closures and self.needs_closure:
            self.base.step(partial(self._gradient, closures[0], perturbed=False))
            self.last_step_skipped = getattr(self.base, "last_step_skipped", False)
            return
        if closures:
            self._gradient(closures[0], perturbed=False)
        else:
            self._passes.check(self)
        self.base.step()

    def _slow_of(self, weights: list[Tensor]) -> list[Tensor]:
        """Return the slow weights, which begin as copies of the weights."""
        for p in weights:
            if p not in self._slow:
                self._slow[p] = p.detach().clone()
        return [self._slow[p] for p in weights]

    def _pack(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        if self._fast:
            raise RuntimeError(
                "state_dict() was called while the model holds the slow weights, so the fast ones would be lost; "
                "leave `with optimizer.slow_weights():` first"
            )
        state = dict(state_dict["state"])
        for index, p in _indexed(state_dict, self.param_groups):
            if p.requires_grad:
                slow = self._slow_of([p])[0] if self.cycle_step else p.detach().clone()
                state[index] = {**state.get(index, {}), self._state_key: slow}
        return {**state_dict, "state": state}

    def _unpack(self, state_dict: dict[str, Any]) -> None:
        entries = {index: dict(entry) for index, entry in state_dict["state"].items()}
        slow = {index: entry.pop(self._state_key) for index, entry in entries.items() if self._state_key in entry}
        for index, p in _indexed(state_dict, self.param_groups):
            if index in slow and slow[index].shape != p.shape:
                raise ValueError(
                    f"the slow weights of {self._name(p)} have shape {tuple(slow[index].shape)} in the state to load; "
                    f"{tuple(p.shape)} is needed"
                )
        super()._unpack({**state_dict, "state": {index: entry for index, entry in entries.items() if entry}})
        self._slow = {
            p: slow[index].detach().to(p.device, p.dtype, copy=True)
            for index, p in _indexed(state_dict, self.param_groups)
            if index in slow
        }

    @property
    def _state_key(self) -> str:
        """Where a checkpoint keeps the slow weights; a Lookahead around a Lookahead has a key of its own."""
        return self.group_key("cycle_step").replace("cycle_step", "slow")


class SlowWeights:
    """While entered, the model holds the slow weights of a ``Lookahead``. Leaving twice, or never entering, is fine."""

    def __init__(self, optimizer: Lookahead) -> None:
        self.optimizer = optimizer

    @without_grad
    def __enter__(self) -> None:
        optimizer = self.optimizer
        if optimizer._fast or optimizer.cycle_step == 0:
            return
        optimizer._fast = {p: p.detach().clone() for p in optimizer._slow}
        try:
            copy_(list(optimizer._slow), list(optimizer._slow.values()))
        except BaseException:
            self.leave()
            raise

    def __exit__(self, *exception: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the model its fast weights back. A step does so too: Ctrl-C can skip an ``__exit__``."""
        if self.optimizer._fast:
            uninterrupted(self._put_back)

    @without_grad
    def _put_back(self) -> None:
        copy_(list(self.optimizer._fast), list(self.optimizer._fast.values()))
        self.optimizer._fast = {}


def _indexed(state_dict: dict[str, Any], groups: list[Group]) -> list[tuple[Any, Tensor]]:
    """Pair the indices of a state_dict with the parameters that they stand for."""
    indices = [index for group in state_dict["param_groups"] for index in group["params"]]
    return list(zip(indices, [p for group in groups for p in group["params"]], strict=False))
