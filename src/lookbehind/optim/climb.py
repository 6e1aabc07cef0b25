"""The k ascents that SAM, Multistep-SAM and Lookbehind share (algorithm 1, lines 5 to 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookbehind._checks import choice, count, nonnegative
from lookbehind._distributed import averages
from lookbehind._tensors import add_unit_, as_real, copy_
from lookbehind.optim._passes import Closure
from lookbehind.optim._wrapper import Wrapper, steps_by_closure
from lookbehind.optim.perturbation import Perturbation, PerturbationName, RuleState, perturbation_of


class Climber(Wrapper):
    """An optimizer that takes gradients at perturbed weights.

    ``rho`` is in the parameter groups: ε of a group's parameters is multiplied by its own ``rho``.
    """

    def __init__(
        self,
        base: Optimizer,
        rho: float,
        k: int,
        perturbation: PerturbationName | Perturbation,
        *,
        model: torch.nn.Module | None,
        nonfinite: str,
        rollback: str,
        rng: str,
        perturb: str,
        **entries: float,
    ) -> None:
        if steps_by_closure(base):
            raise ValueError(
                f"base is {type(base).__name__}, whose own step needs a closure; {type(self).__name__} needs a base "
                "that steps from a gradient, such as SGD or AdamW"
            )
        self.perturbation = perturbation_of(perturbation)
        self.k = count("k", k)
        self.rng = choice("rng", rng, ("fresh", "shared"))
        self.perturb = choice("perturb", perturb, ("global", "rank"))
        if perturb == "rank" and not hasattr(model, "no_sync"):
            raise ValueError(
                f"perturb is 'rank', which needs model=DistributedDataParallel(...); model is {type(model).__name__}"
            )
        super().__init__(base, {"rho": rho, **entries}, model=model, nonfinite=nonfinite, rollback=rollback)

    def _check(self, name: str, value: Any) -> Any:
        return nonnegative("rho", value) if name == "rho" else value

    def _climb(self, closures: Sequence[Closure], *, descents: str = "each") -> Iterator[int]:
        """Climb k times; yield i with φ'ᵢ in the model and ∇L(φ'ᵢ) in ``.grad``.

        With one closure, ∇L(φ'ᵢ) serves the descent from it and the next ascent: k + 1 gradients. With one closure for
        each inner step the minibatch switches, so both gradients are taken: 2k.

        With ``perturb="rank"`` every process ascends by its own gradient, and only gradients that descend are averaged:
        ``descents`` says whether that is "each" or the "last".
        """
        switching, alone = len(closures) > 1, self.perturb == "rank"
        for i in range(1, self.k + 1):
            closure = closures[i - 1 if switching else 0]
            if i == 1 or switching:
                self._gradient(closure, perturbed=i > 1, local=alone)
            self._ascend()
            ascends_again = i < self.k and not switching
            self._gradient(closure, perturbed=True, local=alone and ascends_again)
            if alone and ascends_again and descents == "each":
                gradients = [p.grad for p in self._weights if p.grad is not None]
                own = [g.clone() for g in gradients]
                copy_(gradients, averages(gradients, self.model))
                yield i
                copy_(gradients, own)
            else:
                yield i

    def _ascend(self) -> None:
        """φ' ← φ' + ε, for all parameters that have a gradient."""
        rho = self.group_key("rho")
        parts = [(group[rho], [p for p in weights if p.grad is not None]) for group, weights in self._parts]
        weights = as_real([p for _, part in parts for p in part])
        if not weights:
            return
        gradients = as_real([p.grad for _, part in parts for p in part])
        state = RuleState(lambda name: as_real(self._like(name, [p for _, part in parts for p in part])))
        epsilon, length = self.perturbation(weights, gradients, state)
        start = 0
        for radius, part in parts:
            end = start + len(part)
            lengths = length if isinstance(length, Tensor) else length[start:end]
            add_unit_(weights[start:end], epsilon[start:end], lengths, radius)
            start = end
