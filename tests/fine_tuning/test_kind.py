"""Fine-tuning as a kind of workload of the lab: what is trained, resuming bit for bit, failures, costs."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from lookbehind.lab import Method, Record, Run, Store, Workload, execute
from lookbehind.lab.estimate import gradients
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.metrics import untouched_accuracy
from lookbehind.lab.run import CalibrationSettings, NoiseSettings, QuantisationSettings, SharpnessSettings
from lookbehind.lab.work import work
from lookbehind.lab.workloads import fetch, training
from lookbehind.lab.workloads.scores import accuracy_of
from lookbehind.models import vit_tiny
from tests.lab.runs import numbers

TEXTS = FineTuning(
    inputs="texts", dataset="domain-tags", model="small", train=60, validation=20, test=40, noise=0.1, length=8,
    base="adamw", epochs=4, batch=16, lr=1e-3, head_rate=5, head_radius=0.5, schedule="cosine",
)  # fmt: skip
IMAGES = FineTuning(
    inputs="images", dataset="digits", model="vit-tiny", train=64, validation=20, test=30, epochs=3, batch=16, lr=0.01
)
SAM = Method(kind="sam", perturbation="sam", rho=0.1)
SWITCHING = Method(kind="lookbehind", perturbation="asam", rho=0.5, k=2, alpha="adaptive", switching=True)


@pytest.fixture(autouse=True)
def data(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBEHIND_DATA", str(root))


def changed(workload: FineTuning, **fields: Any) -> FineTuning:
    return FineTuning.model_validate(workload.model_dump() | fields)


VARIANTS = {
    "texts, all": (TEXTS, SAM),
    "texts, upper layer": (changed(TEXTS, frozen=2), SWITCHING),
    "texts, adapters": (changed(TEXTS, frozen=1, adapters=2), SWITCHING),
    "images, all": (IMAGES, SAM),
    "images, adapters": (changed(IMAGES, adapters=2, base="adamw", lr=1e-3), SWITCHING),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_and_resumed_it_ends_bit_for_bit_where_an_undisturbed_run_ends(variant: str, tmp_path: Path) -> None:
    """Killed after each epoch, with dropout drawn from the global random state in between."""
    workload, method = VARIANTS[variant]
    run = Run(workload=workload, method=method, seed=3)
    whole = execute(run, Store(tmp_path / "whole"), save_every=0.0)
    assert whole.status == "finished"
    assert len(whole.records) == workload.epochs
    store, kills = Store(tmp_path / "disturbed"), 0

    class Killed(BaseException):
        pass

    def kill(record: Record) -> None:
        if record.epoch < workload.epochs:
            raise Killed

    for _ in range(workload.epochs):
        torch.manual_seed(kills)  # another process would have another state
        try:
            disturbed = execute(run, store, on_epoch=kill, save_every=0.0)
        except Killed:
            kills += 1
    assert kills == workload.epochs - 1
    assert numbers(disturbed) == numbers(whole)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_trained(variant: str) -> None:
    """It moves, all else stays, and the loss falls."""
    workload, method = VARIANTS[variant]
    tuning = training(Run(workload=workload, method=method), "cpu")
    before = {name: value.clone() for name, value in tuning.model.state_dict().items()}
    records: list[Any] = []
    tuning.train(records.append)
    moved = {name for name, value in tuning.model.state_dict().items() if not torch.equal(value, before[name])}
    if workload.adapters is None:
        still = set(before) - moved
        assert all("key.bias" in name for name in still), still  # softmax does not see it
    else:
        assert {name.split(".")[-1] for name in moved if ".head." not in f".{name}"} == {"up", "down"}
        assert {name.split(".")[-1] for name in moved if ".head." in f".{name}"} == {"weight", "bias"}
    assert records[-1]["loss"] < records[0]["loss"]
    steps = len(tuning.minibatches) // method.minibatches * method.minibatches
    assert records[-1]["gradients"] == 2 * steps * workload.epochs
    if workload.inputs == "images":
        assert gradients(Run(workload=workload, method=method)) == records[-1]["gradients"]
    assert all(0 <= r["test"] <= 100 and 0 <= r["validation"] <= 100 for r in records)


def test_a_text_model_learns() -> None:
    """The small dictionary has a word for each subject: five times chance, on phrases that it has not seen."""
    workload = changed(TEXTS, noise=0.0, train=160, epochs=12, lr=3e-3, schedule="constant")
    records: list[Any] = []
    training(Run(workload=workload, method=SAM), "cpu").train(records.append)
    assert records[-1]["test"] > 25


def test_groups(root: Path) -> None:
    tuning = training(Run(workload=TEXTS, method=SAM.model_copy(update={"rate": 2.0})), "cpu")
    seen = [(g["name"], g["lr"], g["rho"]) for g in tuning.optimizer.param_groups]
    assert seen == [("body", 2e-3, 0.1), ("head", pytest.approx(1e-2), 0.05)]
    base = training(Run(workload=TEXTS, method=Method(kind="base")), "cpu")
    assert isinstance(base.optimizer, torch.optim.AdamW)
    assert {g["name"] for g in base.optimizer.param_groups} == {"body", "head"}
    records: list[Any] = []
    base.train(records.append)
    assert [r["lr"] for r in records] == pytest.approx([1e-3 * f for f in (1, 0.85355339, 0.5, 0.14644661)])


def test_features_of_frozen_layers_give_what_the_whole_model_gives() -> None:
    """Without dropout, a run on features equals one whose lower layers are frozen in place."""
    from lookbehind.fine_tuning import encoder_folder, load_texts, text_classifier

    workload = changed(TEXTS, frozen=2, base="sgd", lr=0.05)
    tuning = training(Run(workload=workload, method=SAM), "cpu")
    for module in tuning.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    tuning.train(lambda record: None)
    folder = encoder_folder("small")
    tokens = load_texts("domain-tags", folder / "tokenizer.json", train=60, validation=20, test=40, noise=0.1, length=8)
    lower, _ = text_classifier(folder, 20, frozen=2)
    accuracy = [
        (nn.Sequential(lower, tuning.model.eval())(x).argmax(1) == y).float().sum().item()
        for x, y in tokens.test.minibatches(16)
    ]
    assert 100 * sum(accuracy) / 40 == pytest.approx(
        accuracy_of(tuning.model, tuning.optimizer, tuning.examples.test, 8)
    )  # type: ignore[attr-defined]


def test_pretrained_images_and_the_untouched_checkpoint(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(11)
    torch.save(vit_tiny(channels=1).state_dict(), root / "weights" / "ten.pt")
    torch.save(vit_tiny(channels=1, classes=3).state_dict(), root / "weights" / "three.pt")
    workload = changed(IMAGES, weights="ten")
    result = execute(Run(workload=workload, method=SAM), Store(tmp_path))
    (untouched,) = untouched_accuracy().of(result, {})
    torch.manual_seed(11)
    model = vit_tiny(channels=1)
    parts = training(Run(workload=IMAGES, method=SAM), "cpu").examples  # type: ignore[attr-defined]
    images, labels = parts.test.tensors()
    assert untouched == pytest.approx(100 * (model(images).argmax(1) == labels).float().mean().item())
    with pytest.raises(ValueError, match=r"has head.bias of shape \(3,\)"):
        training(Run(workload=changed(IMAGES, weights="three"), method=SAM), "cpu")
    new = execute(Run(workload=changed(IMAGES, weights="three", new_head=True), method=SAM), Store(tmp_path))
    assert untouched_accuracy().of(new, {}) == ()


def test_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    for workload in (TEXTS, IMAGES):
        fetch(workload)
    with pytest.raises(ValueError, match="the encoder 'nobody' lacks"):
        fetch(changed(TEXTS, model="nobody"))
    with pytest.raises(ValueError, match="allowed are domain-tags"):
        fetch(changed(TEXTS, dataset="other"))
    monkeypatch.setattr("lookbehind.fine_tuning.pretrained.find_weights.__kwdefaults__", {"download": False})
    with pytest.raises(ValueError, match="the weights 'none' are neither a file nor"):
        fetch(changed(IMAGES, weights="none"))
    shutil.copytree(root / "weights", tmp_path / "weights")
    monkeypatch.setenv("LOOKBEHIND_DATA", str(tmp_path))
    monkeypatch.setattr("lookbehind.data.trans_de_en.DEBIAN", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="apt-get install trans-de-en"):
        fetch(TEXTS)


def test_runs_as_data() -> None:
    run = Run(workload=TEXTS, method=SAM)
    assert Run.model_validate_json(run.model_dump_json()) == run
    fields = {"dataset": "digits", "model": "vit-tiny", "epochs": 3, "batch": 16, "lr": 0.01}
    one = Run(workload=FineTuning(inputs="images", **fields), method=SAM)
    other = Run(workload=Workload(**fields), method=SAM)
    assert one.address != other.address
    assert type(Run.model_validate(one.model_dump()).workload) is FineTuning
    assert type(Run.model_validate(other.model_dump()).workload) is Workload
    assert TEXTS.for_epochs(7) == changed(TEXTS, epochs=7)


@pytest.mark.parametrize(
    ("workload", "fields", "match"),
    [
        (TEXTS, {"weights": "w"}, "weights and new_head are for images"),
        (IMAGES, {"frozen": 2}, "frozen is 2; it is for texts"),
        (IMAGES, {"new_head": True}, "without weights every head is new"),
        (IMAGES, {"adapters": 0}, "greater than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_refused(workload: FineTuning, fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        changed(workload, **fields)


def test_a_model_without_a_head_and_a_later_method_are_refused() -> None:
    with pytest.raises(ValueError, match="model is 'convnet'; a Vision Transformer is needed"):
        training(Run(workload=changed(IMAGES, model="convnet"), method=SAM), "cpu")
    with pytest.raises(ValueError, match="has one method from beginning to end"):
        training(Run(workload=IMAGES, method=SAM, later=SAM, switch=1), "cpu")


def test_costs() -> None:
    minilm = changed(TEXTS, model="minilm", frozen=4, length=16)
    needed = work(Run(workload=minilm, method=SAM))
    assert (needed.epochs, needed.minibatches, needed.examples, needed.evaluated) == (4, 4, 60, 60)
    assert needed.flops() == 2 * 2 * 8 * (4 * 384 * 384 + 2 * 384 * 1536 + 9 * 384 + 1536)
    assert gradients(Run(workload=minilm, method=SWITCHING)) == 4 * 4 * 2
    vit = FineTuning(
        inputs="images", dataset="imagenet-vit", model="vit-b-16", validation=0, epochs=15, batch=450, lr=1e-3
    )
    needed = work(Run(workload=vit, method=SAM))
    assert (needed.minibatches, needed.evaluated) == (2848, 50_000)
    assert needed.flops() == pytest.approx(2 * 17.56e9, rel=1e-3)
    with pytest.raises(ValueError, match="the cost of the encoder 'small' is unknown"):
        work(Run(workload=TEXTS, method=SAM))
    with pytest.raises(ValueError, match="train, validation and test are needed of texts"):
        work(Run(workload=changed(minilm, train=None), method=SAM))


def test_warm_up_then_cosine() -> None:
    """By hand: quarters of the rate, then half a wave over the epochs that are left."""
    w = changed(IMAGES, epochs=7, warmup=3, schedule="cosine")
    assert w.for_epochs(14).warmup == 6
    rates: list[float] = []
    training(Run(workload=w, method=SAM), "cpu").train(lambda record: rates.append(record["lr"] / w.lr))
    wave = [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    assert rates == pytest.approx([1 / 4, 1 / 2, 3 / 4, *wave])


@pytest.mark.parametrize("workload", [changed(TEXTS, frozen=2), IMAGES])
def test_a_finished_run_is_measured(workload: FineTuning, tmp_path: Path) -> None:
    """With no noise and many bits the accuracy is the run's; with no radius the sharpness is nothing."""
    run, store = Run(workload=workload, method=SAM), Store(tmp_path)
    noise, bits = NoiseSettings(sigmas=(0.0, 0.5), draws=2), QuantisationSettings(bits=(16,))
    sharpness = SharpnessSettings(radii=(0.0, 0.5), m=20, images=30)
    last = execute(run, store, [noise, bits, sharpness, CalibrationSettings()]).last
    measured = store.measured(run, noise)
    assert measured["accuracies"][0] == pytest.approx([last.test] * 2)
    assert measured["accuracies"][1] != measured["accuracies"][0]
    assert store.measured(run, bits)["per_tensor"] == pytest.approx([last.test])
    none, some = store.measured(run, sharpness)["values"]
    assert none == pytest.approx(0.0, abs=1e-6)
    assert some > 0
    assert 0 <= store.measured(run, CalibrationSettings())["error"] <= 100
