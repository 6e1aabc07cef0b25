"""Lookahead: k steps forward, 1 step back (Zhang et al., 2019), around any optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Unpack

from lookbehind._checks import count, fraction
from lookbehind._distributed import local_tensors
from lookbehind._modes import clear_weight_caches
from lookbehind._tensors import copy_, keep_unchanged_, lerp_
from lookbehind.optim._chain import wrappers_of
from lookbehind.optim._evaluation import Closure
from lookbehind.optim._rollback import uninterrupted, without_grad
from lookbehind.optim._step import Step
from lookbehind.optim._wrapper import OptimizerWrapper, WrapperOptions, steps_by_closure, takes_part


class Lookahead(OptimizerWrapper):
    r"""Let the base optimizer take k steps with fast weights, then follow them with slow weights.

    .. math::
        \phi_t = \phi_{t-1} + \alpha (\phi_{t,k} - \phi_{t-1}), \qquad \phi_{t+1,0} = \phi_t

    where :math:`\phi_{t,1}, \dots, \phi_{t,k}` are k ordinary steps of the base optimizer from
    :math:`\phi_{t,0} = \phi_{t-1}`, each on its own minibatch (Zhang et al., 2019; algorithm 2 of Mordido et al.,
    2024, where the base is SAM). No gradients beyond the base optimizer's. The base optimizer's momentum is kept when
    fast and slow weights meet.

    Between steps the model holds the fast weights; evaluate within ``with optimizer.slow_weights():``. A weight that
    anything but a step changes (by loading, clipping or pruning) begins its cycle anew, at its new value. So does one
    that was left out of a step because it was frozen. When a cycle ends, so do all weights of a ``Lookahead`` inside.
    ``begin_cycle`` does it for all weights.

    Args:
        base: any optimizer, also ``SAM(...)``.
        k: base steps in a cycle. Default 5.
        alpha: α in (0, 1], the step size of the slow weights; per group and changeable. Default 0.5.
        **options: ``nonfinite`` and ``rollback``, as in ``AscentOptions``. Set them here rather than on the base.

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

    follows_weights = True

    def __init__(self, base: Optimizer, k: int = 5, alpha: float = 0.5, **options: Unpack[WrapperOptions]) -> None:
        self._k = count("k", k)
        self._last: dict[Tensor, Tensor] = {}  # the weights as the last step left them
        super().__init__(base, {"alpha": alpha, "cycle_step": 0, "slow_shown": False}, **options)
        self.needs_closure = steps_by_closure(base)
        self.base_steps_last = not self.needs_closure
        self.returns_clean_loss = getattr(base, "returns_clean_loss", True)
        self._wrap()

    @property
    def k(self) -> int:
        """Base steps in a cycle."""
        return self._k

    @property
    def cycle_step(self) -> int:
        """Base steps taken in the present cycle: 0 … k − 1. At 0 the model holds the slow weights."""
        return int(self._entry(self._keys["cycle_step"], 0))

    def slow_weights(self) -> SlowWeights:
        """Return a context in which the model holds the slow weights; outside it holds the fast ones."""
        return SlowWeights(self)

    @without_grad
    def begin_cycle(self) -> None:
        """Begin a cycle anew at the weights that the model holds now, for example after loading others into it."""
        params = [p for group in self.param_groups for p in group["params"]]
        self._buffers.drop("fast", params)
        self._set(self._keys["slow_shown"], False)
        self._set(self._keys["cycle_step"], 0)

    def update(self, step: Step, closures: Sequence[Closure]) -> None:
        """φ_{t,i} ← a step of the base; after k of them φ_t ← φ_{t-1} + α (φ_{t,k} − φ_{t-1})."""
        self._fast_step(step, closures)
        if self.last_step_skipped:
            return
        slow = self._slow(step.params)
        if self.cycle_step == 0:
            copy_(slow, step.start)  # φ_{t,0} ← φ_{t-1}
        frozen = [j for j, p in enumerate(step.params) if not takes_part(p)]  # their gradients were stale
        copy_([slow[j] for j in frozen], [step.params[j] for j in frozen])
        cycle_step = (self.cycle_step + 1) % self.k
        if cycle_step == 0:
            for group, params, part in step.by_group(slow):  # seen from φ_{t,k}
                lerp_(params, part, 1.0 - group[self.group_key("alpha")])
        self._set(self._keys["cycle_step"], cycle_step)
        self._last = {}
        step.commit()  # `start` and the slow weights are what a failed step would need
        copy_(step.start, step.params)
        if cycle_step == 0:
            copy_(slow, step.params)
        self._last = dict(zip(step.params, step.start, strict=True))

    def _fast_step(self, step: Step, closures: Sequence[Closure]) -> None:
        """Let the base take a step, with gradients that have passed this optimizer's checks."""
        if closures and self.needs_closure:
            evaluations = [partial(step.gradient, closure) for closure in closures]
            self._base_step(evaluations if len(evaluations) > 1 else evaluations[0])
            self.last_step_skipped = getattr(self.base, "last_step_skipped", False)
            return
        if closures:
            step.gradient(closures[0])
        else:
            step.check_gradient()
        self._base_step()

    def _slow(self, params: Sequence[Tensor]) -> list[Tensor]:
        """Return the slow weights. One that is missing begins at the present weight."""
        return self._buffers.saved("slow", params, torch.clone)

    # --- what changes weights between steps --------------------------------------------------------------------

    def _prepare(self, params: list[Tensor]) -> None:
        self._hide()
        self._follow(params)

    def _follow(self, params: Sequence[Tensor]) -> None:
        """Let slow weights begin anew where anything but a step has changed a weight, or has left it out of a step."""
        mine = set(params)
        self._buffers.drop("slow", [p for p in self._last if p not in mine])
        if self.cycle_step == 0:
            return
        slow = dict(zip(params, self._slow(params), strict=True))
        known = [p for p in params if p in self._last and self._last[p].shape == p.shape]
        keep_unchanged_([slow[p] for p in known], known, [self._last[p].to(p.device, p.dtype) for p in known])

    def _show(self) -> None:
        """Let the model hold the slow weights; keep the fast ones."""
        if self.cycle_step == 0:
            return
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        self._follow(params)
        fast = self._buffers.saved("fast", params)
        copy_(fast, params)
        self._last = dict(zip(params, fast, strict=True))
        self._set(self._keys["slow_shown"], True)
        copy_(params, self._slow(params))
        clear_weight_caches()

    @without_grad
    def _hide(self) -> None:
        """Let the model hold the fast weights again, but for weights that were changed or frozen meanwhile."""
        if not self.shows_slow_weights:
            return
        uninterrupted(self._put_back)

    def _put_back(self) -> None:
        params = [p for group in self.param_groups for p in group["params"]]
        for p in params:
            fast, slow = self._buffers.get("fast", p), self._buffers.get("slow", p)
            if fast is not None and slow is not None and p.requires_grad:
                now, *others = local_tensors([p.detach(), slow.to(p.device, p.dtype), fast.to(p.device, p.dtype)])
                now.copy_(torch.where(now == others[0], others[1], now))
        self._buffers.drop("fast", params)
        self._set(self._keys["slow_shown"], False)
        clear_weight_caches()

    @property
    def shows_slow_weights(self) -> bool:
        """Return whether the model holds the slow weights within a cycle, so that the fast ones are kept apart."""
        return bool(self._entry(self._keys["slow_shown"], False))

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        self._last = {}  # train() and eval() of a schedule-free base move the weights, and back up to rounding
        return found

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_last": {}}

    # --- checks and checkpoints --------------------------------------------------------------------------------

    def _closures(self, closure: Any) -> Sequence[Closure]:
        if closure is None and not self.needs_closure:
            return []
        if isinstance(closure, (list, tuple)) and self.needs_closure and isinstance(self.base, OptimizerWrapper):
            return self.base._closures(closure)
        return super()._closures(closure)

    def _check(self, name: str, value: Any) -> Any:
        if name == "cycle_step" and count("cycle_step", value, least=0) >= self.k:
            raise ValueError(f"cycle_step is {value}; it must be less than k = {self.k}")
        return fraction("alpha", value) if name == "alpha" else super()._check(name, value)

    def _details(self) -> dict[str, object]:
        return {"k": self.k}

    def _probe(self) -> None:
        super()._probe()
        self._slow([p for group in self.param_groups for p in group["params"] if p.requires_grad])

    def _load(self, state_dict: dict[str, Any]) -> None:
        shown = any(group.get(self._keys["slow_shown"]) for group in state_dict["param_groups"])
        fast = self._buffers.prefix + "fast"
        if shown and not any(fast in entries for entries in state_dict["state"].values()):
            raise ValueError(
                "the state was saved while the model held the slow weights, and the fast weights are missing in it; "
                "save outside of `with optimizer.slow_weights():`"
            )
        held = self.shows_slow_weights and not shown  # then the model gets its fast weights back, as nobody else could
        if held:
            self._hide()
        try:
            super()._load(state_dict)
        except BaseException:
            if held:
                self._show()
            raise
        self._last = {}


class SlowWeights:
    """While entered, the model holds the slow weights of a ``Lookahead``. Leaving twice, or never entering, is fine."""

    def __init__(self, optimizer: Lookahead) -> None:
        self.optimizer = optimizer
        self.depth = 0
        self.outermost = False

    @without_grad
    def __enter__(self) -> None:
        for one in (self.optimizer, *wrappers_of(self.optimizer)):
            if one.needs_closure:  # then closures run at perturbed weights
                one._require_no_step("slow_weights() was entered")
        self.depth += 1
        if not self.optimizer.shows_slow_weights:
            self.outermost = True
            try:
                self.optimizer._show()
            except BaseException:
                self.leave()
                raise

    def __exit__(self, *exception: object) -> None:
        self.depth -= 1
        if self.outermost and self.depth == 0:
            self.leave()

    def leave(self) -> None:
        """Give the model its fast weights back. A step does so too: Ctrl-C can skip an ``__exit__``."""
        self.optimizer._hide()
