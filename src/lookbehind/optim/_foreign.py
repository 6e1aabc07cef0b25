"""Answer the calls of other packages by a sentence that shows the right line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from lookbehind._checks import shown

# Options that other packages, or earlier versions of this one, have, and what to write instead.
RENAMED = {
    "adaptive": 'perturbation="asam", or ASAM',
    "gather": "gradient",
    "perturb": 'sync_ascent=False (it was perturb="rank")',
    "rng": 'same_dropout=True (it was rng="shared")',
}


def refuse_foreign_call(cls: type, args: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Raise a ``TypeError`` that shows the right call, if the arguments are those of another package."""
    if not (args or options):  # deepcopy and pickle
        return
    name = cls.__name__
    right = f"{name}(torch.optim.SGD(model.parameters(), lr=0.1), ...)"
    base = args[0] if args else options.get("base")
    if "base_optimizer" in options:
        raise TypeError(f"base_optimizer is no option; {name} wraps an optimizer that is made already: {right}")
    if not isinstance(base, Optimizer):
        raise TypeError(
            f"base is {shown(base)}; an instance of torch.optim.Optimizer is needed, which has the parameters: {right}"
        )
    for option, instead in RENAMED.items():
        if option in options:
            raise TypeError(f"{option} is no option of {name}; write {instead}")


def unknown_attribute(owner: str, name: str) -> str:
    """Return the message of an AttributeError."""
    if name in ("first_step", "second_step"):
        return f"{owner} has no {name}: optimizer.step(closure) does the whole step, and calls the closure itself"
    if name == "base_optimizer":
        return (
            f"{owner} has no {name}: it shares groups and state with its base, so give a scheduler the {owner} itself"
        )
    if name in RENAMED:
        return f"{owner} has no {name}; see {RENAMED[name]}"
    return f"{owner!r} object has no attribute {name!r}"
