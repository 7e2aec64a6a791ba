"""Commands of label stores and exports: label, clean, export, status."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from flows.cli.common import (
    INPUT,
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
from flows.cli.label_output import print_cleanup, print_export, print_label_summary
from flows.cli.output import print_json
from flows.cli.terminal import ProgressView, err, print_table
from mining.config import parse
from mining.errors import InputError

PUBLISHING = Group("Publishing", sort_key=3)
DATASET = Group("Dataset", sort_key=3)


@app.command(
    help_epilogue=examples(
        "boxmine label recipe.yaml",
        "boxmine label recipe.yaml --set gates.max_no_box=0.8",
        "boxmine label recipe.yaml --accept",
        "boxmine label recipe.yaml --restore 12",
    )
)
def label(
    recipe: Annotated[Path, Parameter(group=INPUT)],
    /,
    *,
    accept: Annotated[bool, Parameter(negative=(), group=PUBLISHING)] = False,
    new_store: Annotated[bool, Parameter(negative=(), group=PUBLISHING)] = False,
    restore: Annotated[str | None, Parameter(group=PUBLISHING)] = None,
    changes: Changes = None,
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Label new and changed images and publish the next version of a label store.

    Exit code 5: nothing was published, because a gate did not pass, or because the store that earlier jobs published to
    is missing. Needs the extra `store`: pip install "boxmine[store]".

    Parameters
    ----------
    recipe
        YAML file: store, runs, corpus, model, mine, truth, gates.
    accept
        Publish even if a gate does not pass.
    new_store
        Start a new store if the one that earlier jobs published to is missing.
    restore
        Mine nothing: publish an earlier version again, by its number or a time such as 2026-01-31T12:00.
    changes
        Change of the recipe, e.g. --set gates.max_no_box=0.8; may be given several times.
    as_json
        Print the result as JSON on stdout.
    """
    from flows import label as flow
    from flows.running import run_flow
    from mining.label_store.settings import LabelSettings

    settings = parse(LabelSettings, recipe_values(recipe, None, changes))
    if accept and restore is not None:
        raise InputError("--accept publishes new labels and --restore an earlier version; give one of them.")
    with ProgressView():
        summary = run_flow(
            flow.label, settings, checks=restore is None, accept=accept, restore=restore, new_store=new_store
        )
    return print_label_summary(summary, recipe, as_json=as_json, strict=strict)


@app.command(help_epilogue=examples("boxmine clean recipe.yaml --dry-run", "boxmine clean recipe.yaml --keep 0"))
def clean(
    recipe: Annotated[Path, Parameter(group=INPUT)],
    /,
    *,
    keep: Annotated[int, Parameter(validator=Number(gte=0), group=OUTPUT)] = 3,
    dry_run: Annotated[bool, Parameter(negative=(), group=OUTPUT)] = False,
    as_json: Json = False,
) -> int:
    """Delete unpublished runs and leftovers of labelling jobs; published runs and all versions are kept.

    Parameters
    ----------
    recipe
        YAML file of `boxmine label`.
    keep
        Number of unpublished runs to keep, the latest ones.
    dry_run
        Only print what would be deleted.
    as_json
        Print the result as JSON on stdout.
    """
    from mining.label_store.cleanup import clean as delete_leftovers
    from mining.label_store.job import lock_job
    from mining.label_store.settings import LabelSettings

    settings = parse(LabelSettings, recipe_values(recipe, None, None))
    with lock_job(settings, sweeps=False):
        cleaned = delete_leftovers(settings, keep, dry_run=dry_run)
    print_cleanup(cleaned.deleted, cleaned.notes, dry_run=dry_run, as_json=as_json)
    return 0


@app.command(
    help_epilogue=examples(
        "boxmine export runs/first --format yolo --out set",
        "boxmine export runs/first --format coco --min-score 0.3 --val-truth truth.json --out set",
        "boxmine export runs/first --format labelstudio --plan plan.csv --out review",
        "boxmine export s3://bucket/labels --as-of 12 --format voc --out set",
    )
)
def export(
    source: Annotated[str, Parameter(group=INPUT)],
    /,
    *,
    format: Annotated[Literal["coco", "yolo", "voc", "hf", "labelstudio", "cvat", "run"], Parameter(group=OUTPUT)],
    out: Annotated[Path, Parameter(group=OUTPUT)],
    min_score: Annotated[float, Parameter(group=DATASET)] = 0.0,
    min_precision: Annotated[float | None, Parameter(group=DATASET)] = None,
    copy: Annotated[bool, Parameter(group=DATASET)] = False,
    val_share: Annotated[float, Parameter(group=DATASET)] = 0.1,
    val_truth: Annotated[Path | None, Parameter(group=DATASET)] = None,
    include_empty: Annotated[bool, Parameter(group=DATASET)] = False,
    used_classes: Annotated[bool, Parameter(negative=(), group=DATASET)] = False,
    plan: Annotated[Path | None, Parameter(group=DATASET)] = None,
    license: Annotated[str | None, Parameter(group=DATASET)] = None,
    near_duplicates: Annotated[bool, Parameter(group=DATASET)] = True,
    as_of: AsOf = None,
    corpus: CorpusName = None,
    images: ImageFolder = None,
) -> int:
    """Export a finished run, or a version of a label store, as a dataset to train a detector on, or to check by hand.

    Parameters
    ----------
    source
        Run directory, or label store: a folder or an address such as s3://bucket/labels.
    format
        To train: coco, yolo (Ultralytics), voc, hf (an image folder of Hugging Face). To check the boxes by hand:
        labelstudio, cvat. Or run: a version of a label store as a run directory, for `boxmine score`, `report` and
        `compare`.
    out
        New or empty folder.
    min_score
        Leave out boxes with a lower score.
    min_precision
        Export the largest subset of the best-scored boxes whose precision is at least this, e.g. 0.9, with 95 %
        confidence, by the verdicts of `boxmine audit`; refused if there is none.
    copy
        Copy the images instead of hard-linking them.
    val_share
        Share of images for validation if the corpus has no splits.
    val_truth
        Ground truth for the validation images, as for `boxmine score`; without it they have mined boxes.
    include_empty
        Export images without a box as negatives, even if it is not known that they are empty.
    used_classes
        List only the classes that have a box, e.g. for a pretrained model with 1000 classes. COCO keeps the model's
        category ids; YOLO numbers the listed classes from 0.
    plan
        CSV of `boxmine audit plan`: export only its images, with or without a box.
    license
        Licence of the images, e.g. CC-BY-4.0, for the dataset card (README.md) and croissant.json.
    near_duplicates
        If there are validation images: find images that are near-duplicates (resized, cropped, mirrored, ...), and keep
        them in one part.
    """
    from mining.label_store.settings import VersionChoice
    from tasks.exporting import export_source

    with ProgressView():
        summary = export_source(
            source, format, out, VersionChoice(as_of, corpus, images), min_score=min_score,
            min_precision=min_precision, copy=copy,
            val_share=val_share, include_empty=include_empty, val_truth=val_truth, used_classes=used_classes,
            plan=plan, license=license, near_duplicates=near_duplicates,
        )  # fmt: skip
    print_export(summary, out)
    return 0


@app.command(help_epilogue=examples("boxmine status runs/first", "boxmine status runs", "boxmine status labels"))
def status(source: Annotated[str, Parameter(group=INPUT)], /, *, as_json: Json = False) -> int:
    """Show the status of a run, the runs in a folder, or the last versions of a label store; needs no server.

    Parameters
    ----------
    source
        Run directory, folder of run directories, or label store: a folder or an address such as s3://bucket/labels.
    as_json
        Print the status as JSON on stdout.
    """
    from flows.cli.status_output import read_status_of

    status = read_status_of(source)
    if as_json:
        print_json(status.values)
    else:
        print_table(status.rows, status.headings)
    for sentence in status.sentences:
        err.print(sentence)
    return 0
