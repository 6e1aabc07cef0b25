"""BatchNorm running statistics: of every pass as in the paper's code, or of the unperturbed pass only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lookbehind import Lookbehind
from tests.conformance.rows import ROWS, Row, Task, same

climbers = pytest.mark.parametrize("row", [r for r in ROWS if r.own_model], ids=lambda row: row.name)


def _statistics(task: Task) -> list[Tensor]:
    return [b.detach().clone() for b in task.net.buffers()]


@pytest.mark.parametrize("row", [row for row in ROWS if row.own_model and row.clean], ids=lambda row: row.name)
def test_with_model_statistics_follow_the_unperturbed_pass_exactly(row: Row) -> None:
    task, plain = Task(norm=True), Task(norm=True)
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1), model=task.net)
    for i in range(4):
        plain.net.load_state_dict({**task.net.state_dict()})
        plain.loss(i)  # one forward pass in training mode, at the same weights
        optimizer.step(task.closure(i))
        assert same(_statistics(task), _statistics(plain))  # num_batches_tracked too
    assert task.net[1].momentum == 0.1
    assert task.net[1].track_running_stats


@climbers
def test_without_model_they_follow_every_pass(row: Row) -> None:
    task = Task(norm=True)
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    optimizer.step(task.closure())
    assert task.net[1].num_batches_tracked == row.calls


@climbers
def test_weights_do_not_depend_on_it(row: Row) -> None:
    a, b = Task(norm=True), Task(norm=True)
    with_model = row.make(torch.optim.SGD(a.net.parameters(), lr=0.1), model=a.net)
    without = row.make(torch.optim.SGD(b.net.parameters(), lr=0.1))
    for i in range(4):
        with_model.step(a.closure(i))
        without.step(b.closure(i))
    assert same(a.weights(), b.weights())


@climbers
def test_a_failing_pass_restores_them(row: Row) -> None:
    task = Task(norm=True)
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1), model=task.net)
    before = _statistics(task)
    for failing_call in range(1, row.calls + 1):
        task.calls = 0

        def closure() -> Tensor:
            loss = task.closure()()
            if task.calls == failing_call:  # noqa: B023 -- used within this pass of the loop only
                raise RuntimeError("out of memory")
            return loss

        with pytest.raises(RuntimeError, match="out of memory"):
            optimizer.step(closure)
        assert same(_statistics(task), before)


def test_re_entrant_with_another_optimizer_on_the_same_model() -> None:
    """Two optimizers share a model, as in a GAN or with layer-wise settings; neither spoils the other's bookkeeping."""
    task = Task(norm=True)
    optimizers = [Lookbehind(torch.optim.SGD(task.net[j].parameters(), lr=0.1), k=2, model=task.net) for j in (0, 2)]
    for optimizer in optimizers:
        optimizer.step(task.closure())
    assert task.net[1].num_batches_tracked == 2
    assert task.net[1].momentum == 0.1


def test_switching_minibatches_counts_the_only_unperturbed_pass() -> None:
    task = Task(norm=True)
    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=0.1), k=3, model=task.net)
    optimizer.step([task.closure(i) for i in range(3)])
    assert task.net[1].num_batches_tracked == 1


def test_cumulative_average_and_no_statistics_at_all() -> None:
    net = nn.Sequential(nn.BatchNorm1d(4, momentum=None), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 1))
    optimizer = Lookbehind(torch.optim.SGD(net.parameters(), lr=0.1), k=2, model=net)
    x = torch.randn(16, 4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    torch.testing.assert_close(net[0].running_mean, x.mean(0))
    assert net[0].num_batches_tracked == 3


def test_a_model_of_other_parameters_is_named() -> None:
    trained, other = Task(norm=True).net, Task(norm=True).net
    with pytest.warns(UserWarning, match="none of the parameters of this Lookbehind"):
        Lookbehind(torch.optim.SGD(trained.parameters(), lr=0.1), model=other)
