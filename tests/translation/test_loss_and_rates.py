"""Label smoothing and learning rates against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lookbehind import SAM, Lookbehind
from lookbehind.translation.loss import SmoothedCrossEntropy
from lookbehind.translation.schedule import inverse_square_root


def test_label_smoothing_by_hand() -> None:
    """Probabilities ½, ¼, ⅛, ⅛; ε = 0.3: the right token gets 0.7, each other 0.1."""
    logits = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]]).log()
    two = math.log(2)
    for target, expected in (
        (1, 0.7 * 2 * two + 0.1 * (1 + 3 + 3) * two),
        (2, 0.7 * 3 * two + 0.1 * (1 + 2 + 3) * two),
    ):
        loss = SmoothedCrossEntropy(0.3)(logits, torch.tensor([[target]]))
        assert loss.item() == pytest.approx(expected, rel=1e-6)


@given(st.floats(0, 0.5), st.integers(2, 9), st.integers(0, 1000))
def test_label_smoothing_is_a_mean_of_log_probabilities(epsilon: float, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(3, 4, size, dtype=torch.float64)
    targets = torch.randint(0, size, (3, 4))
    targets[0, 0] = 1
    terms = []
    for logit, y in zip(logits.reshape(-1, size), targets.reshape(-1).tolist(), strict=True):
        if y != 0:
            weights = [1 - epsilon if v == y else epsilon / (size - 1) for v in range(size)]
            logp = (logit - logit.exp().sum().log()).tolist()
            terms.append(-sum(w * p for w, p in zip(weights, logp, strict=True)))
    found = SmoothedCrossEntropy(epsilon)(logits, targets).item()
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_bad_epsilon() -> None:
    with pytest.raises(ValueError, match=r"epsilon is 0\.6"):
        SmoothedCrossEntropy(0.6)


def rates(steps: int, warmup: int, lr: float) -> list[float]:
    base = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=lr)
    inverse_square_root(base, warmup)
    seen = []
    for _ in range(steps):
        seen.append(base.param_groups[0]["lr"])
        base.step()
    return seen


def test_rates_by_hand() -> None:
    assert rates(10, 4, 0.8) == pytest.approx(
        [
            0,
            0.2,
            0.4,
            0.6,
            0.8,
            0.8 * (4 / 5) ** 0.5,
            0.8 * (4 / 6) ** 0.5,
            0.8 * (4 / 7) ** 0.5,
            0.8 * 0.5**0.5,
            0.8 * 2 / 3,
        ]
    )
    assert rates(16001, 4000, 5e-4)[16000] == pytest.approx(2.5e-4)  # the paper's, after 16,000 steps


def test_rates_count_inner_steps() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    base = torch.optim.AdamW([weight], lr=1.0)
    inverse_square_root(base, 100)
    optimizer = Lookbehind(base, rho=0.1, k=3, alpha=0.5)
    used = []
    base.register_step_pre_hook(lambda *_: used.append(base.param_groups[0]["lr"]))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step([closure] * 3)
    assert used == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05])
    SAM(base, rho=0.1).step(closure)
    assert used[6:] == pytest.approx([0.06])


def test_the_state_of_the_schedule() -> None:
    def made() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        base = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        return base, inverse_square_root(base, 3)

    (base, schedule), (again, other) = made(), made()
    for _ in range(5):
        base.step()
    other.load_state_dict(schedule.state_dict())
    again.load_state_dict(base.state_dict())
    for each in (base, again):
        each.step()
    assert again.param_groups[0]["lr"] == base.param_groups[0]["lr"] == pytest.approx(0.5**0.5)


def test_no_warmup() -> None:
    with pytest.raises(ValueError, match="warmup is 0"):
        inverse_square_root(torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]), 0)
