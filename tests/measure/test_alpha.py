"""The trace of the adaptive α."""

from __future__ import annotations

import pytest
import torch

from lookbehind import SAM, Lookbehind
from lookbehind.measure import alpha_trace
from tests.conformance.rows import Synchronisations, Task


@pytest.mark.parametrize("alpha", ["adaptive", "adaptive_per_tensor"])
def test_trace_equals_alpha_star_of_each_step(alpha: str) -> None:
    task = Task()
    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=0.1), 0.2, 3, alpha)
    expected = []
    optimizer.step(task.closure())  # before the trace
    with alpha_trace(optimizer) as recording:
        for i in range(5):
            optimizer.step(task.closure(i))
            expected.append(tuple(optimizer.alpha_star.reshape(-1).tolist()))
    optimizer.step(task.closure())  # after it
    trace = recording.result()
    assert trace.values == tuple(expected)
    assert len(trace.values[0]) == (1 if alpha == "adaptive" else 4)
    assert trace.means == pytest.approx([sum(v) / len(v) for v in expected])
    assert trace.to_dict()["adaptive"] == alpha
    assert trace.plot().lines[0].get_ydata() == pytest.approx(trace.means)


def test_alpha_star_against_the_angle_of_the_displacements() -> None:
    """A base that records the fast weights gives cos θ by an independent way."""
    task = Task()
    fast = []
    base = torch.optim.SGD(task.net.parameters(), lr=0.5)
    base.register_step_post_hook(lambda *_: fast.append(torch.cat([w.flatten() for w in task.weights()])))
    optimizer = Lookbehind(base, 0.3, 4, "adaptive")
    with alpha_trace(optimizer) as recording:
        for i in range(6):
            fast.clear()
            start = torch.cat([w.flatten() for w in task.weights()])
            optimizer.step(task.closure(i))
            cosine = torch.nn.functional.cosine_similarity(fast[0] - start, fast[-1] - start, dim=0).item()
            assert recording.result().means[-1] == pytest.approx((cosine + 1) / 2)
    assert min(recording.result().means) < 0.999


@pytest.mark.usefixtures("on_a_device")
def test_no_synchronisation_and_skipped_steps_left_out() -> None:
    task = Task()
    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=0.1), alpha="adaptive")
    with alpha_trace(optimizer) as recording:
        optimizer.step(task.closure())
        with Synchronisations() as found:
            optimizer.step(task.closure())
        assert found.found == []
    assert len(recording.result().values) == 2

    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=0.1), alpha="adaptive", nonfinite="skip")

    def poisoned() -> torch.Tensor:
        loss = task.closure()()
        task.net[0].weight.grad.fill_(float("nan"))
        return loss

    with alpha_trace(optimizer) as recording:
        optimizer.step(task.closure())
        optimizer.step(poisoned)
    assert len(recording.result().values) == 1
    assert recording.result().plot() is not None


def test_mistakes() -> None:
    base = torch.optim.SGD(Task().net.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="optimizer is SAM"), alpha_trace(SAM(base)):
        pass
    with pytest.raises(ValueError, match="fixed alpha"), alpha_trace(Lookbehind(base, alpha=0.5)):
        pass
