"""Rivals of a comparison at the same number of gradients, and the controls of a larger step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lookbehind.lab.cell import AnyCell, Candidate, Cell, Derived
from lookbehind.lab.method import Method
from lookbehind.lab.parts import Row, Table
from lookbehind.lab.report import honest
from lookbehind.lab.run import Run


def longer(reference: Candidate, rival: Candidate) -> Candidate:
    """Return the rival's runs for as many epochs as spend the reference's gradient evaluations, to half an epoch."""
    ours, theirs = reference.runs[0], rival.runs[0]
    epochs = max(1, round(ours.workload.epochs * ours.gradients_per_step / theirs.gradients_per_step))
    runs = tuple(run.model_copy(update={"workload": run.workload.for_epochs(epochs)}) for run in rival.runs)
    return Candidate(f"{rival.label}, {epochs} epochs".removeprefix(", "), runs)


def at_rate(reference: Candidate) -> Candidate:
    """Return SAM at learning rate α·k·η: k inner steps of size η, pulled back by α, move about that far.

    With an adaptive α the rate is k·η, the most that it can come to.
    """
    method = reference.runs[0].method
    assert method.k is not None
    alpha = method.alpha if isinstance(method.alpha, float | int) else 1.0
    return _single_step(reference, f"η × {alpha * method.k:g}", rate=alpha * method.k)


def at_radius(reference: Candidate) -> Candidate:
    """Return SAM at radius k·ρ: k ascents of ρ go about that far."""
    method = reference.runs[0].method
    assert method.k is not None
    assert method.rho is not None
    return _single_step(reference, f"ρ={method.k * method.rho:g}", rho=method.k * method.rho)


def _single_step(reference: Candidate, label: str, rho: float | None = None, rate: float = 1.0) -> Candidate:
    def single(run: Run) -> Run:
        method = Method(
            kind="sam",
            perturbation=run.method.perturbation,
            rho=run.method.rho if rho is None else rho,
            eta=run.method.eta,
            rate=rate,
            unperturbed_statistics=run.method.unperturbed_statistics,
        )
        return run.model_copy(update={"method": method})

    return Candidate(label, tuple(map(single, reference.runs)))


def beside(title: str, columns: tuple[str, ...], reference: Row, rivals: Sequence[Row], single: str = "SAM") -> Table:
    """Return the table that stands beside an accuracy table: rivals at equal budget, and controls.

    Each rival keeps the setting that won at its ordinary length and is trained until it has spent as many gradients as
    the reference's winner. Settings are chosen on held-out images where there are any, else on test images.

    Args:
        title: what it shows.
        columns: their names.
        reference: the row whose budget is given to all, a Lookbehind.
        rivals: the other rows.
        single: the name of the reference's single-step method, "SAM" or "ASAM".

    Returns:
        A ``Table`` with every row compared to the reference.

    """
    ours = tuple(map(_chosen, reference.cells))
    rows = [Row(reference.label, ours, "equal budget")]
    for rival in rivals:
        theirs = tuple(map(_chosen, rival.cells))
        rows.append(Row(f"{rival.label}, equal budget", tuple(map(_longer, ours, theirs)), "equal budget"))
    for label, make in ((f"{single} at rate α·k·η", at_rate), (f"{single} at radius k·ρ", at_radius)):
        cells = tuple(None if cell is None else Derived((cell,), make, cell.metric) for cell in ours)
        rows.append(Row(label, cells, "controls", ranked=False))
    caption = (
        f"Rivals spend the gradient evaluations of {reference.label}; controls have its epochs. Beside them: paired "
        f"difference to {reference.label} and its 95 % interval, for all rivals of a column together."
    )
    return Table(title, columns, tuple(rows), against=reference.label, caption=caption)


def _chosen(cell: AnyCell | None) -> Cell | None:
    assert not isinstance(cell, Derived)
    if cell is None:
        return None
    held_out = all(run.workload.validation != 0 for run in cell.runs)
    return honest(cell) if held_out else replace(cell, published=None)


def _longer(ours: Cell | None, theirs: Cell | None) -> Derived | None:
    return None if ours is None or theirs is None else Derived((ours, theirs), longer, ours.metric)
