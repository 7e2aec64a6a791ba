"""Commands that evaluate: score, report, maps, compare, experiment."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from flows.cli.common import (
    EXECUTION,
    INPUT,
    MAPS,
    OUTPUT,
    AsOf,
    Changes,
    CorpusName,
    ImageFolder,
    Json,
    Strict,
    app,
    examples,
    recipe_values,
)
from flows.cli.output import print_json, print_notes, print_warnings, quarantine_code
from flows.cli.score_output import print_comparison, print_scores
from flows.cli.terminal import ProgressView, err, print_table
from mining.config import ScoreSettings, parse

FIGURES = Group("Figures", sort_key=3)
Truth = Annotated[Path, Parameter(group=INPUT)]
Page = Annotated[Path | None, Parameter(group=OUTPUT)]


@app.command(
    help_epilogue=examples(
        "boxmine score runs/first --truth truth.json",
        "boxmine score runs/first --truth truth.json --all",
        "boxmine score runs/first --truth VOC2012 --json > scores.json",
    )
)
def score(
    run_dir: Annotated[Path, Parameter(group=INPUT)],
    /,
    *,
    truth: Truth,
    maps: Annotated[bool, Parameter(group=FIGURES)] = False,
    engine: Annotated[Literal["boxmine", "pycocotools"], Parameter(group=FIGURES)] = "boxmine",
    classes_from: Annotated[Path | None, Parameter(group=FIGURES)] = None,
    show_all: Annotated[bool, Parameter(name="--all", negative=(), group=OUTPUT)] = False,
    as_json: Json = False,
) -> int:
    """Score a finished run against ground truth: CorLoc, precision, recall, and what a minimum score does to them.

    Parameters
    ----------
    run_dir
        Run directory.
    truth
        Ground truth: COCO JSON with boxes or masks, folder of VOC XML, or CUB folder.
    maps
        Draw the maps again, which takes as long as mining did, for the papers' MaxBoxAcc, MaxBoxAccV2 and Loc(delta).
    engine
        What computes COCO's figures; both give the same numbers, pycocotools far more slowly.
    classes_from
        Use the classes that another classifier ranks first, for localization and classification errors: a run directory
        of that model, or a CSV (file_name,labels) with the most probable label first.
    show_all
        Print every figure, not only the five most important ones.
    as_json
        Print scores.json on stdout.
    """
    from flows import score as flow
    from flows.running import run_flow

    with ProgressView():
        values = {"run": run_dir, "truth": truth, "maps": maps, "engine": engine, "classes_from": classes_from}
        scores = run_flow(flow.score, parse(ScoreSettings, values))
    print_json(scores) if as_json else print_scores(scores, run_dir, show_all=show_all)
    return 0


@app.command(
    help_epilogue=examples(
        "boxmine report runs/first",
        "boxmine report runs/first --truth truth.json",
        "boxmine report runs/second --against runs/first",
        "boxmine report s3://bucket/labels --as-of 12 --out version-12.html",
    )
)
def report(
    source: Annotated[str, Parameter(group=INPUT)],
    /,
    *,
    truth: Annotated[Path | None, Parameter(group=INPUT)] = None,
    against: Annotated[Path | None, Parameter(group=INPUT)] = None,
    out: Page = None,
    as_of: AsOf = None,
    corpus: CorpusName = None,
    images: ImageFolder = None,
) -> int:
    """Write the report page: report/index.html of a finished run, or one file for a version of a label store.

    Parameters
    ----------
    source
        Run directory, or label store: a folder or an address such as s3://bucket/labels.
    truth
        Ground truth whose boxes are drawn, as for `boxmine score`; by default what the run was scored against.
    against
        An earlier finished run: the page says which of its figures differ by more than chance. A version of a label
        store is compared with the version before it.
    out
        For a label store: the page to write; by default CORPUS@VERSION.html in the current folder.
    """
    from tasks.reporting import report_any

    with ProgressView():
        chosen = {"as_of": as_of, "corpus": corpus, "images": images}
        page, note = report_any(source, truth, out, chosen, against)
    if note:
        err.print(f"Note: {note}")
    err.print(f"The report is {page}.")
    return 0


@app.command(
    help_epilogue=examples(
        "boxmine maps pretrained:efficientnet_lite0 a.jpg b.jpg --out maps.html",
        "boxmine maps models/mine photos --localizers cam,layercam,msrd --class dog --out maps.html",
        "boxmine maps models/cam models/spg models/ornet photos --out maps.html",
    )
)
def maps(
    model: Annotated[str, Parameter(group=INPUT)],
    images: Annotated[list[str], Parameter(group=INPUT)],
    /,
    *,
    out: Annotated[Path, Parameter(group=OUTPUT)],
    classes: Annotated[list[str] | None, Parameter(name="--class", group=MAPS)] = None,
    max_classes: Annotated[int, Parameter(group=MAPS)] = 1,
    localizers: Annotated[list[str] | None, Parameter(group=MAPS)] = None,
    scales: Annotated[list[str] | None, Parameter(group=MAPS)] = None,
    max_images: Annotated[int, Parameter(group=INPUT)] = 12,
    device: Annotated[str, Parameter(group=EXECUTION)] = "auto",
    strict: Strict = False,
) -> int:
    """Show localizers side by side: their maps on the same images, after each refinement, at each scale and layer.

    Parameters
    ----------
    model
        Model folder, or pretrained:BACKBONE for ImageNet's classes.
    images
        Image files, folders of images, and further models: folders with a model.json, or pretrained:BACKBONE.
    out
        Page to write: one HTML file that needs no network.
    classes
        Class to map in every image; repeatable. By default the most probable one of each image.
    max_classes
        Number of most probable classes to map in each image, if none are given.
    localizers
        Methods to draw, e.g. cam,layercam, of those that the weights of a model serve. By default all of them if one
        model is given, and each model's own if several are.
    scales
        Scales of all maps, e.g. 1,1.5; by default those that `boxmine mine` has for each refinement.
    max_images
        Maximum number of images on the page; of more, so many are shown, evenly spaced in the order given (those of a
        folder by name).
    device
        auto (a GPU if there is one), cpu, cuda, cuda:1, mps.
    """
    from flows import maps as flow
    from flows.running import run_flow
    from mining.config import MapsSettings
    from mining.reporting.maps_inputs import split_models

    models, files = split_models(model, images)
    values = {
        "models": models, "images": files, "out": out, "classes": classes, "max_classes": max_classes,
        "localizers": localizers, "scales": scales, "max_images": max_images, "device": device,
    }  # fmt: skip
    with ProgressView():
        summary = run_flow(flow.maps, parse(MapsSettings, values))
    print_notes(summary.notes)
    code = quarantine_code(len(summary.skipped), summary.skipped, "All reasons are on the page.", strict=strict)
    err.print(f"The page is {summary.page}.")
    return code


@app.command(
    help_epilogue=examples(
        "boxmine compare runs/first runs/second",
        "boxmine compare runs/first runs/second --truth truth.json --out comparison.html",
    )
)
def compare(
    first: Annotated[Path, Parameter(group=INPUT)],
    second: Annotated[Path, Parameter(group=INPUT)],
    /,
    *,
    truth: Annotated[Path | None, Parameter(group=INPUT)] = None,
    out: Page = None,
    as_json: Json = False,
) -> int:
    """Compare two finished runs: which boxes changed, and with ground truth whether they got better.

    Parameters
    ----------
    first
        Run directory to compare with.
    second
        Run directory that is compared with it.
    truth
        Ground truth, as for `boxmine score`; by default what one of the runs was scored against.
    out
        Page to write; by default report/against-FIRST.html of the second run. A CSV of all pairs goes beside it.
    as_json
        Print the comparison on stdout.
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


@app.command(
    help_epilogue=examples(
        "boxmine experiment recipes/experiment.yaml",
        "boxmine experiment recipes/experiment.yaml --set seeds=[0] --out experiments/quick",
    )
)
def experiment(
    recipe: Annotated[Path, Parameter(group=INPUT)],
    /,
    *,
    out: Page = None,
    changes: Changes = None,
    as_json: Json = False,
) -> int:
    """Compare methods on the same images: train, mine and score each variant of a recipe, over several seeds.

    Variants that have been measured with the same settings are not measured again.

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

    # imported here, because it imports torch, which refusing a recipe must not wait for
    from mining.experiments.table import HEADINGS, LEGEND, table, warnings

    if as_json:
        print_json([asdict(row) for row in rows])
        return 0
    print_table(table(rows), HEADINGS)
    err.print(LEGEND)
    print_warnings(warnings(rows))
    err.print(f"The table is in {settings.out / 'table.md'}.")
    return 0
