"""Translation as a kind of workload in the lab."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lookbehind.data import trans_de_en
from lookbehind.lab import Method, Record, Run, Store, execute
from lookbehind.lab.translation import Translation
from lookbehind.lab.workloads import fetch, training
from tests.lab.runs import numbers
from tests.translation.runs import ADAM, ADAPTIVE, LOOKAHEAD, LOOKBEHIND, RUN, SAM, TINY


def records(run: Run) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    training(run, "cpu").train(lambda record: seen.append(dict(record)))
    return seen


@pytest.mark.parametrize(
    ("method", "each"), [(ADAM, 1), (SAM, 2), (LOOKBEHIND, 2), (LOOKBEHIND.model_copy(update={"switching": False}), 3)]
)
def test_gradients_and_rates(method: Method, each: int) -> None:
    """With switching minibatches each minibatch takes two gradients; the rates count base steps, also inner ones."""
    run = Run(workload=TINY.model_copy(update={"epochs": 1, "warmup": 5}), method=method)
    made = training(run, "cpu")
    n = made.data["minibatches"]
    taken = n // 2 * 2 if method.switching else n
    assert n % 2  # so that one is left out
    (record,) = records(run)
    assert record["gradients"] == taken * each
    steps = 2 * n if method.kind == "lookbehind" and not method.switching else taken
    assert record["lr"] == pytest.approx(1e-2 * math.sqrt(5 / steps))
    assert (record["alpha"] is None) == (method.alpha != "adaptive")


def test_switching_takes_k_minibatches_with_two_gradients_each() -> None:
    made = training(RUN, "cpu")
    seen: list[int] = []
    steps: list[int] = []
    made.model.register_forward_pre_hook(lambda _, args: seen.append(id(args[0][0])) if made.model.training else None)
    made.optimizer.register_step_post_hook(lambda *_: steps.append(len(seen)))
    kept = list(made.minibatches)  # so that no address is used twice
    made.minibatches = kept
    made.workload = made.workload.model_copy(update={"epochs": 1})
    made.train(lambda record: None)
    assert steps == list(range(4, 2 * len(kept) - 1, 4))
    order = [id(source) for (source, _), _ in kept]
    assert seen == [address for address in order[: len(order) // 2 * 2] for _ in range(2)]


def test_dropout_is_drawn_anew_in_each_pass() -> None:
    """At ρ = 0 the second gradient of a minibatch is taken at the same weights: its loss differs by dropout alone."""
    for dropout in (0.0, 0.1):
        run = Run(workload=TINY.model_copy(update={"dropout": dropout}), method=SAM.model_copy(update={"rho": 0.0}))
        made = training(run, "cpu")
        outputs: list[torch.Tensor] = []
        made.model.register_forward_hook(lambda _, args, out, outputs=outputs: outputs.append(out.detach()))
        made.minibatches = list(made.minibatches)[:1]
        made.workload = made.workload.model_copy(update={"epochs": 1})
        made.train(lambda record: None)
        assert torch.equal(outputs[0], outputs[1]) == (dropout == 0)


def test_it_learns_to_translate() -> None:
    workload = TINY.model_copy(
        update={"train": 250, "width": 32, "feedforward": 64, "epochs": 16, "dropout": 0.0, "warmup": 40, "tokens": 192}
    )
    every = records(Run(workload=workload, method=SAM))
    assert every[-1]["loss"] < every[0]["loss"] - 1
    assert every[0]["test"] < 20 < 40 < every[-1]["test"]


def test_the_weights_are_those_of_the_best_validation_score() -> None:
    made = training(Run(workload=TINY.model_copy(update={"epochs": 5}), method=LOOKAHEAD), "cpu")
    validation = [10.0, 30.0, 20.0, 30.0, 5.0]
    made.score = lambda pairs: validation[len(seen)] if pairs is made.corpus.validation else 0.0
    states: list[dict[str, torch.Tensor]] = []
    seen: list[dict[str, Any]] = []

    def after(record: Any) -> None:
        seen.append(dict(record))
        with made.optimizer.slow_weights():
            states.append({k: v.clone() for k, v in made.model.state_dict().items()})

    made.train(after)
    assert [record["validation"] for record in seen] == validation
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, states[1][name]), name  # the first of the best


@pytest.mark.parametrize("method", [ADAM, SAM, LOOKBEHIND, ADAPTIVE, LOOKAHEAD])
def test_stopped_after_any_epoch_it_ends_as_if_it_had_not(method: Method, tmp_path: Path) -> None:
    run = Run(workload=TINY, method=method)
    undisturbed = numbers(execute(run, Store(tmp_path / "undisturbed")))
    for stop in (1, 2, 3):
        store = Store(tmp_path / str(stop))

        def pull_the_plug(record: Record, stop=stop) -> None:
            if record.epoch == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(run, store, on_epoch=pull_the_plug, save_every=0)
        torch.manual_seed(99)
        assert numbers(execute(run, store)) == undisturbed


LONG = Run(workload=TINY.model_copy(update={"epochs": 12}), method=ADAPTIVE)


def _train(root: Path) -> None:
    torch.set_num_threads(1)
    execute(LONG, Store(root), save_every=0.0)


def test_killed_it_ends_as_if_it_had_not(tmp_path: Path, forked: Any) -> None:
    undisturbed = numbers(execute(LONG, Store(tmp_path / "undisturbed")))
    store = Store(tmp_path / "killed")
    process = forked.Process(target=_train, args=(tmp_path / "killed",))
    process.start()
    while process.is_alive() and ((state := store.checkpoint(LONG)) is None or len(state["records"]) < 4):
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert store.result(LONG) is None  # it was killed before its end
    assert numbers(execute(LONG, store)) == undisturbed


def test_other_pairs_are_no_continuation(monkeypatch) -> None:
    one, other = (training(Run(workload=TINY, method=SAM, seed=seed), "cpu") for seed in (0, 1))
    with pytest.raises(ValueError, match="are not those of the checkpoint"):
        other.load_state_dict(one.state_dict())


def test_divergence_ends_a_run(tmp_path: Path) -> None:
    run = Run(workload=TINY.model_copy(update={"lr": 1e30, "warmup": 1}), method=ADAM)
    result = execute(run, Store(tmp_path))
    assert result.status == "diverged"
    assert len(result.records) < 3


def test_what_was_decided(tmp_path: Path) -> None:
    result = execute(RUN, Store(tmp_path))
    made = training(RUN, "cpu")
    assert result.data["pairs"] == [60, 12, 12]
    assert result.data["sentences"] == made.corpus.digest
    assert result.data["parameters"] == sum(p.numel() for p in made.model.parameters())
    assert Store(tmp_path).weights(RUN).keys() == made.model.state_dict().keys()


def test_scores(monkeypatch) -> None:
    cased = TINY.model_copy(update={"lowercase": False, "epochs": 1})
    made = training(Run(workload=cased, method=ADAM), "cpu")
    references = [target for _, target in made.corpus.test]
    answers = [made.tokens.target.encode(target) for target in references]
    lower = [made.tokens.target.encode(target.lower()) for target in references]
    known = next(i for i, each in enumerate(lower) if made.tokens.target.decode(each) == references[i].lower())
    answers[known] = lower[known]
    monkeypatch.setattr("lookbehind.lab.workloads.translation.translate", lambda *_, **__: answers)
    assert made.score(made.corpus.test) == pytest.approx(100)  # tokenised and lowercased
    made.workload = cased.model_copy(update={"score": "detokenised"})
    assert 50 < made.score(made.corpus.test) < 100
    assert made.score([]) is None


def test_data_that_are_missing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LOOKBEHIND_DATA", str(tmp_path))
    monkeypatch.setattr(trans_de_en, "DEBIAN", tmp_path / "none")
    with pytest.raises(ValueError, match="apt-get install trans-de-en"):
        fetch(TINY.model_copy(update={"dataset": "trans-de-en"}))
    with pytest.raises(ValueError, match="IWSLT'14 DE-EN is not in"):
        fetch(TINY.model_copy(update={"dataset": "iwslt14"}))
    fetch(TINY)
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(ValueError, match=r'sacrebleu is not installed: pip install "\.\[text\]"'):
        fetch(TINY)


def test_bad_workloads() -> None:
    with pytest.raises(ValueError, match="width is 10; an even multiple of the 4 heads"):
        Translation(dataset="sentences", epochs=1, width=10)
    with pytest.raises(ValueError, match="shortest is 9 and longest 3"):
        Translation(dataset="sentences", epochs=1, shortest=9, longest=3)
    with pytest.raises(ValueError, match="later is given"):
        training(Run(workload=TINY, method=ADAM, later=SAM, switch=1), "cpu")
