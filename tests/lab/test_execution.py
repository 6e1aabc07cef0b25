"""One run: its numbers, its measurements, and going on with it after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from lookbehind.data import load
from lookbehind.lab import (
    BusyError,
    Method,
    NoiseSettings,
    Record,
    Result,
    Run,
    SharpnessSettings,
    Store,
    Workload,
    execute,
)
from lookbehind.lab.build import data_of
from lookbehind.measure import m_sharpness, noisy_accuracy
from lookbehind.models import build
from lookbehind.optim import SAM as SAMOptimizer
from lookbehind.optim import Adaptive, Lookbehind
from tests.lab.runs import RUN, SAM, TINY, numbers

LOOKBEHIND = Method(kind="lookbehind", perturbation="sam", rho=0.2, k=2, alpha=0.5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    def unexpected(sentence: str) -> None:
        raise AssertionError(sentence)

    return Store(tmp_path, say=unexpected)


def parts(model: torch.nn.Module) -> list[torch.Tensor]:
    return [t.detach().clone() for t in model.state_dict().values()]


def test_a_run_with_a_change_of_method_equals_loops_by_hand(store: Store) -> None:
    """SAM for two epochs, then Lookbehind around a new SGD that is handed the momentum; learning rates by hand."""
    workload = TINY.model_copy(update={"epochs": 4, "schedule": "steps", "milestones": (1, 3), "noise": 0.3})
    run = Run(workload=workload, method=SAM, later=LOOKBEHIND, switch=2, seed=5)
    result = execute(run, store)

    data = load("digits", seed=5, train=60, validation=20, test=20, noise=0.3)
    torch.manual_seed(5)
    model = build("convnet", channels=1, classes=10)
    momenta: list[torch.Tensor | None] = [None for _ in model.parameters()]
    batches = data.train.shuffled(16, seed=5)
    for epoch, lr in enumerate([0.1, 0.01, 0.01, 0.001]):
        losses, right, norms = [], 0, []
        for images, labels in batches:
            base = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
            for p, buffer in zip(model.parameters(), momenta, strict=True):
                if buffer is not None:
                    base.state[p]["momentum_buffer"] = buffer
            model.train()
            with torch.no_grad():
                right += int((model_alike(model)(images).argmax(1) == labels).sum())
            copy = model_alike(model)
            gradients = torch.autograd.grad(cross_entropy(copy(images), labels), list(copy.parameters()))
            norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
            optimizer = SAMOptimizer(base, rho=0.1) if epoch < 2 else Lookbehind(base, rho=0.2, k=2, alpha=0.5)

            def closure(images=images, labels=labels, optimizer=optimizer):
                optimizer.zero_grad()
                loss = cross_entropy(model(images), labels)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
            momenta = [base.state[p]["momentum_buffer"] for p in model.parameters()]
        model.eval()
        with torch.no_grad():
            held_out = [
                (model(p.tensors()[0]).argmax(1) == p.labels).sum().item() for p in (data.validation, data.test)
            ]
        record = result.records[epoch]
        assert record.loss == pytest.approx(sum(losses) / 4, rel=1e-5)
        assert record.gradient_norm == pytest.approx(sum(norms) / 4, rel=1e-4)
        assert record.accuracy == pytest.approx(100 * right / 60)
        assert (record.validation, record.test) == tuple(pytest.approx(100 * n / 20) for n in held_out)
        assert record.lr == pytest.approx(lr)
        assert record.gradients == 4 * 2 * (epoch + 1) if epoch < 2 else 16 + 4 * 3 * (epoch - 1)
    weights = store.weights(run)
    for name, tensor in model.state_dict().items():
        assert torch.equal(weights[name], tensor), name


def model_alike(model: torch.nn.Module) -> torch.nn.Module:
    """A copy, whose batch norm may follow what it is shown."""
    copy = build("convnet", channels=1, classes=10)
    copy.load_state_dict(model.state_dict())
    return copy.train()


def test_the_last_accuracy_is_that_of_the_weights_on_disk(store: Store) -> None:
    """Of the slow weights, since k = 5 does not divide the 2·4 steps; they are not the fast ones."""
    run = Run(workload=TINY, method=Method(kind="lookahead", perturbation="sam", rho=0.1, k=5, alpha=0.5), seed=1)
    result = execute(run, store)
    model = build("convnet", channels=1, classes=10)
    model.load_state_dict(store.weights(run))
    model.eval()
    images, labels = data_of(run, "cpu").test.tensors()
    assert result.last.test == 100 * (model(images).argmax(1) == labels).sum().item() / 20


def test_measurements_are_those_of_the_functions(store: Store) -> None:
    sharp = SharpnessSettings(radii=(0.1, 0.5), m=10, perturbation="asam", images=25)
    noisy = NoiseSettings(sigmas=(0.0, 0.5), draws=2, weights_only=True)
    execute(RUN, store)
    assert store.measured(RUN, sharp) is None
    assert not store.complete(RUN, [sharp])
    execute(RUN, store, [sharp, noisy])  # later, without training again
    assert store.complete(RUN, [sharp, noisy])
    model, data = build("convnet", channels=1, classes=10), data_of(RUN, "cpu")
    model.load_state_dict(store.weights(RUN))
    images, labels = (t[:25] for t in data.train.tensors())
    batches = list(zip(images.split(10), labels.split(10), strict=True))
    direct = m_sharpness(model, cross_entropy, batches, [0.1, 0.5], perturbation=Adaptive(eta=0.0))
    assert store.measured(RUN, sharp)["values"] == pytest.approx(list(direct.values), rel=1e-5)
    everything, test = [data.train.tensors()], [data.test.tensors()]
    by_hand = noisy_accuracy(model, everything, test, [0.0, 0.5], draws=2, weights_only=True, seed=0)
    assert store.measured(RUN, noisy)["draws"] == 2
    assert store.measured(RUN, noisy)["means"] == pytest.approx(list(by_hand.means), abs=10)
    assert store.measured(RUN, noisy)["means"][0] == pytest.approx(store.result(RUN).last.test, abs=25)


def test_a_diverged_run_is_recorded_and_not_measured(store: Store) -> None:
    workload = TINY.model_copy(update={"lr": 1e30, "epochs": 5})
    sharp = SharpnessSettings(radii=(0.1,))
    result = execute(Run(workload=workload, method=SAM), store, [sharp])
    assert result.status == "diverged"
    assert len(result.records) < 5
    assert result.loss is None
    assert store.complete(Run(workload=workload, method=SAM), [sharp])
    assert store.measured(Run(workload=workload, method=SAM), sharp) is None


@pytest.mark.parametrize(
    "run",
    [
        Run(workload=TINY.model_copy(update={"epochs": 6}), method=SAM, later=LOOKBEHIND, switch=3),
        Run(workload=TINY.model_copy(update={"epochs": 6, "schedule": "cosine"}), method=SAM),
        Run(
            workload=TINY.model_copy(update={"epochs": 6, "schedule": "steps", "milestones": (2, 4)}),
            method=Method(kind="lookahead", perturbation="sam", rho=0.1, k=7, alpha=0.5),
            later=LOOKBEHIND.model_copy(update={"alpha": "adaptive"}),
            switch=3,
        ),
        Run(  # stopped in the middle of Lookahead's cycles, after the change
            workload=TINY.model_copy(update={"epochs": 6}),
            method=LOOKBEHIND,
            later=Method(kind="lookahead", perturbation="sam", rho=0.1, k=7, alpha=0.5),
            switch=2,
        ),
        Run(workload=TINY.model_copy(update={"epochs": 6, "channels_last": True}), method=LOOKBEHIND),
    ],
)
def test_stopped_after_any_epoch_it_ends_as_if_it_had_not(run: Run, tmp_path: Path) -> None:
    undisturbed = numbers(execute(run, Store(tmp_path / "undisturbed")))
    for stop in range(1, 7):
        store = Store(tmp_path / str(stop))

        def pull_the_plug(record: Record, stop=stop) -> None:
            if record.epoch == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(run, store, on_epoch=pull_the_plug, save_every=0)
        assert store.result(run) is None
        assert len(store.checkpoint(run)["records"]) == stop
        seen: list[Record] = []
        torch.manual_seed(99)
        assert numbers(execute(run, store, on_epoch=seen.append)) == undisturbed
        assert [record.epoch for record in seen] == list(range(stop + 1, 7))
        log = [json.loads(line) for line in (store.folder(run) / "log.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in log] == [1, 2, 3, 4, 5, 6]
        assert not (store.folder(run) / "last.pt").exists()


def test_checkpoints_are_as_rare_as_asked(store: Store) -> None:
    def stop(record: Record) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(RUN, store, on_epoch=stop, save_every=1000)
    assert store.checkpoint(RUN) is None


def test_where_it_was_trained_is_recorded(store: Store, monkeypatch) -> None:
    def stop(record: Record) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(RUN, store, on_epoch=stop, save_every=0)
    import lookbehind.lab.environment as environment

    monkeypatch.setattr(environment, "__version__", "9.9")
    first, second = execute(RUN, store).environments
    assert (first["lookbehind"], first["after"]) != (second["lookbehind"], second["after"]) == ("9.9", 1)
    assert first["libraries"]["torch"] == torch.__version__
    content = json.loads((store.folder(RUN) / "run.json").read_text())
    assert content["seed"] == 0
    assert content["data"]["selection"]["train"] == 60
    assert len(content["environments"]) == 2


def test_a_failure_is_recorded_and_forgotten_when_it_goes_right(store: Store) -> None:
    def fail(record: Record) -> None:
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError):
        execute(RUN, store, on_epoch=fail)
    assert store.failure(RUN) == "RuntimeError: no luck"
    assert "in fail" in json.loads((store.folder(RUN) / "failed.json").read_text())["traceback"]
    execute(RUN, store)
    assert store.failure(RUN) is None


def test_one_at_a_time(store: Store) -> None:
    with store.lock(RUN), pytest.raises(BusyError, match=RUN.address):
        execute(RUN, store)
    execute(RUN, store)


def test_best_and_last() -> None:
    def record(epoch: int, validation: float | None, test: float) -> Record:
        given = {"loss": 1.0, "accuracy": 1.0, "gradient_norm": 1.0, "alpha": None, "lr": 0.1}
        return Record(epoch=epoch, validation=validation, test=test, gradients=epoch, seconds=1.0, **given)

    records = (record(1, 50.0, 60.0), record(2, 70.0, 65.0), record(3, 70.0, 80.0), record(4, 60.0, 80.0))
    given = {"status": "finished", "weights": "", "data": {}, "environments": ()}
    result = Result(records=records, **given)
    assert result.best_by_test.epoch == 3  # the first of equals
    assert result.best_by_validation.epoch == 2
    assert (result.last.epoch, result.gradients) == (4, 4)
    assert result.summary()["best"]["validation"] == {"epoch": 2, "validation": 70.0, "test": 65.0}
    assert Result(records=(record(1, None, 5.0),), **given).best_by_validation is None


def test_without_validation_images(store: Store) -> None:
    run = Run(workload=Workload(**{**TINY.model_dump(), "validation": 0, "epochs": 1}), method=SAM)
    assert execute(run, store).last.validation is None


def test_curves_for_tensorboard(store: Store) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = execute(RUN, store, tensorboard=True)
    events = EventAccumulator(str(store.folder(RUN) / "tensorboard"))
    events.Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("loss")] == [
        (record.epoch, record.loss) for record in result.records
    ]
