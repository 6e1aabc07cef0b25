"""Range finder for ρ, with its evidence."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass
from itertools import islice
from math import cos, pi, sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lookbehind._checks import count, nonnegative
from lookbehind._minibatch import Loss, Score, call, loss_of, pairs, right
from lookbehind._style import BAND, COLOURS, panel
from lookbehind.measure._progress import track
from lookbehind.optim import SAM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = (0.0, 0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


@dataclass(frozen=True)
class RhoRange:
    """The values of ρ that validation data cannot tell from the best one, and the evidence."""

    rho: float | None  # the geometric middle of the range; None if it cannot be told from 0
    low: float
    high: float
    conclusion: str
    tells: bool  # whether ρ matters here as far as the data can tell: ρ = 0 is outside the range
    at_edge: bool  # whether the range reaches an end of the grid other than 0, so that the true one may go on
    rhos: tuple[float, ...]
    scores: tuple[float, ...]  # mean validation score of each ρ
    behind: tuple[float, ...]  # how far each is behind the best
    errors: tuple[float, ...]  # standard error of that difference
    steps: int
    repeats: int
    gradients: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the validation score of each ρ and the range, and return the axes. ρ = 0 stands at the left."""
        axes = panel(axes, self.conclusion, "ρ", "validation score")
        axes.title.set(fontsize=8, wrap=True)
        places = range(len(self.rhos))
        axes.errorbar(places, self.scores, yerr=[2 * e for e in self.errors], marker="o", capsize=2)
        axes.axvspan(self.rhos.index(self.low), self.rhos.index(self.high), color=COLOURS["blue"], alpha=BAND)
        axes.set_xticks(list(places), [f"{rho:g}" for rho in self.rhos])
        return axes


def suggest_rho(
    model: nn.Module,
    loss: Loss | None,
    train_minibatches: Iterable[Any],
    validation_minibatches: Iterable[Any],
    base: Callable[[Iterator[nn.Parameter]], Optimizer],
    *,
    rhos: Sequence[float] = GRID,
    optimizer: Callable[..., Optimizer] = SAM,
    score: Score | None = None,
    steps: int = 40,
    repeats: int = 2,
    seed: int = 0,
) -> RhoRange:
    r"""Find the range of ρ that suits a trained model, by training on from it for a few steps with each ρ.

    Each ρ starts from the same weights and sees the same minibatches, while the learning rate falls to zero along a
    cosine. The best by mean validation score is compared with each other: the standard error of the difference joins
    the spread over validation examples and over repeats,

    .. math:: s^2 = \operatorname{var}_{\text{examples}} / n + \operatorname{var}_{\text{repeats}} / R

    The latter is the median over all ρ, since few repeats say little. So a ρ that trains in one repeat only does not
    pass for the best. A ρ that is at most 2 s behind belongs to the range, if all between it and the best do. The
    middle of the range is suggested rather than the best itself, which may stand beside a cliff.

    The model should have been trained as usual first: ρ pays late, and a short training from scratch prefers ρ = 0.
    ``docs/suggest-rho.md`` has checks of the answers on three tasks. The model is copied and stays as it was.

    Args:
        model: a trained model.
        loss: function of (outputs, targets), what training minimises.
        train_minibatches: pairs (inputs, targets), gone through as often as needed; a list or a loader.
        validation_minibatches: pairs that were not trained on, and on which nothing will be reported.
        base: makes the base optimizer from parameters, e.g. ``lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)``,
            with the learning rate of the training's main part.
        rhos: increasing values of ρ to try, from 0 on. Default 0, 0.0125, 0.025, … 1.6.
        optimizer: makes the optimizer from (base, rho), e.g. ``SAM`` (the default), or
            ``lambda base, rho: Lookbehind(base, rho, k=5, alpha=0.5)``.
        score: function of (outputs, targets) that gives one number for each example, larger is better. Default: whether
            the class is right, in percent; see ``docs/measure-definitions.md``.
        steps: steps for each ρ. Default 40.
        repeats: how often, each with other minibatches. Default 2.
        seed: decides order and dropout. Default 0.

    Returns:
        A ``RhoRange``; its ``conclusion`` is a sentence.

    Raises:
        ValueError: if ``rhos`` are not increasing from 0, a number is out of range, or there are no minibatches.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> inputs = torch.randn(60, 2)
        >>> data = [(inputs, (inputs[:, 0] > 0).long())]
        >>> found = suggest_rho(torch.nn.Linear(2, 2), torch.nn.functional.cross_entropy, data, data,
        ...                     lambda p: torch.optim.SGD(p, lr=0.5), rhos=[0, 0.05, 0.1], steps=5)
        >>> found.tells
        False

    """
    rhos = tuple(nonnegative("rho", rho) for rho in rhos)
    if len(rhos) < 3 or rhos[0] != 0 or sorted(set(rhos)) != list(rhos):
        raise ValueError(f"rhos is {list(rhos)}; at least three increasing values from 0 on are needed")
    count("steps", steps)
    count("repeats", repeats)
    score = score or _is_right
    validation = list(pairs(validation_minibatches))
    if not validation:
        raise ValueError("validation_minibatches is empty; at least one minibatch is needed")
    scores: dict[float, list[Tensor]] = {rho: [] for rho in rhos}
    gradients = 0
    for repeat, rho in track([(repeat, rho) for repeat in range(repeats) for rho in rhos], "range of ρ"):
        if rho == rhos[0]:
            minibatches = _draw(train_minibatches, steps, seed + repeat)
        with torch.random.fork_rng():
            torch.manual_seed(seed + repeat)
            trained, calls = _train(copy.deepcopy(model), loss, minibatches, base, optimizer, rho)
        gradients += calls
        if rho == 0 and not all(bool(p.isfinite().all()) for p in trained.parameters()):
            raise ValueError(
                "with ρ = 0, training ends at weights that are not finite, so no ρ can be compared; begin with a model "
                "that has not diverged, or give `base` a smaller learning rate"
            )
        scores[rho].append(_scores(trained, score, validation))
    return _conclude(rhos, {rho: torch.stack(values) for rho, values in scores.items()}, steps, gradients)


@torch.no_grad()
def _scores(model: nn.Module, score: Score, minibatches: list[tuple[Any, Any]]) -> Tensor:
    """Return the score of each example; one that is not a number is the worst."""
    model.eval()
    examples = [
        score(call(model, inputs), targets).to("cpu", torch.float64).flatten() for inputs, targets in minibatches
    ]
    return torch.cat(examples).nan_to_num(nan=float("-inf"))


def _is_right(outputs: Any, targets: Any) -> Tensor:
    """Return the percentage of right targets of each example."""
    return 100.0 * right(outputs, targets).reshape(len(targets), -1).nanmean(1)


def _draw(minibatches: Iterable[Any], number: int, seed: int) -> list[tuple[Any, Any]]:
    """Return as many minibatches as there are steps, in an order of this repeat's own, and hold no more than those.

    Data without a length, which may be endless, are taken as they come.
    """
    drawn: list[tuple[Any, Any]] = []
    generator = torch.Generator().manual_seed(seed)
    while len(drawn) < number:
        missing = number - len(drawn)
        order = list(range(missing))
        if isinstance(minibatches, Sized):
            order = torch.randperm(len(minibatches), generator=generator, device="cpu").tolist()[:missing]
        found = {
            index: pair
            for index, pair in islice(enumerate(pairs(minibatches)), max(order, default=-1) + 1)
            if index in order
        }
        if not found:
            raise ValueError("train_minibatches is empty, or an iterator that was gone through; pass a list")
        drawn += [found[index] for index in order if index in found]
    return drawn


def _train(
    model: nn.Module,
    loss: Loss | None,
    minibatches: list[tuple[Any, Any]],
    base: Callable[[Iterator[nn.Parameter]], Optimizer],
    make: Callable[..., Optimizer],
    rho: float,
) -> tuple[nn.Module, int]:
    model.train()
    calls = 0
    descent = base(model.parameters())
    optimizer = make(descent, rho=rho) if rho > 0 else descent
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + cos(pi * t / len(minibatches))))
    for inputs, targets in minibatches:

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            value = loss_of(model, loss, call(model, inputs), targets)  # noqa: B023 -- used within this step only
            value.backward()
            return value

        optimizer.step(closure)  # type: ignore[arg-type]  # torch wants float
        scheduler.step()
    return model, calls


def _conclude(rhos: tuple[float, ...], scores: dict[float, Tensor], steps: int, gradients: int) -> RhoRange:
    """Compare each ρ with the best. A row of scores is a repeat, a column a validation example."""
    means = [scores[rho].mean().item() for rho in rhos]
    best = max(range(len(rhos)), key=means.__getitem__)
    differences = [scores[rhos[best]] - scores[rho] for rho in rhos]
    behind = [difference.mean().item() for difference in differences]
    errors = _standard_errors(differences, best)
    inside = [b <= 2 * e for b, e in zip(behind, errors, strict=True)]
    inside[best] = True
    first = last = best
    while first > 0 and inside[first - 1]:
        first -= 1
    while last < len(rhos) - 1 and inside[last + 1]:
        last += 1
    low, high = rhos[first], rhos[last]
    rho = sqrt(low * high) if low > 0 else None
    at_edge = last == len(rhos) - 1
    if rho is None:
        conclusion = f"cannot tell that any ρ helps: up to {high:g} none is better or worse than ρ = 0 for sure"
    elif low == high:
        conclusion = f"ρ = {rho:g} is best, as far as these data can tell"
    else:
        conclusion = f"ρ from {low:g} to {high:g} are equally good as far as these data can tell; try {rho:.2g}"
    if at_edge:
        conclusion += f"; larger ρ than {high:g} were not tried"
    return RhoRange(
        rho=rho,
        low=low,
        high=high,
        conclusion=conclusion,
        tells=rho is not None,
        at_edge=at_edge,
        rhos=rhos,
        scores=tuple(means),
        behind=tuple(behind),
        errors=tuple(errors),
        steps=steps,
        repeats=len(scores[rhos[0]]),
        gradients=gradients,
    )


def _standard_errors(differences: list[Tensor], best: int) -> list[float]:
    """Return the standard error of each mean difference. A row is a repeat, a column a validation example."""
    repeats, examples = differences[0].shape
    others = torch.stack([d.mean(1) for i, d in enumerate(differences) if i != best])
    spread = others.var(1).nanmedian() / repeats if repeats > 1 else torch.zeros(())
    variances = [
        (d.mean(0).var() / examples if examples > 1 else 0.0) + (spread if i != best else 0.0)
        for i, d in enumerate(differences)
    ]
    return torch.stack([torch.as_tensor(v) for v in variances]).nan_to_num(nan=0.0).sqrt().tolist()
