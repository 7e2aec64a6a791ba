"""Commands of label stores and exports: label, clean, export, status."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.common import Json, Strict, app, recipe_values
from flows.cli.label_output import print_cleanup, print_export, print_label_summary
from flows.cli.output import print_json
from flows.cli.terminal import ProgressView, err, print_table
from mining.config import parse
from mining.errors import InputError


@app.command
def label(
    recipe: Path,
    /,
    *,
    accept: Annotated[bool, Parameter(negative=())] = False,
    new_store: Annotated[bool, Parameter(negative=())] = False,
    restore: str | None = None,
    changes: Annotated[list[str] | None, Parameter(name="--set")] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Label what is new or changed since the last version of a label store, and publish the next one.

    Exit code 5: nothing was published, because a gate did not pass, or the store that was published to is not there.

    Parameters
    ----------
    recipe
        YAML file: store, runs, corpus, model, mine, truth, gates.
    accept
        Publish whatever the gates say.
    new_store
        Begin a new store where the one that earlier jobs published to is gone.
    restore
        Mine nothing: publish an earlier version once more, by its number or a time such as 2026-01-31T12:00.
    changes
        key=value on top of the recipe, e.g. --set gates.max_no_box=0.8.
    as_json
        Print what was done on stdout.
    """
    from flows import label as flow
    from flows.running import run_flow
    from mining.label_store.settings import LabelSettings

    settings = parse(LabelSettings, recipe_values(recipe, None, changes))
    if accept and restore is not None:
        raise InputError("--accept is of what is new, and --restore of an earlier version: give one of them.")
    with ProgressView():
        summary = run_flow(
            flow.label, settings, checks=restore is None, accept=accept, restore=restore, new_store=new_store
        )
    return print_label_summary(summary, as_json=as_json, strict=strict)


@app.command
def clean(
    recipe: Path,
    /,
    *,
    keep: Annotated[int, Parameter(validator=Number(gte=0))] = 3,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> int:
    """Delete what labelling jobs left and no version of the store is from.

    Published runs stay, and so does every version.

    Parameters
    ----------
    recipe
        YAML file of `boxmine label`.
    keep
        Unpublished runs to keep, the last ones.
    dry_run
        Say what would be deleted.
    as_json
        Print it as JSON on stdout.
    """
    from mining.label_store.cleanup import clean as delete_leftovers
    from mining.label_store.job import lock_job
    from mining.label_store.settings import LabelSettings

    settings = parse(LabelSettings, recipe_values(recipe, None, None))
    with lock_job(settings, sweeps=False):
        cleaned = delete_leftovers(settings, keep, dry_run=dry_run)
    print_cleanup(cleaned.deleted, cleaned.notes, dry_run=dry_run, as_json=as_json)
    return 0


@app.command
def export(
    source: str,
    /,
    *,
    format: Literal["coco", "yolo", "voc", "run"],
    out: Path,
    min_score: float = 0.0,
    copy: bool = False,
    val_share: float = 0.1,
    val_truth: Path | None = None,
    include_empty: bool = False,
    used_classes: Annotated[bool, Parameter(negative=())] = False,
    as_of: str | None = None,
    corpus: str | None = None,
    images: Path | None = None,
) -> int:
    """Write a finished run, or a version of a label store, as a detector's training set.

    Parameters
    ----------
    source
        Run directory, or label store: a folder or an address such as s3://bucket/labels.
    format
        coco, yolo (Ultralytics layout), voc; or run: a label store's version as a run directory, which score, report
        and compare take.
    out
        New folder.
    min_score
        Boxes that score below are left out.
    copy
        Copy the images instead of hard-linking them.
    val_share
        Share of images for validation where the corpus has no splits.
    val_truth
        True boxes for the validation images, as `boxmine score` takes them; without it they have mined boxes.
    include_empty
        Export images without a box as negatives, even if it is not known that they are empty.
    used_classes
        List only the classes that have a box, e.g. for a pretrained model with 1000 classes. COCO keeps the model's
        category ids; YOLO numbers the listed classes from 0.
    as_of
        Of a label store: a version's number, or a time such as 2026-01-31T12:00.
    corpus
        Of a label store with several: its name.
    images
        Of a label store: where the images lie here, if not where they were labelled.
    """
    from mining.label_store.sources import VersionChoice, export_source

    summary = export_source(
        source, format, out, VersionChoice(as_of, corpus, images), min_score=min_score, copy=copy,
        val_share=val_share, include_empty=include_empty, val_truth=val_truth, used_classes=used_classes,
    )  # fmt: skip
    print_export(summary, out, min_score)
    return 0


@app.command
def status(source: str, /, *, as_json: Json = False) -> int:
    """Where a run stands, which runs a folder holds, or what a label store's last versions are; without any server.

    Parameters
    ----------
    source
        Run directory, folder of run directories, or label store: a folder or an address such as s3://bucket/labels.
    as_json
        Print it as JSON on stdout.
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
