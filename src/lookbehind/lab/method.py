"""A method as data: a base optimizer alone, or an optimizer of this package around it, with its hyper-parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lookbehind.lab.frozen import Adaptive, Count, Fraction, Frozen, NonNegative, Positive


class Method(Frozen):
    """How a step is taken: ``base`` alone, or an optimizer of this package around it."""

    kind: Literal["base", "sam", "multistep", "lookahead", "lookbehind"]
    perturbation: Literal["sam", "asam"] | None = None  # None: Lookahead around the base alone
    rho: NonNegative | None = None
    k: Count | None = None
    alpha: Fraction | Adaptive | None = None
    gather: Literal["last", "mean"] | None = None
    eta: NonNegative = 0.0  # of ASAM; the published scripts pass 0
    divided: bool = False  # ascend by ρ / k (appendix A.2.3)
    rate: Positive = 1.0  # times the workload's learning rate, for the control SAM at α·k·η
    unperturbed_statistics: bool = False  # batch norm; False: running statistics follow every pass, as the paper's code
    switching: bool = False  # each inner step has a minibatch of its own (section 6.2)

    @model_validator(mode="after")
    def _complete(self) -> Method:
        needs = {
            "base": set(),
            "sam": {"perturbation", "rho"},
            "multistep": {"perturbation", "rho", "k", "gather"},
            "lookahead": {"k", "alpha"} | ({"rho"} if self.perturbation else set()),
            "lookbehind": {"perturbation", "rho", "k", "alpha"},
        }[self.kind]
        takes = needs | ({"perturbation"} if self.kind == "lookahead" else set())
        for name in ("perturbation", "rho", "k", "alpha", "gather"):
            given = getattr(self, name) is not None
            if given != (name in needs) and not (given and name in takes):
                what = "needs a value" if name in needs else "takes none"
                raise ValueError(f"{name} is {getattr(self, name)!r}; {self.kind} {what}")
        if self.kind == "lookahead" and isinstance(self.alpha, str):
            raise ValueError(f"alpha is {self.alpha!r}; lookahead needs a number")
        if self.divided and self.kind not in ("multistep", "lookbehind"):
            raise ValueError(f"divided is True; only multistep and lookbehind climb k times, {self.kind} does not")
        if self.switching and self.kind != "lookbehind":
            raise ValueError(f"switching is True; only lookbehind can switch minibatches, {self.kind} cannot")
        if self.eta and self.perturbation != "asam":
            raise ValueError(f"eta is {self.eta!r}; only asam takes one")
        return self

    @property
    def title(self) -> str:
        """What a sentence calls it."""
        return f"{'' if self.kind == 'sam' else self.kind} {self.perturbation or ''}".strip()

    @property
    def gradients(self) -> int:
        """Gradient evaluations for each minibatch."""
        if self.switching:
            return 2
        if self.kind in ("multistep", "lookbehind"):
            assert self.k is not None
            return self.k + 1
        return 1 if self.perturbation is None else 2

    @property
    def minibatches(self) -> int:
        """Minibatches of one step."""
        return self.k or 1 if self.switching else 1
