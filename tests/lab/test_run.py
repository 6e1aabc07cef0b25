"""Runs as values: what makes one, what is refused, and the address that finds it again."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lookbehind.lab import Method, NoiseSettings, Run, SharpnessSettings, Workload

positive = st.floats(1e-12, 1e6)
counts = st.integers(1, 10**6)
fractions = st.floats(1e-9, 1.0)


def methods() -> st.SearchStrategy[Method]:
    needs = {
        "base": {},
        "sam": {"rho": positive},
        "multistep": {"rho": positive, "k": counts, "gather": st.sampled_from(["last", "mean"])},
        "lookahead": {"rho": positive, "k": counts, "alpha": fractions},
        "lookbehind": {"rho": positive, "k": counts, "alpha": fractions | st.sampled_from(["adaptive"])},
    }
    return st.one_of(
        st.builds(
            Method,
            kind=st.just(kind),
            perturbation=st.just(None) if kind == "base" else st.sampled_from(["sam", "asam"]),
            rate=positive,
            unperturbed_statistics=st.booleans(),
            **fields,
        )
        for kind, fields in needs.items()
    )


workloads = st.builds(
    Workload,
    dataset=st.sampled_from(["digits", "cifar10"]),
    model=st.text(max_size=9),
    train=st.none() | counts,
    noise=st.floats(0, 1),
    epochs=counts,
    lr=positive,
    weight_decay=st.floats(0, 1),
    milestones=st.lists(counts, max_size=3).map(tuple),
    schedule=st.sampled_from(["steps", "cosine", "constant"]),
)
runs = st.builds(Run, workload=workloads, method=methods(), seed=st.integers(-(2**60), 2**60))


@given(runs)
def test_a_run_survives_json(run: Run) -> None:
    again = Run.model_validate_json(run.model_dump_json())
    assert again == run
    assert hash(again) == hash(run)
    assert again.address == run.address


@given(runs)
def test_what_is_kept_of_a_run_is_its_own(run: Run) -> None:
    """A hash of words differs between processes, and a copy has another address."""
    address = run.address
    assert hash(run) == hash(run)
    sent = pickle.loads(pickle.dumps(run))
    assert vars(sent).keys() == Run.model_fields.keys()
    assert (sent, sent.address) == (run, address)
    other = run.model_copy(update={"seed": run.seed + 1})
    assert (other == run, other.address == address) == (False, False)
    assert other.model_copy(update={"seed": run.seed}) == run
    assert run != run.method


@given(runs, runs)
def test_the_address_is_that_of_one_run(one: Run, other: Run) -> None:
    assert (one.address == other.address) == (one == other)


DIGITS = Workload(dataset="digits", model="convnet", epochs=15, weight_decay=1e-5, schedule="cosine")
LOOKBEHIND = Method(kind="lookbehind", perturbation="sam", rho=0.05, k=2, alpha="adaptive")


def test_addresses_stay_what_they_are() -> None:
    """Stores out there are found by these. If this fails, every run of every user would be trained again."""
    cifar = Workload(dataset="cifar10", model="resnet34", validation=0, epochs=200, milestones=(50, 100, 150))
    sam = Method(kind="sam", perturbation="asam", rho=0.5)
    assert Run(workload=cifar, method=sam, seed=2).address == "b7508931eaf119c3"
    assert Run(workload=DIGITS, method=sam, later=LOOKBEHIND, switch=3).address == "d0d5b2cef197e118"
    assert SharpnessSettings(radii=(0.05, 5.0)).address == "6d476006a61860b3"
    assert NoiseSettings(sigmas=(0.0, 0.1)).address == "d721bc53a80b6e62"


def test_equal_runs_have_one_address() -> None:
    one, other = (
        Run(
            workload=DIGITS.model_copy(update={"lr": number}),
            method=LOOKBEHIND.model_copy(update={"alpha": number, "rho": number}),
        )
        for number in (1.0, 1)
    )
    assert (one, one.address) == (other, other.address)
    assert Run.model_validate_json(other.model_dump_json(warnings=False)).address == one.address


def test_measurements_of_two_kinds_have_two_addresses() -> None:
    class OtherSettings(SharpnessSettings):
        pass

    assert SharpnessSettings(radii=(1.0,)).address != OtherSettings(radii=(1.0,)).address


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "base", "rho": 0.1}, "rho is 0.1; base takes none"),
        ({"kind": "sam", "perturbation": "sam"}, "rho is None; sam needs a value"),
        ({"kind": "sam", "perturbation": "sam", "rho": 0.1, "k": 2}, "k is 2; sam takes none"),
        ({"kind": "lookahead", "k": 2, "alpha": 0.5, "rho": 0.1}, "rho is 0.1; lookahead takes none"),
        ({"kind": "lookahead", "k": 2, "alpha": "adaptive"}, "alpha is 'adaptive'; lookahead needs a number"),
        ({"kind": "sam", "perturbation": "sam", "rho": 0.1, "divided": True}, "divided is True; only multistep"),
        ({"kind": "sam", "perturbation": "sam", "rho": 0.1, "eta": 0.01}, "eta is 0.01; only asam takes one"),
        ({"kind": "sam", "perturbation": "sam", "rho": float("nan")}, "finite number"),
        ({"kind": "sam", "perturbation": "sam", "rho": -1.0}, "greater than or equal to 0"),
    ],
)
def test_what_makes_no_method_is_refused(fields, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Method(**fields)


def test_a_switch_has_a_method_and_an_epoch() -> None:
    with pytest.raises(ValidationError, match="later and switch belong together"):
        Run(workload=DIGITS, method=LOOKBEHIND, switch=3)
    with pytest.raises(ValidationError, match="switch is 16; at most the 15 epochs are allowed"):
        Run(workload=DIGITS, method=LOOKBEHIND, later=Method(kind="base"), switch=16)
    run = Run(workload=DIGITS, method=LOOKBEHIND, later=Method(kind="base"), switch=3)
    assert [run.method_at(epoch).kind for epoch in (0, 2, 3, 14)] == ["lookbehind", "lookbehind", "base", "base"]
    assert run.gradients_per_step == (3 * 3 + 12 * 1) / 15


def test_fewer_epochs_move_the_milestones() -> None:
    paper = Workload(dataset="cifar10", model="resnet34", epochs=200, milestones=(50, 100, 150))
    assert paper.for_epochs(20).milestones == (5, 10, 15)
