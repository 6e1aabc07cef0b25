"""A study of one's own: an optimizer that nobody has published, against the family, at equal cost.

lookbehind run examples/studies/sign_sam.py --scale smoke
lookbehind report examples/studies/sign_sam.py --scale smoke
"""

import torch

from lookbehind.lab import Row, Study, Table, Workload, chosen_on_validation, grid
from lookbehind.optim import SAM, norm

study = Study("Does climbing by signs do as well as by the gradient?")
NOISY_DIGITS = Workload(
    dataset="digits", model="convnet", train=1000, noise=0.4, epochs=15, batch=64, weight_decay=5e-4, schedule="cosine"
)


class SignedGradient:
    """ε = ρ sign(g) / ‖sign(g)‖₂: of length ρ too, but as long in each weight."""

    def __call__(self, weights, gradients, state):
        """Return a direction for each weight, and their common length."""
        signs = [gradient.sign() for gradient in gradients]
        return signs, norm(signs)


@study.method(gradients=2, title="Sign-SAM")
def sign_sam(base: torch.optim.Optimizer, rho: float = 0.05) -> torch.optim.Optimizer:
    """Climb by signs."""
    return SAM(base, rho=rho, perturbation=SignedGradient())


@study.item("Sign-SAM and the family on digits with noisy labels, 30 passes of gradients each")
def accuracy(scale: str):
    """Return a table of test accuracies; each setting is chosen on validation images."""
    workload, seeds = (NOISY_DIGITS, range(5)) if scale == "cpu" else (NOISY_DIGITS.for_epochs(1), range(3))
    radii = (0.05, 0.1, 0.2, 0.4) if scale == "cpu" else (0.2,)
    rows = {
        "SGD": grid(workload, "base", seeds, budget=2, lr=(0.05, 0.1, 0.2) if scale == "cpu" else (0.1,)),
        "SAM": grid(workload, "sam", seeds, budget=2, perturbation="sam", rho=radii),
        "Momentum-SAM": grid(workload, "momentum_sam", seeds, budget=2, rho=radii),
        "GSAM": grid(workload, "gsam", seeds, budget=2, rho=radii),
        "Sign-SAM": grid(workload, "sign_sam", seeds, budget=2, rho=radii),
    }
    cells = [Row(name, (chosen_on_validation(candidates),)) for name, candidates in rows.items()]
    return [Table("Test accuracy (%)", ("digits, 40 % noise",), tuple(cells), against="SAM")]
