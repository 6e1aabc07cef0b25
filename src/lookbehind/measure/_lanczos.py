"""Lanczos iteration on the Hessian."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch import Tensor

from lookbehind.measure._objective import Objective


def lanczos(objective: Objective, start: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor, float]]:
    r"""Yield, after each of at most ``steps`` steps j, the tridiagonal matrix T, the rows of Q, and β.

    .. math:: H Q_j = Q_j T_j + \beta_j q_{j+1} e_j^T, \quad Q_j^T Q_j = 1

    with the first column of Q along ``start``. Golub and Van Loan, 2013, section 10.3.1, with full
    reorthogonalisation: without it, rounding brings copies of eigenvalues that were found already. Ends early where β
    vanishes: Q then spans an invariant subspace. Q is kept on the host, whatever the device of the model.
    """
    steps = min(steps, len(start))
    _check_memory(steps, start)
    basis = torch.empty(steps, len(start), dtype=start.dtype, device="cpu")  # a page takes memory when it is written to
    diagonal: list[float] = []
    beside: list[float] = []
    q = start / start.norm()
    for j in range(1, steps + 1):
        basis[j - 1] = q
        w = objective.hessian_times(q)
        diagonal.append((q @ w).item())
        for _ in range(2):  # once leaves what rounding leaves; twice is enough (Parlett, 1998)
            w -= basis[:j].T @ (basis[:j] @ w)
        beta = w.norm().item()
        alphas, betas = (torch.tensor(entries, dtype=torch.float64, device="cpu") for entries in (diagonal, beside))
        yield torch.diag(alphas) + torch.diag(betas, 1) + torch.diag(betas, -1), basis[:j], beta
        if beta <= 10 * torch.finfo(start.dtype).eps * max(map(abs, diagonal + beside)):
            return
        beside.append(beta)
        q = w / beta


def _check_memory(steps: int, vector: Tensor) -> None:
    """Refuse what the machine cannot hold, rather than have the system end the process half way."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    each = len(vector) * vector.element_size()
    if steps * each > there:
        raise ValueError(
            f"steps is {steps}: so many vectors of {len(vector)} numbers take {steps * each / 2**30:.0f} GiB, and this "
            f"machine has {there / 2**30:.0f}; well below {there // each} steps are possible"
        )
