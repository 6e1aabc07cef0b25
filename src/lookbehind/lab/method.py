"""A method as data: a base optimizer alone, or an optimizer around it, with its hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator, model_validator

from lookbehind._words import allowed
from lookbehind.lab import declared
from lookbehind.lab.frozen import Adaptive, Count, Fraction, Frozen, NonNegative, Positive
from lookbehind.methods import METHODS

# The methods of the paper have fields of their own; of every other the options are pairs.
NEEDS: dict[str, set[str]] = {
    "base": set(),
    "sam": {"perturbation", "rho"},
    "multistep": {"perturbation", "rho", "k", "gather"},
    "lookahead": {"k", "alpha"},  # around the base alone, or around SAM: then a perturbation and a rho, too
    "lookbehind": {"perturbation", "rho", "k", "alpha"},
}
FIELDS = ("perturbation", "rho", "k", "alpha", "gather")
MINIBATCHES = "minibatches"


class Method(Frozen):
    """Method of a step: ``base`` alone, or an optimizer around it.

    ``kind`` is "base", "sam", "multistep", "lookahead" or "lookbehind", with the fields below; or a name of
    ``lookbehind.METHODS``, or of a study's method, with ``options``. The option ``minibatches`` of these says how many
    minibatches a step takes, where that is not one.
    """

    kind: str
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
    options: tuple[tuple[str, bool | int | float | str | None], ...] = ()
    source: str = ""  # the digest of a study's method: edited, it is another

    @field_validator("options", mode="before")
    @classmethod
    def _pairs(cls, options: Any) -> Any:
        return tuple(sorted(options.items())) if isinstance(options, Mapping) else options

    @model_validator(mode="before")
    @classmethod
    def _with_source(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "source" not in values and isinstance(values.get("kind"), str):
            source = declared.source_of(method=values["kind"])
            return {**values, "source": source} if source else values
        return values

    @model_validator(mode="after")
    def _complete(self) -> Method:
        if self.kind in NEEDS:
            self._check_fields()
        elif self.kind in METHODS:
            self._check_options()
        elif self.kind not in declared.METHODS and not self.source:
            kinds = dict.fromkeys((*NEEDS, *METHODS, *declared.METHODS))
            raise ValueError(f"kind is {self.kind!r}; {allowed(self.kind, kinds)}")
        if self.kind not in NEEDS and (given := [name for name in FIELDS if getattr(self, name) is not None]):
            raise ValueError(f"{given[0]} is {getattr(self, given[0])!r}; {self.kind} takes it among its options")
        if self.divided and self.kind not in ("multistep", "lookbehind"):
            raise ValueError(f"divided is True; only multistep and lookbehind climb k times, {self.kind} does not")
        if self.switching and self.kind != "lookbehind":
            raise ValueError(f"switching is True; only lookbehind can switch minibatches, {self.kind} cannot")
        if self.eta and self.perturbation != "asam":
            raise ValueError(f"eta is {self.eta!r}; only asam takes one")
        return self

    def _check_fields(self) -> None:
        needs = NEEDS[self.kind] | ({"rho"} if self.kind == "lookahead" and self.perturbation else set())
        takes = needs | ({"perturbation"} if self.kind == "lookahead" else set())
        for name in FIELDS:
            given = getattr(self, name) is not None
            if given != (name in needs) and not (given and name in takes):
                what = "needs a value" if name in needs else "takes none"
                raise ValueError(f"{name} is {getattr(self, name)!r}; {self.kind} {what}")
        if self.kind == "lookahead" and isinstance(self.alpha, str):
            raise ValueError(f"alpha is {self.alpha!r}; lookahead needs a number")
        if self.options:
            raise ValueError(f"options are {dict(self.options)}; {self.kind} has fields instead")

    def _check_options(self) -> None:
        known = METHODS[self.kind].options
        for name, value in self.options:
            if name not in known and name not in (MINIBATCHES, "perturbation"):
                raise ValueError(f"{self.kind} has no option {name!r} ({value!r}); it has {', '.join(known)}")

    @property
    def title(self) -> str:
        """Return its name in a sentence."""
        if self.kind in NEEDS:
            return f"{'' if self.kind == 'sam' else self.kind} {self.perturbation or ''}".strip()
        known = METHODS.get(self.kind) or declared.METHODS.get(self.kind)
        return self.kind if known is None else known.title

    @property
    def gradients(self) -> float:
        """Gradient evaluations for each minibatch; on average, where steps differ."""
        if self.kind in NEEDS:
            if self.switching:
                return 2
            if self.kind in ("multistep", "lookbehind"):
                assert self.k is not None
                return self.k + 1
            return 1 if self.perturbation is None else 2
        many = 10_000  # steps
        options = {name: value for name, value in self.options if name != MINIBATCHES}
        if self.kind in METHODS:
            inner = self.minibatches if "k" in options else 1  # k gradients, each on a minibatch of its own
            return METHODS[self.kind].gradients(many, **options) / many / inner
        return declared.METHODS[self.kind].gradients(**options)

    @property
    def minibatches(self) -> int:
        """Minibatches of one step."""
        if self.kind in NEEDS:
            return self.k or 1 if self.switching else 1
        return int(dict(self.options).get(MINIBATCHES) or 1)
