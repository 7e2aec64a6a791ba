"""Commands that train and mine: train, mine, run, demo."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.common import Flat, Json, Strict, app, recipe_values
from flows.cli.output import (
    print_json,
    print_mine_summary,
    print_notes,
    print_timing,
    quarantine_code,
    training_sentences,
)
from flows.cli.score_output import print_scores
from flows.cli.terminal import ProgressView, err
from mining.config import MineSettings, RunSettings, TrainSettings, parse


@app.command
def train(settings: Annotated[TrainSettings, Flat], *, strict: Strict = False, as_json: Json = False) -> int:
    """Train a localizer from image-level labels."""
    from flows import train as flow
    from flows.running import run_flow

    with ProgressView():
        summary = run_flow(flow.train, settings)
    if as_json:
        print_json(asdict(summary))
    else:
        print_notes(summary.notes)
        for sentence in training_sentences(summary):
            err.print(sentence)
        err.print(f"The model is in {summary.folder}.")
    where = f"All reasons are in {summary.folder / 'model.json'}."
    return quarantine_code(len(summary.unreadable), list(summary.unreadable.values()), where, strict=strict)


@app.command
def mine(
    *,
    settings: Annotated[MineSettings, Flat],
    explain_speed: Annotated[
        bool, Parameter(negative=(), help="Say where the time went, of a finished run too.")
    ] = False,
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Mine boxes from images; the same command carries on where it was stopped."""
    from flows import mine as flow
    from flows.running import run_flow

    with ProgressView():
        summary = run_flow(flow.mine, settings)
    code = print_mine_summary(summary, as_json=as_json, strict=strict)
    if explain_speed and not as_json:
        print_timing(summary.timing)
    return code


@app.command
def run(
    recipe: Path,
    /,
    *,
    out: Path | None = None,
    changes: Annotated[list[str] | None, Parameter(name="--set")] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Train, mine, score and report, as a recipe says.

    Parameters
    ----------
    recipe
        YAML file: out, corpus, test, train or model, mine, truth.
    out
        Run directory, instead of the recipe's.
    changes
        key=value on top of the recipe, e.g. --set train.epochs=5.
    as_json
        Print the counts and scores on stdout.
    """
    return run_recipe(parse(RunSettings, recipe_values(recipe, out, changes)), as_json=as_json, strict=strict)


@app.command
def demo(
    *,
    out: Path = Path("runs/demo"),
    images: Annotated[int, Parameter(validator=Number(gte=8, lte=100_000))] = 160,
    seed: Annotated[int, Parameter(validator=Number(gte=0, lt=2**32))] = 0,
    strict: Strict = False,
) -> int:
    """Generate a corpus with exact truth, train, mine, score, and write the report.

    Parameters
    ----------
    out
        Folder for the corpus and the run.
    images
        Images to generate.
    seed
        Seed of the corpus and the training.
    """
    from mining.synthetic import generate
    from mining.synthetic.generator import lock_demo

    with lock_demo(out):
        corpus = out / "corpus"
        generate(corpus, images=images, seed=seed)
        values = {
            "out": out / "run",
            "corpus": {"images": corpus / "images", "labels": corpus / "labels.csv"},
            "train": {"seed": seed},
            "truth": corpus / "truth.json",
        }
        return run_recipe(parse(RunSettings, values), as_json=False, strict=strict)


def run_recipe(settings: RunSettings, *, as_json: bool, strict: bool) -> int:
    from flows import run as flow
    from flows.running import run_flow

    with ProgressView():
        summary, scores = run_flow(flow.run, settings)
    code = print_mine_summary(summary, as_json=False, strict=strict)
    if as_json:
        print_json({**asdict(summary), "scores": scores})
    elif scores is not None:
        print_scores(scores, summary.run)
    err.print(f"The report is {summary.run / 'report' / 'index.html'}.")
    return code
