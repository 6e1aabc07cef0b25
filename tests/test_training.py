"""The training loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lookbehind import SAM, Lookahead, Lookbehind, MultistepSAM
from lookbehind.training import train

IMAGES = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES.sum(1) > 0).long()


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("make", "per_step"),
    [
        (sgd, 1),
        (lambda m: SAM(sgd(m)), 2),
        (lambda m: MultistepSAM(sgd(m), k=3), 4),
        (lambda m: Lookbehind(sgd(m), k=2), 3),
        (lambda m: Lookahead(SAM(sgd(m))), 2),
    ],
)
def test_gradients_are_counted(make, per_step: int) -> None:
    model = net()
    history = train(model, make(model), IMAGES, LABELS, epochs=3, batch=8)
    assert [e.gradients for e in history.epochs] == [3 * per_step * (i + 1) for i in range(3)]
    assert history.gradients == 9 * per_step
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert not history.diverged


def test_equals_an_ordinary_loop() -> None:
    a, b = net(), net()
    seen = []
    optimizer = sgd(a)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    train(a, optimizer, IMAGES, LABELS, epochs=2, batch=8, seed=5, scheduler=scheduler, on_epoch=seen.append)
    order = torch.Generator().manual_seed(5)
    for lr in (0.1, 0.05):
        for index in torch.randperm(20, generator=order).split(8):
            loss = nn.functional.cross_entropy(b(IMAGES[index]), LABELS[index])
            gradients = torch.autograd.grad(loss, list(b.parameters()))
            with torch.no_grad():
                for p, g in zip(b.parameters(), gradients, strict=True):
                    p -= lr * g
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert [e.lr for e in seen] == [0.1, 0.05]


def test_ends_on_lookahead_s_slow_weights() -> None:
    model = net()
    start = [p.detach().clone() for p in model.parameters()]
    train(model, Lookahead(sgd(model), k=50), IMAGES, LABELS, epochs=2, batch=8)
    assert all(torch.equal(p, s) for p, s in zip(model.parameters(), start, strict=True))  # the cycle is not closed


def test_a_diverged_run_is_marked() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    history = train(model, optimizer, IMAGES, LABELS, epochs=9)
    assert history.diverged
    assert len(history.epochs) < 9
