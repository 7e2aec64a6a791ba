"""Commands that train and mine: train, mine, run, bootstrap, fuse, prove, demo."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.common import BOXES, INPUT, OUTPUT, Changes, Flat, Json, Strict, app, examples, grouped, recipe_values
from flows.cli.output import (
    print_json,
    print_mine_summary,
    print_notes,
    print_place_of_boxes,
    print_warnings,
    quarantine_code,
    training_sentences,
)
from flows.cli.score_output import print_scores
from flows.cli.terminal import ProgressView, err
from flows.cli.timing import print_timing
from mining.config import FuseSettings, MineSettings, RunSettings, TrainSettings, parse
from mining.config.bootstrap import BootstrapSettings

TrainCommand = grouped(TrainSettings, out=OUTPUT, boxes=INPUT)
MineCommand = grouped(MineSettings, model=INPUT, out=OUTPUT, thresholds_from=BOXES)


@app.command(
    help_epilogue=examples(
        "boxmine train --images photos --labels labels.csv --out models/mine",
        "boxmine train --images photos --labels labels.csv --boxes some.json --out models/mine",
        "boxmine train --images photos --localizer msrd --backbone resnet50 --epochs 20 --out models/msrd",
        "boxmine train --images photos --no-freeze --devices 2 --strategy ddp --out models/full",
    )
)
def train(
    settings: Annotated[TrainCommand, Flat],  # type: ignore[valid-type]
    *,
    strict: Strict = False,
    as_json: Json = False,
) -> int:
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
        print_warnings(summary.warnings)
    where = f"All reasons are in {summary.folder / 'model.json'}."
    return quarantine_code(len(summary.unreadable), list(summary.unreadable.values()), where, strict=strict)


@app.command(
    help_epilogue=examples(
        "boxmine mine --images photos --labels labels.csv --model models/mine --out runs/first",
        "boxmine mine --images photos --model pretrained:efficientnet_lite0 --scales 1 --out runs/quick",
        "boxmine mine --images photos --model pretrained:vgg16 --localizer msrd --out runs/msrd",
        "boxmine mine --images photos --model models/mine --runner processes --out runs/large",
    )
)
def mine(
    *,
    settings: Annotated[MineCommand, Flat],  # type: ignore[valid-type]
    explain_speed: Annotated[
        bool, Parameter(negative=(), group=OUTPUT, help="Print where the time went, of a finished run too.")
    ] = False,
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Mine boxes from images; run the same command again to resume."""
    from flows import mine as flow
    from flows.running import run_flow

    with ProgressView():
        summary = run_flow(flow.mine, settings)
    code = print_mine_summary(summary, as_json=as_json, strict=strict)
    if explain_speed and not as_json:
        print_timing(summary.timing)
    return code


@app.command(
    help_epilogue=examples("boxmine run recipe.yaml", "boxmine run recipe.yaml --out runs/longer --set train.epochs=20")
)
def run(
    recipe: Path,
    /,
    *,
    out: Path | None = None,
    changes: Changes = None,
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Train, mine, score and report as one job, described by a recipe.

    Parameters
    ----------
    recipe
        YAML file: out, corpus, test, train or model, mine, truth, boxes.
    out
        Run directory, instead of the recipe's.
    changes
        Change of the recipe, e.g. --set train.epochs=5; may be given several times.
    as_json
        Print the counts and scores on stdout.
    """
    return run_recipe(parse(RunSettings, recipe_values(recipe, out, changes)), as_json=as_json, strict=strict)


@app.command(
    help_epilogue=examples(
        "boxmine bootstrap recipe.yaml", "boxmine bootstrap recipe.yaml --set rounds=3 --set detector.epochs=40"
    )
)
def bootstrap(
    recipe: Path,
    /,
    *,
    out: Path | None = None,
    changes: Changes = None,
    as_json: Json = False,
) -> int:
    """Mine boxes, train a detector on them, mine with it, and say whether its boxes are better.

    Parameters
    ----------
    recipe
        YAML file: out, corpus, train or model, backbones, mine, detector, rounds, truth, boxes.
    out
        Folder of the rounds, instead of the recipe's.
    changes
        Change of the recipe, e.g. --set detector.epochs=40; may be given several times.
    as_json
        Print the rounds and the result on stdout.
    """
    from flows import bootstrap as flow
    from flows.running import run_flow

    settings = parse(BootstrapSettings, recipe_values(recipe, out, changes))
    with ProgressView():
        result = run_flow(flow.bootstrap, settings)
    if as_json:
        print_json(asdict(result))
        return 0
    for one in result.rounds:
        err.print(f"Round {one.number}: learned from {one.learned_from} boxes, found {one.boxes}. {one.reason}")
    err.print(result.reason, soft_wrap=True)
    if result.detector is None:
        whose = "localizer" if settings.backbones is None else "localizers"
        err.print(f"The boxes of the {whose} are in {result.run}.", soft_wrap=True)
    else:
        what = "combined boxes" if settings.fuse else "detector's boxes"
        err.print(f"The {what} are in {result.run}, the detector is {result.detector}.", soft_wrap=True)
    print_warnings(result.warnings)
    return 0


@app.command(
    help_epilogue=examples(
        "boxmine fuse runs/lite0 runs/lite1 runs/lite2 --out runs/all",
        "boxmine fuse runs/lite0 runs/lite1 runs/lite2 --min-runs 2 --out runs/agreed",
    )
)
def fuse(
    runs: Annotated[list[Path], Parameter(group=INPUT)],
    /,
    *,
    out: Annotated[Path, Parameter(group=OUTPUT)],
    min_runs: Annotated[int, Parameter(group=BOXES)] = 1,
    as_json: Json = False,
) -> int:
    """Combine the boxes of several runs of the same images, e.g. of localizers with different backbones.

    Parameters
    ----------
    runs
        Two or more finished runs. The new run has the model and the threshold curves of the first one.
    out
        The new run directory.
    min_runs
        Fewest runs that a box must have been found by: boxes of one run alone are mostly wrong.
    as_json
        Print the counts on stdout.
    """
    from flows import fuse as flow
    from flows.running import run_flow
    from mining.runs.fused_record import count_by_runs

    with ProgressView():
        fused = run_flow(flow.fuse, parse(FuseSettings, {"runs": runs, "out": out, "min_runs": min_runs}))
    if as_json:
        print_json(asdict(fused))
        return 0
    print_notes(fused.notes)
    err.print(f"Combined {len(runs)} runs to {fused.boxes:,} boxes, found {count_by_runs(fused.found_by)}.")
    print_place_of_boxes(fused.run)
    return 0


@app.command(
    help_epilogue=examples(
        "boxmine prove recipe.yaml",
        "boxmine prove recipe.yaml --set seeds=[0] --set budget=[] --set arms=[mined,centred]",
    )
)
def prove(
    recipe: Path,
    /,
    *,
    out: Path | None = None,
    changes: Changes = None,
    as_json: Json = False,
) -> int:
    """Say what mined boxes are worth: train the same detector on mined, true and other boxes, and test all of them.

    Parameters
    ----------
    recipe
        YAML file: out, runs, truth, test, detector, seeds, arms, budget.
    out
        Folder of the detectors and figures, instead of the recipe's.
    changes
        Change of the recipe, e.g. --set detector.epochs=40; may be given several times.
    as_json
        Print the figures on stdout.
    """
    from flows import prove as flow
    from flows.cli.proof_output import print_proof
    from flows.running import run_flow
    from mining.config.proof import ProofSettings

    settings = parse(ProofSettings, recipe_values(recipe, out, changes))
    with ProgressView():
        result = run_flow(flow.prove, settings)
    print_json(asdict(result)) if as_json else print_proof(result, settings.out)
    return 0


@app.command(help_epilogue=examples("boxmine demo", "boxmine demo --out runs/small --images 60"))
def demo(
    *,
    out: Path = Path("runs/demo"),
    images: Annotated[int, Parameter(validator=Number(gte=8, lte=100_000))] = 160,
    seed: Annotated[int, Parameter(validator=Number(gte=0, lt=2**32))] = 0,
    strict: Strict = False,
) -> int:
    """Generate a corpus with exact ground truth, train, mine, score, and write the report.

    Parameters
    ----------
    out
        Folder for the corpus and the run.
    images
        Images to generate.
    seed
        Random seed of the corpus and the training.
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
    """Run a recipe and print its results; returns the exit code."""
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
