"""The next commands for a person when the gate min_precision did not pass."""

import shlex
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from mining.label_store.version_precision import RunVerdicts, VersionPrecision

RECIPE = "RECIPE"  # stands for the recipe's file in the commands
_COMMAND = "  boxmine audit"
WIDEST, NARROWEST = 0.1, 0.01  # half widths that a first plan asks for


def next_steps(found: VersionPrecision, limit: float, runs: Path) -> list[str]:
    """Return sentences and commands that may make the version pass; folders are absolute.

    Args:
        found: What the verdicts say.
        limit: The limit of the gate.
        runs: Folder of the run directories.
    """
    undrawn = [run for run in found.runs if run.boxes and not run.is_drawn]
    pending = [run for run in found.runs if run.pending]
    undecided = sum(run.undecided for run in found.runs)
    steps = [*_plan_first(undrawn, limit, runs), *_fill_in(pending, runs)] or [*_draw_more(found, limit, runs)]
    if undecided:
        boxes = f"{undecided} boxes count" if undecided > 1 else "1 box counts"
        steps.append(f"{boxes} for nothing: unsure, or as many reviewers for as against.")
    if any(step.startswith(_COMMAND) for step in steps):
        steps.append(f"Then run `boxmine label {RECIPE}` again; images that are mined are not mined again.")
    return steps


def _plan_first(undrawn: list[RunVerdicts], limit: float, runs: Path) -> Iterator[str]:
    """The commands for runs of which no box was drawn.

    Half of what the limit leaves below 1 lets a version pass whose precision is in the middle between both.
    """
    within = min(WIDEST, max(NARROWEST, (1 - limit) / 2))
    for run in undrawn:
        boxes = f"the {run.boxes} new boxes" if run.boxes > 1 else "the new box"
        yield f"Nobody has judged {boxes} of {run.run}. Draw some, fill in the column verdict, and record it:"
        yield from _commands(run, runs, f"--precision-within {within:.2g}", "")


def _fill_in(pending: list[RunVerdicts], runs: Path) -> Iterator[str]:
    for run in pending:
        yield f"{run.pending} boxes of {run.run} that were drawn have no verdict yet. Fill in the plan, and record it:"
        yield f"{_COMMAND} record {_quoted(runs / run.run)} PLAN.csv --reviewer NAME"


def _draw_more(found: VersionPrecision, limit: float, runs: Path) -> Iterator[str]:
    """About how many more verdicts might change the result, by the interval so far."""
    low = found.ci95[0]
    if found.value is None or found.value <= limit or found.value <= low:
        figure = "" if found.value is None else f": the precision is {found.value:.3f}, not above the limit"
        yield f"More verdicts will hardly change that{figure}. Improve the boxes, or publish them with --accept."
        return
    # the interval narrows with the root of the number, but for the finite population
    now = (1 / found.verdicts - 1 / found.boxes) * ((found.value - limit) / (found.value - low)) ** 2
    more = min(found.boxes, ceil(1 / (now + 1 / found.boxes))) - found.verdicts
    left = [run for run in found.runs if run.boxes > run.verdicts + run.undecided]
    if not left:
        yield "All of these boxes were drawn."
        return
    yield f"About {more} more verdicts might be enough. Draw them, fill in the column verdict, and record it:"
    for run in left:
        # of a run whose boxes are not all in the version, some draws are of others
        count = min(run.boxes_of_run - run.verdicts - run.undecided, ceil(more * run.boxes_of_run / found.boxes))
        yield from _commands(run, runs, f"--verdicts {count}", f"-{run.verdicts}")


def _commands(run: RunVerdicts, runs: Path, draws: str, suffix: str) -> Iterator[str]:
    folder, plan = _quoted(runs / run.run), _quoted(Path(f"{run.run}{suffix}.csv"))
    yield f"{_COMMAND} plan {folder} {draws} --out {plan}"
    yield f"{_COMMAND} record {folder} {plan} --reviewer NAME"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
