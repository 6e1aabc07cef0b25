"""Algorithms 3 and 4 against their transcription, which has hand-written second derivatives."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from lookbehind.lifelong import LookaheadCMAML, LookbehindCMAML, Reservoir
from tests.lifelong import oracle
from tests.lifelong.oracle import Settings
from tests.lifelong.tiny import WAYS, Tiny, minibatches

LOOSE, TIGHT = {"clamp": 9.0, "clip": 99.0}, {"clamp": 0.05, "clip": 0.3}  # the tight ones are met


def arrays(minibatch: Any) -> tuple[np.ndarray, np.ndarray]:
    images, labels = minibatch
    return images.numpy(), labels.numpy()


def weights(model: Tiny) -> oracle.Weights:
    return [model.a.detach().numpy().copy(), model.b.detach().numpy().copy()]


def close(model: Tiny, expected: oracle.Weights) -> None:
    for ours, theirs in zip(weights(model), expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-8


def test_derivatives_of_the_oracle_by_differences() -> None:
    w, (x, labels) = weights(Tiny(3)), arrays(minibatches()[0])
    v = weights(Tiny(4))

    def loss(w: oracle.Weights) -> float:
        p, y = oracle.heads(np.tanh(x @ w[0].T) @ w[1].T, labels, WAYS)
        return -np.log((p * y).sum(1)).mean()

    d = 1e-5
    slope = (loss(oracle.plus(w, v, d)) - loss(oracle.plus(w, v, -d))) / (2 * d)
    g = oracle.gradient(w, x, labels, WAYS)
    assert sum((p * q).sum() for p, q in zip(g, v, strict=True)) == pytest.approx(slope, abs=1e-7)
    ahead, behind = (oracle.gradient(oracle.plus(w, v, s * d), x, labels, WAYS) for s in (1, -1))
    h = oracle.hessian_vector(w, v, x, labels, WAYS)
    for p, q, r in zip(h, ahead, behind, strict=True):
        assert np.abs(p - (q - r) / (2 * d)).max() < 1e-7


@pytest.mark.parametrize("bounds", [LOOSE, TIGHT])
@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize("meta", ["mean", "end", "slow"])
@pytest.mark.parametrize("k", [1, 5, None])
def test_lookahead_c_maml(k: int | None, meta: str, second: bool, bounds: dict[str, float]) -> None:
    model = Tiny()
    learner = LookaheadCMAML(
        model, Reservoir(7), WAYS, lr=0.3, k=k, replay=4, second_order=second, meta_loss=meta, **bounds
    )
    settings = Settings(WAYS, 0.3, k or 10, second=second, **bounds)
    for step, b in enumerate(minibatches()):
        b_m = deepcopy(learner.memory).joined(*b, 4)
        assert len(b_m[1]) == (10 if step == 0 else 14)
        expected = oracle.lookahead_c_maml(weights(model), arrays(b), arrays(b_m), settings, meta)
        learner.observe(*b)
        close(model, expected)


@pytest.mark.parametrize("bounds", [LOOSE, TIGHT])
@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize("point", ["fast", "slow"])
@pytest.mark.parametrize("ascent", ["continue", "restart", "fast"])
@pytest.mark.parametrize(("k", "alpha"), [(1, 1.0), (2, 1.0), (5, 0.4)])
def test_lookbehind_c_maml(
    k: int, alpha: float, ascent: str, point: str, second: bool, bounds: dict[str, float]
) -> None:
    model = Tiny()
    learner = LookbehindCMAML(
        model, Reservoir(7), WAYS, lr=0.3, rho=0.2, k=k, alpha=alpha, replay=4, second_order=second, ascent=ascent,
        meta_point=point, **bounds,
    )  # fmt: skip
    settings = Settings(WAYS, 0.3, k, second=second, **bounds)
    for b in minibatches():
        b_m = deepcopy(learner.memory).joined(*b, 4)
        used = oracle.pieces(*arrays(b), k)
        expected = oracle.lookbehind_c_maml(weights(model), used, arrays(b_m), settings, 0.2, alpha, ascent, point)
        learner.observe(*b)
        close(model, expected)


def test_lookbehind_c_maml_with_a_minibatch_for_each_inner_step() -> None:
    """As printed: of the k'-th minibatch the k'-th image is used, and the last minibatch is in b_m."""
    model, k = Tiny(), 3
    learner = LookbehindCMAML(
        model, Reservoir(7), WAYS, lr=0.3, rho=0.2, k=k, alpha=0.5, replay=4, draw="each", push="every", **LOOSE
    )
    assert learner.minibatches == k
    images, labels = (torch.cat(each) for each in zip(*minibatches(4, 1), strict=True))
    for first in (True, False):
        memory, used = deepcopy(learner.memory), []
        for i, (x, y) in enumerate(zip(images.chunk(k), labels.chunk(k), strict=True)):
            b_m = memory.joined(x, y, 4)
            memory.push(x[i : i + 1], y[i : i + 1])
            used.append(arrays((x[i : i + 1], y[i : i + 1])))
        expected = oracle.lookbehind_c_maml(
            weights(model), used, arrays(b_m), Settings(WAYS, 0.3, k, **LOOSE), 0.2, 0.5, "continue", "fast"
        )
        learner.observe(images, labels, first=first)
        close(model, expected)
    assert learner.memory.seen == 2 * k
    with pytest.raises(ValueError, match="8 images together; draw='each' needs 3 minibatches of at least k = 3"):
        learner.observe(images[:8], labels[:8])


def test_what_is_told_of_an_observation() -> None:
    """Loss, accuracy and gradient norm are of the first piece at the weights before; costs are counted by hand."""
    b = minibatches()[0]
    for learner, k, cost in [
        (LookaheadCMAML(Tiny(), Reservoir(7), WAYS, k=5), 5, 10 + 20 + 5 * 10),
        (LookaheadCMAML(Tiny(), Reservoir(7), WAYS, k=5, meta_loss="end"), 5, 10 + 20 + 10),
        (LookaheadCMAML(Tiny(), Reservoir(7), WAYS, k=5, meta_loss="slow"), 5, 10 + 10),
        (LookaheadCMAML(Tiny(), Reservoir(7), WAYS, k=5, second_order=False), 5, 10 + 5 * 10),
        (LookbehindCMAML(Tiny(), Reservoir(7), WAYS, k=2), 2, 20 + (10 + 20) + (10 + 20)),
        (LookbehindCMAML(Tiny(), Reservoir(7), WAYS, k=2, meta_point="slow"), 2, 20 + (10 + 20) + 10),
        (LookbehindCMAML(Tiny(), Reservoir(7), WAYS, k=2, second_order=False), 2, 20 + 10 + 10),
    ]:
        x, labels = oracle.pieces(*arrays(b), k)[0]
        w = weights(learner.model)
        p, y = oracle.heads(np.tanh(x @ w[0].T) @ w[1].T, labels, WAYS)
        seen = learner.observe(*b)
        assert seen.loss.item() == pytest.approx(-np.log((p * y).sum(1)).mean())
        assert seen.right.item() == (p.argmax(1) == labels).sum()
        assert seen.classified == len(labels)
        assert seen.gradient_norm.item() == pytest.approx(oracle.length(oracle.gradient(w, x, labels, WAYS)))
        assert seen.gradients == cost


def test_zero_gradients_climb_nowhere() -> None:
    model = Tiny()
    with torch.no_grad():
        model.a.zero_()
        model.b.zero_()
    learner = LookbehindCMAML(model, Reservoir(7), WAYS, rho=0.1)
    images = torch.zeros(4, 4, dtype=torch.float64)
    learner.observe(images, torch.tensor([0, 1, 0, 1]))
    assert torch.equal(model.b, torch.zeros_like(model.b))
    assert torch.equal(model.a, torch.zeros_like(model.a))


@pytest.mark.parametrize(
    ("method", "arguments", "match"),
    [
        (LookaheadCMAML, {"lr": -1.0}, "lr is -1.0"),
        (LookaheadCMAML, {"k": 0}, "k is 0"),
        (LookaheadCMAML, {"meta_loss": "last"}, "meta_loss is 'last'; allowed are 'mean', 'end', 'slow'"),
        (LookaheadCMAML, {"push": "never"}, "push is 'never'"),
        (LookbehindCMAML, {"rho": float("nan")}, "rho is nan"),
        (LookbehindCMAML, {"alpha": 0.0}, "alpha is 0.0"),
        (LookbehindCMAML, {"alpha": 1.5}, "alpha is 1.5"),
        (LookbehindCMAML, {"ascent": "from above"}, "ascent is 'from above'"),
        (LookbehindCMAML, {"meta_point": "end"}, "meta_point is 'end'"),
        (LookbehindCMAML, {"draw": "twice"}, "draw is 'twice'"),
        (LookbehindCMAML, {"meta_updates": "never"}, "meta_updates is 'never'"),
        (LookbehindCMAML, {"replay": -1}, "replay is -1"),
        (LookbehindCMAML, {"clamp": -1.0}, "clamp is -1.0"),
        (LookbehindCMAML, {"clip": -1.0}, "clip is -1.0"),
    ],
)
def test_mistakes(method: Any, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        method(Tiny(), Reservoir(5), WAYS, **arguments)


def test_nothing_to_learn_with() -> None:
    with pytest.raises(TypeError, match=r"memory is 5; a Reservoir is needed"):
        LookbehindCMAML(Tiny(), 5, WAYS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        LookaheadCMAML(Tiny().requires_grad_(False), Reservoir(5), WAYS)
