"""Write the league's page, its pictures, and the decisions of README and docs/which-method.md from the archive.

pip install -e ".[lab]"
python docs/league.py       reads docs/results/league.xz, writes docs/league.md and docs/pictures/league-*.svg
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lookbehind._style import COLOURS, save
from lookbehind.lab import Archive, Derived, Metric
from lookbehind.lab.cell import Value, evaluate
from lookbehind.lab.declared import METHODS as RIVAL_METHODS
from lookbehind.lab.lookup import Results, remembered
from lookbehind.lab.method import FIELDS, MINIBATCHES
from lookbehind.lab.metrics import (
    calibration_error,
    noisy_accuracy_at,
    quantised_accuracy_at,
    seconds_of_training,
    sharpness_at,
    top_eigenvalue,
)
from lookbehind.lab.metrics_lifelong import final_forgetting
from lookbehind.lab.report import difference
from lookbehind.lab.run import Method, Workload
from lookbehind.lab.statistics import shown
from lookbehind.league.entrants import ENTRANTS, MORE, ONE, RIVALS, TWO, WHEN, Entrant
from lookbehind.league.items import WHEN_BUDGET, reported
from lookbehind.league.tasks import Task, tasks
from lookbehind.methods import METHODS

FOLDER = Path(__file__).resolve().parent
SCALE = "cpu"
SIGMA = 0.2
GROUP_COLOURS = {RIVALS: "black", ONE: "blue", TWO: "orange", MORE: "vermillion"}


@dataclass(frozen=True)
class Board:
    """A task with the archive, and the results of entrants in it."""

    name: str
    task: Task
    results: Results

    def value(self, entrant: Entrant, metric: Metric, budget: float) -> Value:
        """Return an entrant's value of a metric."""
        cell: Derived = reported(entrant, self.task, budget, metric)
        return evaluate(cell, self.results)

    def accuracy(self, entrant: Entrant, budget: float) -> Value:
        """Return its test accuracy."""
        return self.value(entrant, self.task.accuracy, budget)

    def robust(self, entrant: Entrant, budget: float) -> Value:
        """Return its accuracy with noisy weights; nothing where that is not measured."""
        noise = self.task.noise
        return Value() if noise is None else self.value(entrant, noisy_accuracy_at(noise, SIGMA), budget)

    def forgetting(self, entrant: Entrant, budget: float) -> Value:
        """Return its forgetting; nothing where nothing can be forgotten."""
        return self.value(entrant, final_forgetting(), budget) if self.task.lifelong else Value()

    @property
    def second(self) -> tuple[str, Callable[[Entrant, float], Value], bool]:
        """What stands beside accuracy: its name, a function, and whether more is better."""
        if self.task.lifelong:
            return "forgetting", self.forgetting, False
        return f"σ = {SIGMA:g}", self.robust, True

    @property
    def names(self) -> list[str]:
        """The entrants that take part."""
        here = list(self.task.entrants.values())
        return [name for name, entrant in ENTRANTS.items() if entrant in here]

    @property
    def known(self) -> list[str]:
        """The entrants whose weights are measured: those of the last epoch."""
        return [name for name in self.names if not ENTRANTS[name].stops_early]

    def shown(self, name: str) -> str:
        """Return an entrant's name with that of the base optimizer."""
        return name.replace("SGD", self.task.plain)

    @property
    def middle(self) -> float:
        """The budget at which the board is sorted: that of SAM's ordinary training, if there is one."""
        return 2.0 if 2.0 in self.task.budgets else self.task.budgets[0]

    def whole(self, budget: float) -> bool:
        """Return whether every entrant has its number at a budget: the runs of its winner with all fresh seeds."""
        winners = [self.accuracy(entrant, budget).winner for entrant in self.task.entrants.values()]
        return all(w is not None and all(self.results.result(run) is not None for run in w.runs) for w in winners)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table of the page."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def board(at: Board) -> str:
    """Return a task's tables."""
    middle, task, plain = at.middle, at.task, at.task.plain
    others = len(at.names) - 1
    order = sorted(at.names, key=lambda n: -(at.accuracy(ENTRANTS[n], middle).mean or 0.0))
    sgd, sam = at.accuracy(ENTRANTS["SGD"], middle), at.accuracy(ENTRANTS["SAM"], middle)
    best = at.accuracy(ENTRANTS[order[0]], middle)
    rows = []
    for name in order:
        entrant = ENTRANTS[name]
        now = at.accuracy(entrant, middle)
        behind = difference(now, best, others)
        tie = behind is not None and (name == order[0] or not behind.shows)
        against = [difference(now, other, others) for other in (sgd, sam)]
        rows.append(
            [
                f"**{at.shown(name)}**" if tie else at.shown(name),
                *(at.accuracy(entrant, b).text() for b in task.budgets),
                *("" if d is None or name in ("SGD", "SAM")[i : i + 1] else d.text() for i, d in enumerate(against)),
                "" if now.winner is None else now.winner.label,
            ]
        )
    heads = ["", *(f"{b:g} ×" for b in task.budgets), f"− {plain}, {middle:g} ×", f"− SAM, {middle:g} ×", "chosen"]
    title, second, more = at.second
    columns = _measured(task)
    measured = []
    for name in sorted(at.known, key=lambda n: (-1 if more else 1) * (second(ENTRANTS[n], middle).mean or 0.0)):
        entrant = ENTRANTS[name]
        numbers = (second(entrant, b).text() for b in task.budgets)
        at_middle = (at.value(entrant, metric, middle).text(digits) for _, metric, digits in columns)
        measured.append([at.shown(name), *numbers, *at_middle])
    beside = ["", *(f"{title}, {b:g} ×" for b in task.budgets), *(head for head, _, _ in columns)]
    said = (
        "Forgetting (%), the least first; accuracies are means over the tasks, at the end"
        if task.lifelong
        else f"With noisy weights (%), and what else is measured at {middle:g} ×"
    )
    return f"""## {task.name}

![Accuracy and {"forgetting" if task.lifelong else "robustness"} against cost](pictures/league-{at.name}.svg)

Test accuracy (%), sorted at {middle:g} ×.

<div class="numbers" markdown>

{table(heads, rows)}

</div>

<details class="numbers" markdown>
<summary>{said}</summary>

{table(beside, measured)}

</details>
"""


def _measured(task: Task) -> list[tuple[str, Metric, int]]:
    """Return what else is measured of a task: head, metric, digits."""
    found: list[tuple[str, Metric, int]] = []
    if task.bits is not None:
        found.append(("4 bits", quantised_accuracy_at(task.bits, 4), 2))
    if task.sharpness is not None:
        radius = task.sharpness.radii[0]
        found.append((f"sharpness, r = {radius:g}", sharpness_at(task.sharpness, radius), 3))
    if task.eigenvalue is not None:
        found.append(("λ₁", top_eigenvalue(task.eigenvalue), 1))
    if task.calibration is not None:
        found.append(("calibration error", calibration_error(task.calibration), 1))
    found.append(("seconds", seconds_of_training(), 1))
    return found


def draw(at: Board) -> None:
    """Draw what each entrant gets for its cost, with the front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    title, second, more = at.second
    title = f"with noisy weights, {title} (%)" if more else f"{title} (%), less is better"
    for axes, value, better, head in (
        (panels[0], at.accuracy, max, "test accuracy (%)"),
        (panels[1], second, max if more else min, title),
    ):
        front = []
        for i, budget in enumerate(at.task.budgets):
            found = {name: value(ENTRANTS[name], budget) for name in at.known}
            means = {name: v.mean for name, v in found.items() if v.mean is not None}
            if not means:
                continue
            first = better(means, key=means.__getitem__)
            front.append((budget, means[first]))
            axes.annotate(
                at.shown(first),
                (budget, means[first]),
                textcoords="offset points",
                xytext=(0, 7),
                fontsize=7,
                ha="center",
            )
            for j, (name, mean) in enumerate(means.items()):
                behind = difference(found[name], found[first], len(means) - 1)
                ties = name == first or (behind is not None and not behind.shows)
                colour = COLOURS[GROUP_COLOURS[ENTRANTS[name].group]]
                x = budget + (j - len(means) / 2) * 0.012
                label = ENTRANTS[name].group if i == 0 and name == _first_of(at, ENTRANTS[name].group) else None
                axes.plot(
                    x, mean, "o", color=colour, markerfacecolor=colour if ties else "white", markersize=5, label=label
                )
        axes.plot(*zip(*front, strict=True), color="0.6", linewidth=1, zorder=0)
        axes.set_xticks(list(at.task.budgets), [f"{b:g} ×" for b in at.task.budgets])
        axes.set(xlabel="sample gradients, in units of the recipe's own", ylabel=head)
        axes.margins(x=0.12, y=0.12)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7, loc="lower left")
    figure.suptitle(
        f"{at.task.name}: filled, not shown to be {'below' if more else 'behind'} the first; the line joins the first",
        fontsize=9,
    )
    save(figure, FOLDER / "pictures" / f"league-{at.name}.svg")


def _first_of(at: Board, group: str) -> str:
    return next(name for name in at.known if ENTRANTS[name].group == group)


def when(at: Board) -> str:
    """Return the table on which steps climb."""
    if not isinstance(at.task.workload, Workload):
        return ""
    value = {name: at.accuracy(entrant, WHEN_BUDGET) for name, entrant in WHEN.items()}
    if any(v.winner is None for v in value.values()):
        return ""
    rows = []
    for name in sorted(value, key=lambda n: -(value[n].mean or 0.0)):
        entrant, its = WHEN[name], value[name]
        gap = difference(its, value["SGD"], len(WHEN) - 1)
        label = "" if its.winner is None else its.winner.label
        text = "" if gap is None or name == "SGD" else gap.text()
        rows.append([name, its.text(), text, at.robust(entrant, WHEN_BUDGET).text(), label])
    heads = ["SAM climbs in", "test accuracy %", "− SGD", f"noisy weights, σ = {SIGMA:g}, %", "chosen"]
    return f'### {at.task.name}\n\n<div class="numbers" markdown>\n\n{table(heads, rows)}\n\n</div>\n'


def questions(boards: list[Board]) -> str:
    """Return two questions about costs, and a test by the sign, each as paired differences on every task."""
    lines = [
        _minus(boards, "Early or late?", WHEN, "first quarter", "last quarter", WHEN_BUDGET),
        _minus(boards, "Spread or at the end?", WHEN, "every 4th step", "last quarter", WHEN_BUDGET),
        _minus(
            boards,
            "Does climbing while accumulating earn its place beside Momentum-SAM?",
            ENTRANTS,
            "Climb while accumulating",
            "Momentum-SAM",
            1.0,
        ),
        _minus(
            boards,
            "Does the direction of the climb matter, or only the curvature?",
            ENTRANTS,
            "Momentum-SAM, either way",
            "Momentum-SAM",
            1.0,
        ),
    ]
    return "\n".join(f"- {line}" for line in lines if line)


def _minus(boards: list[Board], asked: str, of: Mapping[str, Entrant], one: str, other: str, budget: float) -> str:
    """Say how far one entrant is before another, in test accuracy, on each task that has both."""
    found = []
    for at in boards:
        if of is ENTRANTS and not ({one, other} <= set(at.names) and budget in at.task.budgets):
            continue
        if of is WHEN and not when(at):
            continue
        gap = difference(at.accuracy(of[one], budget), at.accuracy(of[other], budget))
        found += [(gap, at.task.name)] if gap else []
    if not found:
        return ""
    better, worse = (sum(gap.shows and sign * gap.mean > 0 for gap, _ in found) for sign in (1, -1))
    texts = "; ".join(f"{name} {gap.text()}" for gap, name in found)
    shown_on = f"Shown better on {better} of {len(found)}, worse on {worse}."
    return f"**{asked}** {one} − {other} at {budget:g} ×: {texts}. {shown_on}"


def bars(boards: list[Board]) -> str:
    """Return whether the family earned its place, by the bars that were set before anything was trained."""
    lines: list[str] = []
    robust_there: dict[str, bool] = {}  # by task, for the first goal
    gained_there: dict[str, bool] = {}  # and for the second, where SAM gains anything
    for at in boards:
        if not {1.0, 2.0} <= set(at.task.budgets):
            continue
        cheap = [name for name in at.known if ENTRANTS[name].group == ONE]
        sam, sgd = at.robust(ENTRANTS["SAM"], 2.0).mean, at.robust(ENTRANTS["SGD"], 1.0).mean
        plain, climbed = at.accuracy(ENTRANTS["SGD"], 1.0).mean, at.accuracy(ENTRANTS["SAM"], 2.0).mean
        robust = {name: at.robust(ENTRANTS[name], 1.0).mean or 0.0 for name in cheap}
        gains = {name: at.accuracy(ENTRANTS[name], 1.0).mean or 0.0 for name in cheap}
        if plain is None or climbed is None:
            continue
        name, base, best = at.task.name, at.task.plain, max(gains, key=gains.__getitem__)
        if sam is not None and sgd is not None:
            first = max(robust, key=robust.__getitem__)
            robust_there[name] = robust[first] >= sam
            lines.append(
                f"- {name}, noisy weights: {first} at 1 × has {shown(robust[first])} %. SAM at 2 × has {shown(sam)} %, "
                f"{base} at 1 × {shown(sgd)} %."
            )
        gain, cheap_gain = climbed - plain, gains[best] - plain
        if gain > 0:
            gained_there[name] = cheap_gain >= gain / 2
        lines.append(
            f"- {name}, accuracy: against {base} at 1 ×, SAM at 2 × has {shown(gain, sign=True)} points, and {best} at "
            f"1 × {shown(cheap_gain, sign=True)}" + (f" ({shown(100 * cheap_gain / gain, 0)} %)." if gain > 0 else ".")
        )
    goals = [
        f"- **The first goal is met on {_of(robust_there)}.** Three were asked for.",
        f"- **The second is met on {_of(gained_there)}** on which SAM gains anything at two gradients.",
    ]
    return "\n".join([*(goals if lines else []), *lines])


def _of(met: dict[str, bool]) -> str:
    return f"{sum(met.values())} of {len(met)} task{'' if len(met) == 1 else 's'}"


@dataclass(frozen=True)
class Ranks:
    """Ranks of the entrants on the tasks that have a budget: 1 is first, equal means share theirs."""

    by_task: list[dict[str, float]]

    @classmethod
    def of(cls, boards: list[Board], value: Callable[[Board, Entrant], Value]) -> Ranks:
        """Rank entrants on each task by a number of theirs, the largest first."""
        by_task = []
        for at in boards:
            means = {name: value(at, ENTRANTS[name]).mean or 0.0 for name in at.known}
            by_task.append({name: _rank(mean, list(means.values())) for name, mean in means.items()})
        return cls(by_task)

    def of_entrant(self, name: str) -> list[float]:
        """Return its ranks on the tasks in which it takes part."""
        return [ranks[name] for ranks in self.by_task if name in ranks]

    def mean(self, name: str) -> float:
        """Return the mean over tasks."""
        return fmean(self.of_entrant(name))

    def text(self, name: str) -> str:
        """Return the mean, and the range over tasks."""
        own = self.of_entrant(name)
        return f"{fmean(own):.1f} ({min(own):g}–{max(own):g})"

    def first(self) -> str:
        """Return who has the lowest mean rank."""
        return min(self.names, key=self.mean)

    @property
    def names(self) -> list[str]:
        """Who takes part in any task."""
        return [name for name in ENTRANTS if self.of_entrant(name)]


def _rank(value: float, among: list[float]) -> float:
    return sum(other > value for other in among) + (sum(other == value for other in among) + 1) / 2


WISHES: dict[str, Callable[[Board, Entrant, float], Value]] = {
    "accuracy": Board.accuracy,
    "noisy weights": Board.robust,
}


def ranked(boards: list[Board], wish: str, budget: float) -> Ranks:
    """Return the ranks by a wish, on the tasks that have the budget and the measurement."""
    return Ranks.of(having(boards, wish, budget), lambda at, e: WISHES[wish](at, e, budget))


def having(boards: list[Board], wish: str, budget: float) -> list[Board]:
    """Return the tasks that have a budget, and what is wished."""
    return [at for at in boards if budget in at.task.budgets and (wish == "accuracy" or at.task.noise is not None)]


def over_all(boards: list[Board]) -> str:
    """Return the table of ranks over tasks; empty below two tasks."""
    counts = {(wish, b): len(having(boards, wish, b)) for b in (1.0, 2.0) for wish in WISHES}
    columns = {(wish, b): ranked(boards, wish, b) for (wish, b), count in counts.items() if count > 1}
    if not columns:
        return ""
    first = columns.get(("accuracy", 2.0), next(iter(columns.values())))
    order = sorted(first.names, key=first.mean)
    rows = [[name, *(ranks.text(name) if name in ranks.names else "" for ranks in columns.values())] for name in order]
    heads = ["", *(f"{wish}, {b:g} × ({counts[wish, b]} tasks)" for wish, b in columns)]
    return f"""## Over all tasks

<details class="numbers" markdown>
<summary>Mean ranks among {len(order)} entrants, with the best and the worst rank on a task</summary>

{table(heads, rows)}

</details>
"""


def decisions(boards: list[Board]) -> list[str]:
    """Return what to use when, in ten lines: a sentence for each task, and for what one can pay and wants."""
    lines = []
    for at in boards:
        found = {name: at.accuracy(ENTRANTS[name], at.middle) for name in at.names}
        gap = difference(found["SAM"], found["SGD"], len(found) - 1)
        sam = f" SAM: {gap.text()}." if gap else ""
        lines.append(f"**[{at.task.name}]({_anchor(at)}), {at.middle:g} ×:** {_first(found, at)}{sam}")
    for wish, title, budget in (
        ("accuracy", "Test accuracy", 1.0),
        ("noisy weights", "Weights that will be perturbed", 1.0),
        ("noisy weights", "Weights that will be perturbed", 2.0),
    ):
        if not (here := having(boards, wish, budget)):
            continue
        ranks = ranked(boards, wish, budget)
        name = ranks.first()
        pairs = [
            (at, WISHES[wish](at, ENTRANTS[name], budget), WISHES[wish](at, ENTRANTS["SGD"], budget)) for at in here
        ]
        gaps = [gap for at, own, sgd in pairs if (gap := difference(own, sgd, len(at.known) - 1)) and gap.shows]
        best = f", at most {max(gaps, key=lambda gap: gap.mean).text()} points" if gaps else ""
        shown_on = f"; shown to differ from SGD on {len(gaps)} of {len(here)} tasks{best}" if name != "SGD" else ""
        lines.append(
            f"**[{title}](league.md#over-all-tasks), {budget:g} ×:** {name}, mean rank {ranks.text(name)}{shown_on}."
        )
    return lines


def _anchor(at: Board) -> str:
    return "league.md#" + re.sub(r"[^a-z0-9 _-]", "", at.task.name.lower()).replace(" ", "-")


def _first(found: dict[str, Value], at: Board) -> str:
    """Say who is first, by how much before the base optimizer, and how many cannot be told from it."""
    rival = "SGD"
    means = {name: value.mean for name, value in found.items() if value.mean is not None}
    first = max(means, key=means.__getitem__)
    gaps = {name: difference(found[first], found[name], len(found) - 1) for name in means if name != first}
    ties = [name for name, gap in gaps.items() if gap is not None and not gap.shows]
    before = "" if first == rival else f", {gaps[rival].text()} before {at.shown(rival)}" if gaps[rival] else ""
    told = f"{len(ties)} of {len(gaps)} tie" if ties else "shown against all others"
    return f"{at.shown(first)}, {found[first].text()} %{before}; {told}."


def front(boards: list[Board]) -> str:
    """Return the README's sentences: who is first on each task, and what SAM gives."""
    lines = []
    for at in boards:
        found = {name: at.accuracy(ENTRANTS[name], at.middle) for name in at.names}
        other = "" if at.middle == 2.0 else f" ({at.middle:g} ×)"
        lines.append(f"- {at.task.name}{other}: {at.shown(_lead(found))}.")
    at, budget = boards[0], boards[0].task.budgets[0]
    robust = {name: at.robust(ENTRANTS[name], budget) for name in at.known}
    return "\n".join([*lines, f"- {at.task.name}, with noisy weights ({budget:g} ×): {_lead(robust)}."])


def _lead(found: dict[str, Value]) -> str:
    """Say who is first, ties together, and how far they and SAM are before SGD."""
    means = {name: value.mean for name, value in found.items() if value.mean is not None}
    top = [name for name in means if means[name] == max(means.values())]
    gaps = {name: difference(found[name], found["SGD"], len(found) - 1) for name in (top[0], "SAM")}
    texts = {name: gap.text() for name, gap in gaps.items() if gap is not None and name != "SGD"}
    sam = "" if "SAM" in top else f"; SAM {texts['SAM']}"
    return f"{' and '.join(top)} {texts.get(top[0], 'first')}{sam}"


def put(path: Path, text: str) -> None:
    """Write text between the marks of a page."""
    page = path.read_text()
    before, rest = page.split("<!-- league -->", 1)
    after = rest.split("<!-- /league -->", 1)[1]
    path.write_text(f"{before}<!-- league -->\n{text}\n<!-- /league -->{after}")


def page(boards: list[Board], all_tasks: dict[str, Task]) -> str:
    """Return docs/league.md."""
    have = {at.name: at.task.budgets for at in boards}
    lacks = {task.name: [b for b in task.budgets if b not in have.get(name, ())] for name, task in all_tasks.items()}
    missing = [f"{name} at {' and '.join(f'{b:g} ×' for b in budgets)}" for name, budgets in lacks.items() if budgets]
    climbing = "\n".join(text for at in boards if (text := when(at)))
    waits = f"Not trained yet: {'; '.join(missing)}. `lookbehind list league` has their cost.\n" if missing else ""
    trials = table(
        ["tuning", "settings", "seeds"], [[t.name, f"{t.trials}", f"{len(t.tuning)}"] for t in all_tasks.values()]
    )
    return f"""<!-- written by docs/league.py from docs/results/league.xz -->
# The league: what a gradient buys

The league compares every method of the family with rivals at equal budgets of *sample gradients*. All are tuned alike.

```sh
# its cost
lookbehind list league
# about two and a half hours on two cores
lookbehind run league --scale cpu
# pages with every setting, seed and curve
lookbehind report league --scale cpu
# the results of this page, without training
lookbehind report league --scale cpu --store docs/results/league.xz
```

**Rules.**

- A budget counts forward and backward passes of one image, in units of the recipe's own training with SGD. Epochs and
  schedule are fitted to it.
- Every entrant tries as many settings as the others, on validation images.
- The winner is trained again with five new seeds. Its test accuracy after the last epoch is reported, and ± is over
  these seeds. For "SGD, stopped early" it is that of the epoch which is best on validation images.
- SGD stands for a task's base optimizer: AdamW for the texts.
- Differences are paired over seeds. Their 95 % intervals are widened for the number of entrants. A **bold**
  entrant is not shown to be below the first.
- Seconds are those of a training on one busy core. [Memory](speed.md#memory) is counted in copies of the weights.

{trials}

<details class="numbers" markdown>
<summary>Entrants, with the call that makes each</summary>

Each call has the first setting that is tried.
Averages and `SignedMomentumSAM` are in `lookbehind.league.rivals`; all else is in `lookbehind`.

{calls()}

</details>

**What these tasks cannot tell.** Nets of 24,000 to 75,000 weights on small images are not ImageNet. Of MiniLM only the
last layer is trained.

{waits}
## Did the cheap methods earn their place?

Two goals were set before anything was trained:

1. On three tasks, a method at one gradient a step is at least as robust to weight noise as SAM at two gradients.
2. A method at 1.1 gradients has half of SAM's gain in accuracy.

The best of the cheap entrants stands for them. It was chosen by the same test images, so chance helps it.

{bars(boards)}

## Two questions

Each answer has paired differences of test accuracy in points, each with its own 95 % interval. "Either way" draws the
sign of the climb at random. That leaves only what curvature gives.

{questions(boards)}

{over_all(boards)}
{chr(10).join(board(at) for at in boards)}
## Which steps should climb?

All entrants spend {WHEN_BUDGET:g} gradients a step of the recipe. SAM climbs in a quarter of the steps. SGD, and SAM in
every step, train for as many gradients.

{climbing}"""


def call(method: Method) -> str:
    """Return the constructor call of a method, around ``base``."""
    if method.kind == "base":
        return "base"
    given: dict[str, Any] = dict(method.options) | method.model_dump(include=set(FIELDS), exclude_none=True)
    given.pop(MINIBATCHES, None)
    if given.get("perturbation") == "sam":
        del given["perturbation"]
    if "gather" in given:
        given["gradient"] = given.pop("gather")
    if method.kind not in RIVAL_METHODS:
        record = METHODS["multistep_sam" if method.kind == "multistep" else method.kind]
        return f"{record.kind.__name__}(base, {_written(given)})"
    build = RIVAL_METHODS[method.kind].build
    parameters = inspect.signature(build).parameters
    given = {n: p.default for n, p in parameters.items() if p.default is not p.empty} | given
    # A rule of several optimizers is written out; an average needs the model, too.
    [returned] = [node for node in ast.walk(ast.parse(inspect.getsource(build))) if isinstance(node, ast.Return)]
    written = _Filled(given).visit(returned.value)
    if any(isinstance(node, ast.Lambda) for node in ast.walk(written)):
        more = "".join(f"{name}, " for name in ("model", "steps") if name in parameters)
        return f"{build.__name__}(base, {more}{_written(given)})"
    return ast.unparse(written)


class _Filled(ast.NodeTransformer):
    """Put values in the place of names."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self.values[node.id]) if node.id in self.values else node


def _written(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def calls() -> str:
    """Return the table of entrants and their constructor calls, with the first setting that each tries."""
    rows = []
    for name, entrant in ENTRANTS.items():
        [first] = entrant.candidates(tasks(SCALE)["digits-noisy"].workload, (0,), 1.0, 1)
        rows.append([name, f"`{call(first.runs[0].method)}`"])
    return table(["entrant", "call"], rows)


def boards_of(results: Results) -> list[Board]:
    """Return the tasks, each with the budgets that are whole, if there are any."""
    seen = remembered(results)
    found = [Board(name, task, seen) for name, task in tasks(SCALE).items()]
    budgets = {at.name: tuple(b for b in at.task.budgets if at.whole(b)) for at in found}
    return [Board(at.name, replace(at.task, budgets=own), seen) for at in found if (own := budgets[at.name])]


def main(archive: Path = FOLDER / "results" / "league.xz") -> None:
    """Write the page and the pictures."""
    boards = boards_of(Archive(archive))
    for at in boards:
        draw(at)
    (FOLDER / "league.md").write_text(page(boards, tasks(SCALE)).rstrip() + "\n")
    put(FOLDER.parent / "README.md", front(boards))
    put(FOLDER / "which-method.md", "\n".join(f"- {line}" for line in decisions(boards)))


if __name__ == "__main__":
    main()
