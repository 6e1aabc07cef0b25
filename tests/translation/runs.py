"""Tiny runs on sentences of our own."""

from __future__ import annotations

from lookbehind.lab import Method, Run
from lookbehind.lab.translation import Translation

TINY = Translation(
    dataset="sentences",
    train=60,
    validation=12,
    test=12,
    pieces=120,
    layers=1,
    width=16,
    feedforward=32,
    heads=2,
    dropout=0.1,
    epochs=3,
    tokens=128,
    lr=1e-2,
    warmup=8,
    beam=2,
)
ADAM = Method(kind="base")
SAM = Method(kind="sam", perturbation="sam", rho=0.05)
LOOKBEHIND = Method(kind="lookbehind", perturbation="sam", rho=0.05, k=2, alpha=0.8, switching=True)
ADAPTIVE = Method(kind="lookbehind", perturbation="asam", rho=0.2, k=2, alpha="adaptive", switching=True)
LOOKAHEAD = Method(kind="lookahead", perturbation="sam", rho=0.05, k=5, alpha=0.5)
RUN = Run(workload=TINY, method=LOOKBEHIND)
