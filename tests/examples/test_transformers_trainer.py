"""SharpnessAwareTrainer against a plain loop over the same micro-batches, and what it refuses."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertLMHeadModel, Trainer, TrainerCallback, TrainingArguments

from lookbehind import GSAM, S2SAM, SAM, AccumulatingSAM, FriendlySAM, Lookahead, Lookbehind, MomentumSAM, MultistepSAM
from lookbehind.integrations.transformers import SharpnessAwareTrainer

BATCH, LENGTH, STEPS = 4, 12, 5


def build(dropout: float = 0.0) -> BertLMHeadModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    off = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return BertLMHeadModel(BertConfig(vocab_size=128, is_decoder=True, **sizes, **off))


def sentences(number: int) -> list[dict[str, Tensor]]:
    """Return pieces of a docstring, of various lengths: the micro-batches have different numbers of labels."""
    text = torch.tensor([min(ord(c), 127) for c in str(torch.optim.Optimizer.__doc__) + str(nn.Module.__doc__)])
    examples = []
    for i in range(number):
        tokens = text[i * LENGTH : (i + 1) * LENGTH]
        labels = tokens.clone()
        labels[0] = labels[
            3 + i * i % (LENGTH - 3) :
        ] = -100  # the first is no prediction, and not always counted as none
        examples.append({"input_ids": tokens, "labels": labels})
    return examples


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    defaults = {
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "train_sampling_strategy": "sequential",
        "learning_rate": 0.1,
        "warmup_steps": 2,
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
    }
    return TrainingArguments(str(folder), **{**defaults, **options})


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


METHODS: dict[str, tuple[Callable[[nn.Module], Any], int]] = {  # with the passes of a step
    "SGD": (sgd, 1),
    "SAM": (lambda m: SAM(sgd(m), rho=0.1), 2),
    "ASAM": (lambda m: SAM(sgd(m), rho=0.5, perturbation="asam"), 2),
    "MultistepSAM": (lambda m: MultistepSAM(sgd(m), rho=0.1, k=3, gradient="mean"), 4),
    "Lookbehind": (lambda m: Lookbehind(sgd(m), rho=0.1, k=2, alpha=0.5), 3),
    "Lookbehind adaptive": (lambda m: Lookbehind(sgd(m), rho=0.1, k=3, alpha="adaptive"), 4),
    # Their first pass is at perturbed weights.
    "MomentumSAM": (lambda m: MomentumSAM(sgd(m), rho=0.3), 1),
    "S2SAM": (lambda m: S2SAM(sgd(m), rho=0.1), 1),
    "Lookahead MomentumSAM": (lambda m: Lookahead(MomentumSAM(sgd(m), rho=0.3), k=2), 1),
    "GSAM": (lambda m: GSAM(sgd(m), rho=0.1), 2),
    "FriendlySAM": (lambda m: FriendlySAM(sgd(m), rho=0.1), 2),
    "Lookahead": (lambda m: Lookahead(sgd(m), k=2), 1),
    "Lookahead SAM": (lambda m: Lookahead(SAM(sgd(m), rho=0.1), k=2), 2),
}
every_method = pytest.mark.parametrize("name", METHODS)


def count_passes(model: nn.Module) -> list[int]:
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    return passes


def plain_loop(name: str, accumulation: int, clip: float) -> tuple[list[Tensor], list[float]]:
    """Train with whole minibatches, the mean loss over all their labels, and the schedule written out."""
    model = build()
    optimizer = METHODS[name][0](model)
    examples = sentences(BATCH * accumulation * STEPS)
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (step / 2 if step < 2 else (STEPS - step) / (STEPS - 2))
        batch = examples[step * BATCH * accumulation : (step + 1) * BATCH * accumulation]
        tokens, labels = (torch.stack([e[key] for e in batch]) for key in ("input_ids", "labels"))

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = model(input_ids=tokens).logits[:, :-1]  # noqa: B023 -- used within this pass of the loop only
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())  # noqa: B023
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            return loss

        losses.append(optimizer.step(closure).item())
    return weights(model), losses


@every_method
@pytest.mark.parametrize(("accumulation", "clip"), [(1, 0.0), (3, 0.3)])
def test_equals_a_plain_loop(name: str, accumulation: int, clip: float, tmp_path: Path) -> None:
    model = build()
    passes = count_passes(model)
    args = arguments(tmp_path, gradient_accumulation_steps=accumulation, max_grad_norm=clip)
    data = sentences(BATCH * accumulation * STEPS)
    trainer = SharpnessAwareTrainer(model, args, train_dataset=data, optimizers=(METHODS[name][0](model), None))
    trainer.train()
    assert len(passes) == STEPS * accumulation * METHODS[name][1]
    expected, losses = plain_loop(name, accumulation, clip)
    assert any(not torch.equal(w, v) for w, v in zip(expected, weights(build()), strict=True))
    for w, v in zip(weights(model), expected, strict=True):
        torch.testing.assert_close(w, v, rtol=0, atol=1e-6)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx(losses, abs=1e-5)


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_climbing_while_accumulating_equals_a_plain_loop(anchored: bool, clip: float, tmp_path: Path) -> None:
    """As many passes as without a climb. Each micro-batch's share of the step's labels weighs it, as in Trainer."""
    a = 3

    def make(model: nn.Module) -> AccumulatingSAM:
        return AccumulatingSAM(sgd(model), rho=0.2, anchored=anchored)

    model, by_hand = build(), build()
    passes = count_passes(model)
    args = arguments(tmp_path, gradient_accumulation_steps=a, max_grad_norm=clip)
    examples = sentences(BATCH * a * STEPS)
    trainer = SharpnessAwareTrainer(model, args, train_dataset=examples, optimizers=(make(model), None))
    trainer.train()
    assert len(passes) == STEPS * a

    optimizer, losses = make(by_hand), []
    if clip:

        def clip_mean(*_: Any) -> None:
            nn.utils.clip_grad_norm_(by_hand.parameters(), clip)

        optimizer.base.register_step_pre_hook(clip_mean)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (step / 2 if step < 2 else (STEPS - step) / (STEPS - 2))
        rows = examples[step * BATCH * a : (step + 1) * BATCH * a]
        parts = [rows[i * BATCH : (i + 1) * BATCH] for i in range(a)]
        counted = sum(int((row["labels"][1:] != -100).sum()) for row in rows)
        found: list[float] = []

        def closure_of(part: list[Any]) -> Callable[[], Tensor]:
            def closure() -> Tensor:
                optimizer.zero_grad()
                tokens, labels = (torch.stack([row[key] for row in part]) for key in ("input_ids", "labels"))
                logits = by_hand(input_ids=tokens).logits[:, :-1].flatten(0, 1)
                total = nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
                loss = total / counted  # noqa: B023
                (a * loss).backward()
                found.append(loss.item())  # noqa: B023
                return loss

            return closure

        optimizer.step([closure_of(part) for part in parts])
        losses.append(sum(found))
    for w, v in zip(weights(model), weights(by_hand), strict=True):
        torch.testing.assert_close(w, v, rtol=0, atol=1e-6)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx(losses, abs=1e-5)


def trained(
    folder: Path,
    name: str = "Lookbehind",
    trainer: type[Trainer] = SharpnessAwareTrainer,
    dropout: float = 0.0,
    steps: int = STEPS,
    make: Callable[[nn.Module], Any] | None = None,
    prepare: Callable[[Trainer], Any] = lambda _: None,
    resume: str | None = None,
    **options: Any,
) -> Trainer:
    model = build(dropout)
    args = arguments(folder, max_steps=steps, **options)
    data = sentences(BATCH * args.gradient_accumulation_steps * steps)
    optimizer = (make or METHODS[name][0])(model)
    one = trainer(model, args, train_dataset=data, optimizers=(optimizer, None))
    prepare(one)
    one.train(resume_from_checkpoint=resume)
    return one


def same(one: Trainer, other: Trainer) -> bool:
    return all(map(torch.equal, weights(one.model), weights(other.model)))


@pytest.mark.parametrize("make", [lambda m: SAM(sgd(m), rho=0.0), sgd], ids=["SAM at radius 0", "SGD"])
def test_without_perturbation_it_is_the_trainer(make: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    """Bit for bit, whatever the Trainer does to loss and gradient: here label smoothing and a short last step."""
    options = {"gradient_accumulation_steps": 2, "label_smoothing_factor": 0.1, "max_grad_norm": 0.5}
    ends = []
    for trainer, maker in ((SharpnessAwareTrainer, make), (Trainer, sgd)):
        model = build()
        args = arguments(tmp_path, max_steps=-1, num_train_epochs=2, **options)
        data = sentences(3 * BATCH)
        trainer(model, args, train_dataset=data, optimizers=(maker(model), None)).train()
        ends.append(weights(model))
    assert all(map(torch.equal, *ends))


class Masks:
    """The dropout masks that a model drew, by pass."""

    def __init__(self, trainer: Trainer) -> None:
        self.drawn: list[Tensor] = []
        trainer.model.bert.embeddings.dropout.register_forward_hook(lambda _, __, out: self.drawn.append(out == 0))

    def different(self, passes: range) -> int:
        return len({tuple(self.drawn[i].flatten().tolist()) for i in passes})


def test_dropout_masks_are_fresh_or_shared_as_asked(tmp_path: Path) -> None:
    """With two micro-batches and three passes a step, shared masks are the same two in all passes of a step."""
    masks = {}
    for same in (False, True):

        def make(model: nn.Module) -> Lookbehind:
            return Lookbehind(sgd(model), rho=0.1, k=2, same_dropout=same)  # noqa: B023 -- used within this pass of the loop

        def watch(trainer: Trainer) -> None:
            masks[same] = Masks(trainer)  # noqa: B023

        trained(tmp_path, make=make, prepare=watch, dropout=0.3, steps=2, gradient_accumulation_steps=2)
        assert len(masks[same].drawn) == 12
    assert masks[False].different(range(12)) == 12
    assert masks[True].different(range(6)) == masks[True].different(range(6, 12)) == 2
    assert masks[True].different(range(12)) == 4


@pytest.mark.parametrize("name", ["Lookbehind adaptive", "Lookahead SAM"])
def test_a_resumed_run_ends_where_the_undisturbed_one_ends(name: str, tmp_path: Path) -> None:
    """Bit for bit, with dropout, shuffled data, accumulation, and in the middle of a Lookahead cycle."""
    options = {"gradient_accumulation_steps": 2, "train_sampling_strategy": "random", "dropout": 0.2}
    whole = trained(tmp_path / "whole", name, save_strategy="steps", save_steps=3, **options)
    resumed = trained(tmp_path / "rest", name, resume=str(tmp_path / "whole" / "checkpoint-3"), **options)
    assert resumed.state.global_step == STEPS
    assert same(whole, resumed)
    fresh = trained(tmp_path / "other", name, seed=1, **options)
    assert not same(whole, fresh)


def test_bf16_stays_near_float32(tmp_path: Path) -> None:
    one, other = trained(tmp_path, bf16=True), trained(tmp_path)
    assert not same(one, other)
    for w, v in zip(weights(one.model), weights(other.model), strict=True):
        torch.testing.assert_close(w, v, rtol=0, atol=0.02)


def _with_scaler(trainer: Trainer) -> None:
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6)  # as fp16=True does on a GPU


def test_fp16_is_refused_where_a_step_takes_several_gradients(tmp_path: Path) -> None:
    for name in ("Lookbehind", "Lookahead SAM"):
        with pytest.raises(ValueError, match="use bf16=True"):
            trained(tmp_path, name, prepare=_with_scaler)
    for name in ("SGD", "Lookahead"):
        one, other = trained(tmp_path, name, prepare=_with_scaler), trained(tmp_path, name)
        for w, v in zip(weights(one.model), weights(other.model), strict=True):
            torch.testing.assert_close(w, v, rtol=0, atol=1e-6)


def test_deepspeed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="DeepSpeed is on"):
        trained(tmp_path, prepare=lambda t: (setattr(t, "is_deepspeed_enabled", True), t.create_optimizer()))


def test_perturbation_by_rank_is_refused(tmp_path: Path) -> None:
    def make(model: nn.Module) -> SAM:
        optimizer = SAM(sgd(model))
        optimizer.ascent = dataclasses.replace(optimizer.ascent, sync=False)
        return optimizer

    with pytest.raises(ValueError, match="use sync_ascent=True"):
        trained(tmp_path, make=make)


def test_callbacks_run_once_a_step(tmp_path: Path) -> None:
    calls = {"on_pre_optimizer_step": 0, "on_optimizer_step": 0, "on_step_end": 0, "on_substep_end": 0}

    class Counter(TrainerCallback):
        pass

    def counting(name: str) -> Callable[..., None]:
        def count(*_: Any, **__: Any) -> None:
            calls[name] += 1

        return count

    for name in calls:
        setattr(Counter, name, staticmethod(counting(name)))
    trained(tmp_path, prepare=lambda t: t.add_callback(Counter()), gradient_accumulation_steps=3)
    assert calls == {
        "on_pre_optimizer_step": STEPS,
        "on_optimizer_step": STEPS,
        "on_step_end": STEPS,
        "on_substep_end": 2 * STEPS,
    }


def test_reported_operations_and_tokens_are_those_of_the_first_pass(tmp_path: Path) -> None:
    one, other = (trained(tmp_path, name, include_num_input_tokens_seen="all") for name in ("Lookbehind", "SGD"))
    assert one.state.total_flos == other.state.total_flos > 0
    assert one.state.num_input_tokens_seen == other.state.num_input_tokens_seen == STEPS * BATCH * LENGTH


def test_train_can_be_called_again(tmp_path: Path) -> None:
    trainer = trained(tmp_path, gradient_accumulation_steps=2)
    passes = count_passes(trainer.model)
    trainer.train()
    assert len(passes) == STEPS * 2 * 3
    optimizer = trainer.optimizer.optimizer
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    with pytest.raises(TypeError, match="it needs a closure"):  # a step of one's own is not the Trainer's
        optimizer.step()


@pytest.mark.parametrize(
    "order",
    [lambda other: (SharpnessAwareTrainer, other), lambda other: (other, SharpnessAwareTrainer)],
    ids=["ours first", "ours last"],
)
def test_overrides_of_another_trainer_are_replayed(order: Callable[[type], tuple[type, type]], tmp_path: Path) -> None:
    """Also such as take entries out of the inputs."""
    seen: list[float] = []

    class Weighted(Trainer):
        def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
            self.weight = inputs.pop("weight")
            return super().training_step(model, inputs, *args, **kwargs)

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(self.weight.mean().item())
            return self.weight.mean() * super().compute_loss(*args, **kwargs)

    class Both(*order(Weighted)):  # type: ignore[misc]
        pass

    model = build()
    args = arguments(tmp_path, gradient_accumulation_steps=2, remove_unused_columns=False, max_steps=2)
    data = [{**e, "weight": torch.tensor(float(i // BATCH))} for i, e in enumerate(sentences(4 * BATCH))]
    Both(model, args, train_dataset=data, optimizers=(METHODS["Lookbehind"][0](model), None)).train()
    assert seen == [0, 1] * 3 + [2, 3] * 3


def test_a_step_that_fails_loses_nothing_and_training_can_go_on(tmp_path: Path) -> None:
    model = build()
    calls = 0

    class Failing(SharpnessAwareTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise MemoryError
            return super().compute_loss(*args, **kwargs)

    args = arguments(tmp_path, warmup_steps=0)
    data = sentences(BATCH * STEPS)
    trainer = Failing(model, args, train_dataset=data, optimizers=(METHODS["Lookbehind"][0](model), None))
    with pytest.raises(MemoryError):
        trainer.train()
    assert all(map(torch.equal, weights(model), weights(build())))
    trainer.train()
    assert calls == 3 + 3 * STEPS


def test_gradients_are_averaged_once_a_pass(tmp_path: Path) -> None:
    """All micro-batches of a pass but the last run without synchronisation."""
    apart: list[nn.Module] = []

    def watch(trainer: Trainer) -> None:
        no_sync = trainer.accelerator.no_sync
        trainer.accelerator.no_sync = lambda model: (apart.append(model), no_sync(model))[1]

    trained(tmp_path, prepare=watch, gradient_accumulation_steps=4)
    assert len(apart) == STEPS * 3 * 3


def one_of_two(rank: int, port: int, folder: Path) -> None:
    """Train in one of two processes, with half of the micro-batches."""
    torch.set_num_threads(1)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ.update(where, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    model = build()
    passes = count_passes(model)
    args = arguments(folder, gradient_accumulation_steps=2, max_grad_norm=0.3, ddp_backend="gloo")
    optimizer = METHODS["Lookbehind"][0](model)
    trainer = SharpnessAwareTrainer(
        model, args, train_dataset=sentences(4 * BATCH * STEPS), optimizers=(optimizer, None)
    )
    trainer.train()
    assert isinstance(trainer.model_wrapped, nn.parallel.DistributedDataParallel)
    assert len(passes) == STEPS * 2 * 3
    torch.save(weights(model), folder / f"rank{rank}.pt")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.examples.test_transformers_trainer"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [context.Process(target=one_of_two, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in both:
        process.start()
    alone = trained(tmp_path / "one", gradient_accumulation_steps=4, max_grad_norm=0.3)
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(map(torch.equal, first, second))
    for w, v in zip(first, weights(alone.model), strict=True):
        torch.testing.assert_close(w, v, rtol=0, atol=1e-6)
