"""The training loop."""

from __future__ import annotations

import json
import math
from collections import UserDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lookbehind import METHODS, SAM, FractionSAM, Lookahead, Lookbehind, MultistepSAM
from lookbehind.measure import alpha_trace
from lookbehind.training import Epoch, History, fit, train

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


def test_minibatches_can_switch_within_a_step() -> None:
    a, b = net(), net()
    minibatches = list(zip(IMAGES.split(4), LABELS.split(4), strict=True))  # 5: one is left out
    history = fit(a, Lookbehind(sgd(a), k=2), minibatches, epochs=2, minibatches_per_step=2)
    assert history.gradients == 2 * 2 * 4  # epochs, steps, 2k
    optimizer = Lookbehind(sgd(b), k=2)

    def closure(inputs: Tensor, targets: Tensor):
        def evaluate() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(b(inputs), targets)
            loss.backward()
            return loss

        return evaluate

    for _ in range(2):
        for first, second in (minibatches[:2], minibatches[2:4]):
            optimizer.step([closure(*first), closure(*second)])
    assert torch.equal(a.weight, b.weight)
    with pytest.raises(ValueError, match="fewer than a step takes"):
        fit(a, Lookbehind(sgd(a), k=6), minibatches, epochs=1, minibatches_per_step=6)


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


def test_weights_ruined_by_the_last_step_are_a_divergence() -> None:
    """The loss is measured before the step, so the epoch's mean does not show it."""
    model = net()
    history = fit(model, torch.optim.SGD(model.parameters(), lr=float("inf")), [(IMAGES, LABELS)], epochs=5)
    assert history.diverged
    assert [math.isfinite(e.loss) for e in history.epochs] == [True]


MINIBATCHES = list(zip(IMAGES.split(8), LABELS.split(8), strict=True))


def test_an_epoch_is_described_at_the_unperturbed_weights() -> None:
    model = net()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.5), rho=0.5)
    seen: list[tuple[float, float, int]] = []
    for inputs, targets in MINIBATCHES * 2:
        copy = net()
        copy.load_state_dict(model.state_dict())
        outputs = copy(inputs)
        loss = nn.functional.cross_entropy(outputs, targets)
        gradients = torch.autograd.grad(loss, list(copy.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        seen.append((loss.item(), norm.item(), int((outputs.argmax(1) == targets).sum())))
        optimizer.step(lambda inputs=inputs, targets=targets: closure(optimizer, model, inputs, targets))
    model = net()
    history = fit(model, SAM(torch.optim.SGD(model.parameters(), lr=0.5), rho=0.5), MINIBATCHES, epochs=2)
    for epoch, part in zip(history.epochs, (seen[:3], seen[3:]), strict=True):
        losses, norms, right = zip(*part, strict=True)
        assert epoch.loss == pytest.approx(sum(losses) / 3)
        assert epoch.gradient_norm == pytest.approx(sum(norms) / 3)
        assert epoch.accuracy == 100 * sum(right) / 20
        assert epoch.alpha is None


def closure(optimizer: torch.optim.Optimizer, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss.backward()
    return loss


@pytest.mark.parametrize("alpha", ["adaptive", "adaptive_per_tensor"])
def test_alpha_is_the_mean_of_its_trace(alpha: str) -> None:
    model = net()
    optimizer = Lookbehind(sgd(model), rho=0.5, k=3, alpha=alpha)
    with alpha_trace(optimizer) as recording:
        history = fit(model, optimizer, MINIBATCHES, epochs=2)
    means = recording.result().means
    assert [e.alpha for e in history.epochs] == pytest.approx([sum(means[:3]) / 3, sum(means[3:]) / 3])
    model = net()
    assert fit(model, Lookbehind(sgd(model), alpha=0.5), MINIBATCHES, epochs=1).epochs[0].alpha is None


def test_targets_that_are_no_classes_have_no_accuracy() -> None:
    model = nn.Linear(3, 1)
    data = [(IMAGES, IMAGES.sum(1, keepdim=True))]
    history = fit(model, sgd(model), data, epochs=1, loss=nn.functional.mse_loss)
    assert history.epochs[0].accuracy is None


def test_going_on_equals_not_having_stopped() -> None:
    whole, halves = net(), net()
    optimizers = [Lookahead(SAM(torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)), k=4) for m in (whole, halves)]
    schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1) for optimizer in optimizers]
    history = fit(whole, optimizers[0], MINIBATCHES, epochs=5, scheduler=schedulers[0])

    class Stop(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        kept.append(epoch)
        if len(kept) == 2:
            raise Stop  # in the middle of a cycle

    kept: list[Epoch] = []
    with pytest.raises(Stop):
        fit(halves, optimizers[1], MINIBATCHES, epochs=5, scheduler=schedulers[1], on_epoch=stop)
    seen: list[Epoch] = []
    rest = fit(
        halves,
        optimizers[1],
        MINIBATCHES,
        epochs=5,
        scheduler=schedulers[1],
        on_epoch=seen.append,
        history=History(list(kept)),
    )
    assert len(seen) == 3
    assert rest.epochs[:2] == kept
    assert [vars(e) | {"seconds": 0} for e in rest.epochs] == [vars(e) | {"seconds": 0} for e in history.epochs]
    assert [e.seconds for e in rest.epochs] == sorted(e.seconds for e in rest.epochs)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), halves.parameters(), strict=True))


def test_a_history_comes_back_from_plain_values() -> None:
    model = net()
    history = fit(model, sgd(model), MINIBATCHES, epochs=2)
    other = History()
    other.load_state_dict(json.loads(json.dumps(history.state_dict())))
    assert other == history


def test_a_diverged_run_does_not_go_on() -> None:
    model = net()
    assert fit(model, sgd(model), MINIBATCHES, epochs=5, history=History(diverged=True)).epochs == []


@pytest.mark.usefixtures("on_a_device")
def test_no_step_waits_for_the_device(monkeypatch) -> None:
    """On a GPU each of these would. Numbers are fetched when the epoch is over."""
    waits: list[str] = []
    for name in ("item", "__float__", "__bool__", "__int__", "tolist"):
        original = getattr(Tensor, name)

        def counted(tensor: Tensor, *args, original=original, name=name):
            if inside:
                waits.append(name)
            return original(tensor, *args)

        monkeypatch.setattr(Tensor, name, counted)
    inside = False

    class Watched(list):
        def __iter__(self):
            nonlocal inside
            inside = True
            yield from super().__iter__()
            inside = False

    model = net()
    for optimizer in (Lookbehind(sgd(model), alpha="adaptive"), SAM(sgd(model))):
        fit(model, optimizer, Watched(MINIBATCHES), epochs=2)
    assert waits == []


def test_minibatches_have_to_be_there_again_and_again() -> None:
    model = net()
    with pytest.raises(ValueError, match="minibatches is empty"):
        fit(model, sgd(model), [], epochs=1)
    with pytest.raises(ValueError, match="does not take a dict with 'inputs', 'labels' by keywords"):
        fit(model, sgd(model), [{"inputs": IMAGES, "labels": LABELS}], epochs=1)
    with pytest.raises(ValueError, match="minibatches is an iterator"):
        fit(model, sgd(model), iter(MINIBATCHES), epochs=1)


@pytest.mark.parametrize("descend", ["whole", "rest"])
def test_a_fraction_of_each_minibatch_climbs(descend: str) -> None:
    """Against steps with closures of one's own; the gradient of a part counts as its share."""
    generator = torch.Generator().manual_seed(0)
    minibatches = [
        (torch.randn(8, 3, generator=generator), torch.randint(2, (8,), generator=generator)) for _ in range(3)
    ]
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    a, b = (FractionSAM(torch.optim.SGD(m.parameters(), lr=0.1), 0.1, 0.25, descend) for m in (one, other))  # type: ignore[arg-type]
    history = fit(one, a, minibatches, epochs=2)
    assert history.gradients == 6 * (1.25 if descend == "whole" else 1.0)
    for x, y in minibatches * 2:

        def closure_of(x: torch.Tensor, y: torch.Tensor) -> Callable[[], torch.Tensor]:
            def closure() -> torch.Tensor:
                b.zero_grad()
                loss = nn.functional.cross_entropy(other(x), y)
                loss.backward()
                return loss

            return closure

        rest = slice(0, None) if descend == "whole" else slice(2, None)
        b.step([closure_of(x[:2], y[:2]), closure_of(x[rest], y[rest])])
    assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "fraction_sam"])
def test_fit_takes_every_method(name: str) -> None:
    record = METHODS[name]
    minibatches = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1])) for _ in range(6)]
    model = nn.Linear(3, 2)
    optimizer = record.build(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), **record.trial)
    history = fit(model, optimizer, minibatches, epochs=1, minibatches_per_step=record.closures)
    assert not history.diverged
    assert history.gradients == record.gradients(6 // record.closures, **record.trial) * record.closures


class WithLoss(nn.Module):
    """A model that takes a dict by keywords and returns its own loss, as those of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.seen: list[int] = []

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.seen.append(len(x))
        logits = self.layer(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize("form", [dict, UserDict])
def test_a_fraction_of_a_dict_is_a_fraction_whatever_its_class(form: type) -> None:
    torch.manual_seed(0)
    model = WithLoss()
    optimizer = FractionSAM(sgd(model), fraction=0.25)
    history = fit(model, optimizer, [form({"x": IMAGES[:8], "labels": LABELS[:8]})], epochs=1, loss=None)
    assert model.seen == [2, 8]
    assert history.gradients == 1.25


@pytest.mark.parametrize("around", [lambda o: o, lambda o: Lookahead(o)])
def test_a_fraction_is_of_one_minibatch(around: Callable[[FractionSAM], torch.optim.Optimizer]) -> None:
    model = net()
    minibatches = list(zip(IMAGES.split(4), LABELS.split(4), strict=True))
    with pytest.raises(ValueError, match="minibatches_per_step is 2"):
        fit(model, around(FractionSAM(sgd(model))), minibatches, epochs=1, minibatches_per_step=2)
    assert fit(model, around(FractionSAM(sgd(model))), minibatches, epochs=1).gradients == pytest.approx(5 * 1.25)


@pytest.mark.parametrize("fraction", [0.25, 0.33, 1.0])
@pytest.mark.parametrize("examples", [2, 5, 10, 20])
def test_the_rest_counts_by_its_examples(examples: int, fraction: float) -> None:
    """Without a climb, a part and the rest are the whole, however many whole examples a part has."""
    a, b = net(), net()
    minibatches = [(IMAGES[:examples], LABELS[:examples])] * 3
    fit(a, FractionSAM(sgd(a), rho=0.0, fraction=fraction, descend="rest"), minibatches, epochs=1)
    fit(b, sgd(b), minibatches, epochs=1)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_skipped_steps_do_not_end_a_training() -> None:
    model = net()
    minibatches = [(x.clone(), y) for x, y in zip(IMAGES.split(5), LABELS.split(5), strict=True)]
    minibatches[2][0][0, 0] = math.nan
    optimizer = SAM(sgd(model), nonfinite="skip")
    history = fit(model, optimizer, minibatches, epochs=3)
    assert len(history.epochs) == 3
    assert optimizer.skipped_steps == 3
    assert all(math.isfinite(e.loss) and math.isfinite(e.gradient_norm) for e in history.epochs)
    ended = fit(model, optimizer, minibatches[2:3], epochs=3)  # all steps are skipped
    assert ended.diverged
    assert len(ended.epochs) == 1


def test_slow_weights_of_a_lookahead_inside_are_what_is_left() -> None:
    model = net()
    optimizer = SAM(Lookahead(sgd(model), k=50))
    start = model.weight.detach().clone()
    train(model, optimizer, IMAGES, LABELS, epochs=2, batch=8)
    assert torch.equal(model.weight, start)
