"""What the user got wrong, in a sentence."""

from __future__ import annotations

MISTAKE = 2  # the exit code, as argument parsers have it
INTERRUPTED = 130
NEEDS_LAB = "the command line needs the extra 'lab': pip install '.[lab]' in the clone"


class UserError(Exception):
    """A mistake that one sentence can explain."""

    code = MISTAKE


class WorkerLostError(UserError):
    """A worker process that somebody else ended; no mistake of the user's."""

    code = 1


def usable(device: str) -> None:
    """Refuse a device on which nothing can be computed here."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device is {device!r}, which cannot be used here ({reason}); cpu always works") from None
