"""Commands that look at finished runs: score, report, compare, experiment."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.cli.common import Json, app, recipe_values
from flows.cli.output import print_json
from flows.cli.score_output import print_comparison, print_scores
from flows.cli.terminal import ProgressView, err, print_table
from mining.config import ScoreSettings, parse


@app.command
def score(
    run_dir: Path,
    /,
    *,
    truth: Path,
    maps: bool = False,
    engine: Literal["boxmine", "pycocotools"] = "boxmine",
    show_all: Annotated[bool, Parameter(name="--all", negative=())] = False,
    as_json: Json = False,
) -> int:
    """Score a finished run against true boxes.

    Parameters
    ----------
    run_dir
        Run directory.
    truth
        COCO JSON with boxes, folder of VOC XML, or CUB folder.
    maps
        Draw the maps again, which takes as long as mining did, for MaxBoxAcc and MaxBoxAccV2 as papers report them.
    engine
        What computes COCO's figures; both give the same numbers, pycocotools far more slowly.
    show_all
        Print every figure, not only the five most important ones.
    as_json
        Print scores.json on stdout.
    """
    from flows import score as flow
    from flows.running import run_flow

    with ProgressView():
        values = {"run": run_dir, "truth": truth, "maps": maps, "engine": engine}
        scores = run_flow(flow.score, parse(ScoreSettings, values))
    print_json(scores) if as_json else print_scores(scores, run_dir, show_all=show_all)
    return 0


@app.command
def report(
    source: str,
    /,
    *,
    truth: Path | None = None,
    out: Path | None = None,
    as_of: str | None = None,
    corpus: str | None = None,
    images: Path | None = None,
) -> int:
    """Write the page to look at first: report/index.html of a finished run, or one file of a label store's version.

    Parameters
    ----------
    source
        Run directory, or label store: a folder or an address such as s3://bucket/labels.
    truth
        True boxes to draw, as `boxmine score` takes them; by default those the run was scored against.
    out
        Of a label store: the page to write; by default CORPUS@VERSION.html in the current folder.
    as_of
        Of a label store: a version's number, or a time such as 2026-01-31T12:00; by default the last one.
    corpus
        Of a label store with several: its name.
    images
        Of a label store: where the images lie here, if not where they were labelled.
    """
    from tasks.reporting import report_any

    with ProgressView():
        page, note = report_any(source, truth, out, {"as_of": as_of, "corpus": corpus, "images": images})
    if note:
        err.print(f"Note: {note}")
    err.print(f"The report is {page}.")
    return 0


@app.command
def compare(
    first: Path, second: Path, /, *, truth: Path | None = None, out: Path | None = None, as_json: Json = False
) -> int:
    """Compare two finished runs: which boxes changed, and where there is truth whether they got better.

    Parameters
    ----------
    first
        Run directory to compare with.
    second
        Run directory that is compared with it.
    truth
        True boxes, as `boxmine score` takes them; by default those that a run was scored against.
    out
        Page to write; by default report/against-FIRST.html of the second run. A CSV of all pairs goes beside it.
    as_json
        Print what was found on stdout.
    """
    from flows import compare as flow
    from flows.running import run_flow
    from mining.config import CompareSettings

    values = {"first": first, "second": second, "truth": truth, "out": out}
    summary, page = run_flow(flow.compare, parse(CompareSettings, values))
    if as_json:
        print_json(summary)
    else:
        print_comparison(summary)
    err.print(f"The page is {page}.")
    return 0


@app.command
def experiment(
    recipe: Path,
    /,
    *,
    out: Path | None = None,
    changes: Annotated[list[str] | None, Parameter(name="--set")] = None,
    as_json: Json = False,
) -> int:
    """Compare methods on the same photos: train, mine and score each variant of a recipe, over seeds.

    What is measured already is not measured again.

    Parameters
    ----------
    recipe
        YAML file: out, corpora, variants, baseline, seeds, pyramids, train, mine.
    out
        Folder of the experiment, instead of the recipe's.
    changes
        key=value on top of the recipe, e.g. --set seeds=[0].
    as_json
        Print the rows on stdout.
    """
    from flows import experiment as flow
    from flows.running import run_flow
    from mining.experiments import ExperimentSettings

    settings = parse(ExperimentSettings, recipe_values(recipe, out, changes))
    with ProgressView():
        rows = run_flow(flow.experiment, settings)
    if as_json:
        print_json([asdict(row) for row in rows])
        return 0
    from mining.experiments.table import HEADINGS, LEGEND, table  # imports torch

    print_table(table(rows), HEADINGS)
    err.print(LEGEND)
    err.print(f"The table is in {settings.out / 'table.md'}.")
    return 0
