"""The command line. Exit codes: 0 done, 1 a bug, 2 wrong usage or bad input, 3 with --strict: done, but images could
not be used, 4 stopped and resumable, 5 labels staged but not published.
"""

import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter
from cyclopts.validators import Number
from pydantic import ValidationError

from flows.output import (
    print_json,
    print_label_summary,
    print_mine_summary,
    print_notes,
    print_scores,
    print_timing,
    quarantine_code,
    training_sentences,
)
from flows.terminal import ProgressView, err, print_table
from mining import __version__
from mining.config import MineSettings, RunSettings, ScoreSettings, TrainSettings, format_validation_errors, parse
from mining.config.recipes import read_recipe
from mining.config.system_errors import check_arguments, describe_os_error
from mining.errors import BoxmineError, InputError, RunStoppedError

app = App(
    name="boxmine",
    version=__version__,
    help="Point it at images that have class names at most; get back boxes that a detector can be trained on.",
    end_of_options_delimiter="",
    suppress_keyboard_interrupt=False,  # ours has an exit code of its own
)
Flat = Parameter(name="*")
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print the answer as JSON on stdout.")]

Strict = Annotated[bool, Parameter(negative=(), help="End with exit code 3 where images could not be used.")]


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
def score(run_dir: Path, /, *, truth: Path, maps: bool = False, as_json: Json = False) -> int:
    """Score a finished run against true boxes.

    Parameters
    ----------
    run_dir
        Run directory.
    truth
        COCO JSON with boxes, folder of VOC XML, or CUB folder.
    maps
        Draw the maps again, as long as mining took, for MaxBoxAcc and MaxBoxAccV2 as papers have them.
    as_json
        Print scores.json on stdout.
    """
    from flows import score as flow
    from flows.running import run_flow

    with ProgressView():
        scores = run_flow(flow.score, parse(ScoreSettings, {"run": run_dir, "truth": truth, "maps": maps}))
    print_json(scores) if as_json else print_scores(scores)
    return 0


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
    return _run_recipe(parse(RunSettings, _recipe_values(recipe, out, changes)), as_json=as_json, strict=strict)


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
    from tasks.experimenting import experiment_table

    settings = parse(ExperimentSettings, _recipe_values(recipe, out, changes))
    with ProgressView():
        rows = run_flow(flow.experiment, settings)
    if as_json:
        print_json([asdict(row) for row in rows])
        return 0
    headings, lines, legend = experiment_table(rows)
    print_table(lines, headings)
    err.print(legend)
    err.print(f"The table is in {settings.out / 'table.md'}.")
    return 0


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

    settings = parse(LabelSettings, _recipe_values(recipe, None, changes))
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
    from mining.label_store.settings import LabelSettings
    from tasks.labelling import clean_up, lock_job

    settings = parse(LabelSettings, _recipe_values(recipe, None, None))
    with lock_job(settings, sweeps=False):
        cleaned = clean_up(settings, keep, dry_run)
    found = cleaned.deleted
    if as_json:
        print_json([asdict(one) for one in found])
    for one in found:
        err.print(f"{one.path} ({one.why}, {one.size / 1e6:.1f} MB)")
    size = sum(one.size for one in found) / 1e6
    print_notes(cleaned.notes)
    err.print(f"{len(found)} {'would be' if dry_run else 'were'} deleted, {size:.1f} MB.")
    return 0


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
    from tasks.demo import demo_folder, generate_corpus

    with demo_folder(out):
        corpus = generate_corpus(out / "corpus", images=images, seed=seed)
        values = {
            "out": out / "run",
            "corpus": {"images": corpus / "images", "labels": corpus / "labels.csv"},
            "train": {"seed": seed},
            "truth": corpus / "truth.json",
        }
        return _run_recipe(parse(RunSettings, values), as_json=False, strict=strict)


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

    chosen = {"as_of": as_of, "corpus": corpus, "images": images}
    err.print(f"The report is {report_any(source, truth, out, chosen)}.")
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
    from tasks.comparing import comparison_rows

    values = {"first": first, "second": second, "truth": truth, "out": out}
    summary, page = run_flow(flow.compare, parse(CompareSettings, values))
    if as_json:
        print_json(summary)
    else:
        print_table(comparison_rows(summary), ("figure", "value", "meaning"))
    err.print(f"The page is {page}.")
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
        Take images without a box as negatives too.
    as_of
        Of a label store: a version's number, or a time such as 2026-01-31T12:00.
    corpus
        Of a label store with several: its name.
    images
        Of a label store: where the images lie here, if not where they were labelled.
    """
    from tasks.exporting import export_labels

    options = {"min_score": min_score, "copy": copy, "val_share": val_share, "include_empty": include_empty}
    options["val_truth"] = val_truth
    chosen = {"as_of": as_of, "corpus": corpus, "images": images}
    summary = export_labels(source, format, out, chosen, **options)
    if summary is None:
        err.print(f"The version is in {out}.")
        return 0
    print_notes(summary.notes)
    if not summary.boxes:
        err.print("Warning: no box was exported; a detector cannot be trained on this.")
    dropped = f" ({summary.dropped_by_score} below {min_score} left out)" if summary.dropped_by_score else ""
    err.print(f"{summary.boxes} boxes on {summary.images} images{dropped} are in {summary.out}.")
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
    from tasks.listing import status_of

    found, rows, headings, sentences = status_of(source)
    if as_json:
        print_json(found)
    else:
        print_table(rows, headings)
    for sentence in sentences:
        err.print(sentence)
    return 0


@app.command
def localizers() -> int:
    """List the localizers, one line each."""
    from tasks.listing import localizer_lines

    print("\n".join(localizer_lines()))
    return 0


@app.command
def backbones() -> int:
    """List the backbones, one line each."""
    from tasks.listing import backbone_lines

    print("\n".join(backbone_lines()))
    return 0


def main() -> None:
    """The console script."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run_command(sys.argv[1:]))


def run_command(tokens: list[str]) -> int:
    """Run one command line; gives its exit code, errors told in one sentence on stderr."""
    try:
        check_arguments(tokens)
        return app(_spread_lists(tokens), exit_on_error=False, print_error=False, result_action="return_value") or 0
    except CycloptsError as error:
        err.print(f"boxmine: {_usage_fault(error)} See `boxmine --help`.")
        return InputError.exit_code
    except BoxmineError as error:
        err.print(f"boxmine: {error}")
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        refusal = describe_os_error(error)
        err.print(f"boxmine: {refusal}")
        return refusal.exit_code
    except KeyboardInterrupt:
        err.print("boxmine: Stopped. What is finished is kept; give the same command again to carry on.")
        return RunStoppedError.exit_code


def _usage_fault(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError) and not isinstance(error, MissingArgumentError):
        kind = TrainSettings if "train" in (error.command_chain or ()) else MineSettings
        return format_validation_errors(kind, error.__cause__)
    return " ".join(str(error).split())


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt


def _spread_lists(tokens: list[str]) -> list[str]:
    """`--scales 1,1.5,2` as the parser wants it: the option once a value."""
    spread: list[str] = []
    rest = iter(tokens)
    for token in rest:
        name, _, value = token.partition("=")
        if name != "--scales":
            spread.append(token)
            continue
        parts = [part for part in (value or next(rest, "")).split(",") if part.strip()]
        spread += [text for part in parts for text in ("--scales", part.strip())] or ["--scales"]
    return spread


def _recipe_values(recipe: Path, out: Path | None, changes: list[str] | None) -> dict[str, Any]:
    values = read_recipe(recipe, dict(_key_value(change) for change in changes or []))
    return values if out is None else {**values, "out": str(out)}


def _key_value(change: str) -> tuple[str, str]:
    key, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"--set {change}: expected key=value, e.g. --set train.epochs=5.")
    return key, value


def _run_recipe(settings: RunSettings, *, as_json: bool, strict: bool) -> int:
    from flows import run as flow
    from flows.running import run_flow

    with ProgressView():
        summary, scores = run_flow(flow.run, settings)
    code = print_mine_summary(summary, as_json=False, strict=strict)
    if as_json:
        print_json({**asdict(summary), "scores": scores})
    elif scores is not None:
        print_scores(scores)
    err.print(f"The report is {summary.run / 'report' / 'index.html'}.")
    return code
