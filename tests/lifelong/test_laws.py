"""What must hold whatever the numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from lookbehind import SAM, Lookahead, Lookbehind, MultistepSAM
from lookbehind.lifelong import Learner, LookaheadCMAML, LookbehindCMAML, Replay, Reservoir, multihead_loss
from tests.lifelong.tiny import WAYS, Tiny, minibatches

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.3),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.03),
    "sam": lambda m: SAM(torch.optim.SGD(m.parameters(), lr=0.3), rho=0.2),
    "asam": lambda m: SAM(torch.optim.SGD(m.parameters(), lr=0.3), rho=0.2, perturbation="asam"),
    "multistep": lambda m: MultistepSAM(torch.optim.SGD(m.parameters(), lr=0.3, momentum=0.5), rho=0.2, k=3),
    "lookahead": lambda m: Lookahead(torch.optim.SGD(m.parameters(), lr=0.3), k=2),
    "lookbehind": lambda m: Lookbehind(torch.optim.SGD(m.parameters(), lr=0.3), rho=0.2, k=3, alpha=0.4),
    "adaptive": lambda m: Lookbehind(torch.optim.SGD(m.parameters(), lr=0.3), rho=0.2, k=3, alpha="adaptive"),
}


def after(learner: Learner, epochs: int = 2) -> Tensor:
    for epoch in range(epochs):
        for b in minibatches():
            learner.observe(*b, first=epoch == 0)
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()])


@settings(max_examples=15, deadline=None)
@given(
    k=st.sampled_from([1, 2, 5, 10]),
    lr=st.floats(0.01, 0.5),
    replay=st.integers(0, 12),
    second=st.booleans(),
    ascent=st.sampled_from(["continue", "restart", "fast"]),
)
def test_without_perturbation_and_interpolation_it_is_c_maml_with_the_last_loss(
    k: int, lr: float, replay: int, second: bool, ascent: str
) -> None:
    """With one piece, or where ascents start from the fast weights; otherwise all inner gradients are at φ."""
    arguments = {"lr": lr, "k": k, "replay": replay, "second_order": second}
    ahead = after(LookaheadCMAML(Tiny(), Reservoir(9), WAYS, meta_loss="end", **arguments))
    behind = after(LookbehindCMAML(Tiny(), Reservoir(9), WAYS, rho=0.0, alpha=1.0, ascent=ascent, **arguments))
    if k == 1 or ascent == "fast":
        torch.testing.assert_close(behind, ahead, rtol=1e-10, atol=1e-10)
    else:
        assert (behind - ahead).abs().max() > 1e-6


def test_without_perturbation_pieces_are_one_step_of_their_mean() -> None:
    """All inner gradients are then at φ, where the sum over k equal pieces is k times the whole minibatch's."""
    whole, pieces = Tiny(), Tiny()
    b = minibatches()[0]
    net = LookbehindCMAML(pieces, Reservoir(0), WAYS, lr=0.1, rho=0.0, k=5, clamp=None, clip=None)
    net.observe(*b)
    loss = multihead_loss(whole(b[0]), b[1], WAYS)
    a, c = torch.autograd.grad(loss, [whole.a, whole.b], create_graph=True)
    fast_a, fast_b = whole.a - 5 * 0.1 * a, whole.b - 5 * 0.1 * c
    outer = multihead_loss(torch.tanh(b[0] @ fast_a.T) @ fast_b.T, b[1], WAYS)
    for p, g in zip(whole.parameters(), torch.autograd.grad(outer, [whole.a, whole.b]), strict=True):
        p.data -= 0.1 * g
    torch.testing.assert_close(pieces.state_dict(), whole.state_dict(), rtol=1e-10, atol=1e-10)


def test_as_printed_the_inner_steps_have_no_effect() -> None:
    """L(φ_0) and, without perturbation, L(φ_0 + ε): plain episodic replay, in either algorithm."""
    model = Tiny()
    replay = after(Replay(model, OPTIMIZERS["sgd"](model), Reservoir(9), WAYS, push="first"))
    for learner in (
        LookaheadCMAML(Tiny(), Reservoir(9), WAYS, lr=0.3, meta_loss="slow"),
        LookbehindCMAML(Tiny(), Reservoir(9), WAYS, lr=0.3, rho=0.0, k=5, alpha=0.3, meta_point="slow"),
    ):
        torch.testing.assert_close(after(learner), replay, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_memory_replay_is_the_bare_optimizer(name: str) -> None:
    model, bare = Tiny(), Tiny()
    learner = Replay(model, OPTIMIZERS[name](model), Reservoir(0), WAYS, clip=None)
    optimizer = OPTIMIZERS[name](bare)
    for images, labels in minibatches():

        def closure(images: Tensor = images, labels: Tensor = labels) -> Tensor:
            optimizer.zero_grad()
            loss = multihead_loss(bare(images), labels, WAYS)
            loss.backward()
            return loss

        expected = optimizer.step(closure)
        assert torch.equal(learner.observe(images, labels).loss, expected)
        torch.testing.assert_close(model.state_dict(), bare.state_dict(), rtol=0, atol=0)
    assert len(learner.memory) == learner.memory.seen == 0


@pytest.mark.parametrize("clip", [0.1, 2.0])
def test_clipping_changes_descents_only(clip: float) -> None:
    """SAM by hand: an ascent of length ρ, a clipped descent."""
    model, own = Tiny(), Tiny()
    learner = Replay(model, OPTIMIZERS["sam"](model), Reservoir(0), WAYS, clip=clip)
    for images, labels in minibatches():
        learner.observe(images, labels)
        parameters = [own.a, own.b]

        def gradient(images: Tensor = images, labels: Tensor = labels) -> list[Tensor]:
            return list(torch.autograd.grad(multihead_loss(own(images), labels, WAYS), [own.a, own.b]))

        slow, g = [p.detach().clone() for p in parameters], gradient()
        norm = sum(x.square().sum() for x in g).sqrt()
        for p, x in zip(parameters, g, strict=True):
            p.data += 0.2 * x / norm
        g = gradient()
        norm = sum(x.square().sum() for x in g).sqrt()
        for p, s, x in zip(parameters, slow, g, strict=True):
            p.data = s - 0.3 * x * min(1.0, clip / (norm.item() + 1e-6))
        torch.testing.assert_close(model.state_dict(), own.state_dict(), rtol=1e-10, atol=1e-10)


def test_replay_takes_every_gradient_on_the_same_minibatch_and_pushes_after_the_step() -> None:
    shown: list[Tensor] = []

    class Watched(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            shown.append(x)
            return super().forward(x)

    model = Watched()
    learner = Replay(model, OPTIMIZERS["lookbehind"](model), Reservoir(50), WAYS, replay=6)
    first, second, *_ = minibatches()
    assert learner.observe(*first).gradients == 4 * 10
    assert learner.observe(*second, first=False).gradients == 4 * 16
    assert all(torch.equal(x, first[0]) for x in shown[:4])
    assert all(torch.equal(x, shown[4]) for x in shown[4:])
    assert torch.equal(shown[4][6:], second[0])
    assert all(any(torch.equal(x, image) for image in first[0]) for x in shown[4][:6])
    assert len(learner.memory) == 20


@pytest.mark.parametrize(("push", "seen"), [("first", 90), ("every", 180)])
@pytest.mark.parametrize("method", ["replay", "lookahead", "lookbehind"])
def test_what_is_pushed(method: str, push: str, seen: int) -> None:
    model, memory = Tiny(), Reservoir(40)
    learner: Learner = {
        "replay": lambda: Replay(model, OPTIMIZERS["sgd"](model), memory, WAYS, push=push),
        "lookahead": lambda: LookaheadCMAML(model, memory, WAYS, push=push),
        "lookbehind": lambda: LookbehindCMAML(model, memory, WAYS, push=push),
    }[method]()
    after(learner)
    assert memory.seen == seen
    assert len(memory) == 40
