"""The core suites on the release of torch that is installed.

    python -m tests.releases            # run them, and print a line each
    python -m tests.releases --keep     # and keep what came out, and write the table of docs/works-with.md anew
    python -m tests.releases conformance "two processes"    # some of them
    python -m tests.releases --table    # only write the table

`.ci/lane` runs it in a virtual environment for each release.
"""

from __future__ import annotations

import csv
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "releases.csv"
PAGE = ROOT / "docs" / "works-with.md"
SUITES = {
    "oracle and laws": ("tests/oracle", "tests/laws"),
    "conformance": ("tests/conformance", "tests/test_layers.py"),
    "two processes": ("tests/real_training/test_processes.py",),
    "four processes": ("tests/real_training/test_meshes.py",),
}
COUNTS = ("passed", "skipped", "failed", "errors")
FIELDS = ("torch", "python", "suite", *COUNTS)
BEGIN, END = "<!-- releases: written by tests/releases.py -->", "<!-- end of releases -->"


def run(suite: str) -> dict[str, str]:
    """Run a suite and return its row."""
    import torch

    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-rfE", *SUITES[suite]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    found = {word: re.search(rf"(\d+) {word.rstrip('s')}", last) for word in COUNTS}
    row = {word: match.group(1) if match else "0" for word, match in found.items()}
    version = torch.__version__.split("+")[0]
    row |= {"torch": version, "python": platform.python_version(), "suite": suite}
    print(f"torch {version}, {suite}: {last}", flush=True)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:], flush=True)
        row["failed"] = str(max(1, int(row["failed"])))
    return row


def read() -> list[dict[str, str]]:
    """Return the rows that are kept, by release and suite."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def keep(rows: list[dict[str, str]]) -> None:
    """Put rows in the place of those of the same release and suite."""
    ours = {(row["torch"], row["suite"]) for row in rows}
    every = [row for row in read() if (row["torch"], row["suite"]) not in ours] + rows
    every.sort(key=lambda row: ([int(part) for part in row["torch"].split(".")], list(SUITES).index(row["suite"])))
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(every)


def table() -> str:
    """Return the table of releases and suites."""
    rows = read()
    lines = [f"| torch | {' | '.join(SUITES)} |", f"|---|{'---|' * len(SUITES)}"]
    for release in dict.fromkeys(row["torch"] for row in rows):
        cells = []
        for suite in SUITES:
            [row] = [r for r in rows if (r["torch"], r["suite"]) == (release, suite)] or [None]
            if row is None:
                cells.append("not run")
                continue
            bad = int(row["failed"]) + int(row["errors"])
            skipped = f", {int(row['skipped']):,} skipped" if row["skipped"] != "0" else ""
            cells.append(f"{int(row['passed']):,} passed{skipped}" + (f", **{bad:,} failed**" if bad else ""))
        lines.append(f"| {release} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page_with_table(text: str) -> str:
    """Return the page with the table of the kept rows."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


def main(words: list[str]) -> int:
    """Run what is asked for."""
    chosen = [suite for suite in SUITES if suite in words] or list(SUITES)
    rows = [] if "--table" in words else [run(suite) for suite in chosen]
    if "--keep" in words:
        keep(rows)
    if "--keep" in words or "--table" in words:
        PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if any(row["failed"] != "0" or row["errors"] != "0" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
