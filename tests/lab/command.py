"""A command that fills a store, beside others: ``python -m tests.lab.command ROOT MEETING NUMBER``.

Its worker starts when so many have come to the meeting. It prints a line for each event.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from lookbehind.lab import Event, Run, Store, fill
from tests.lab.runs import SAM, TINY


def runs(number: int, epochs: int) -> list[Run]:
    return [Run(workload=TINY.model_copy(update={"epochs": epochs}), method=SAM, seed=seed) for seed in range(number)]


def meet(meeting: Path, number: int) -> None:
    """Wait for the others: under load, one may be done before the next has imported torch."""
    meeting.mkdir(exist_ok=True)
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < number:
        time.sleep(0.01)


def tell(event: Event) -> None:
    print(event.kind, event.run.seed, event.gradients, event.text, flush=True)


if __name__ == "__main__":
    root, meeting, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    store = Store(root, say=lambda sentence: print("said", sentence, flush=True))
    wanted = [(run, []) for run in runs(2, 60)]
    try:
        fill(wanted, store, 1, tell, save_every=0.0, prepare=partial(meet, meeting, number))
    except KeyboardInterrupt:
        sys.exit(130)
