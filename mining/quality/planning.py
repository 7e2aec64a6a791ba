"""Draw the boxes and images of a plan, record the plan in the run, and write its CSV file."""

import os
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import numpy as np
import pyarrow as pa

from mining.arrays import Floats
from mining.config.audit import VERDICTS, AuditPlanSettings
from mining.errors import InputError
from mining.quality.applying import CurrentVerdicts
from mining.quality.audit import estimate_audit
from mining.quality.audited_run import box_columns, boxes_by_id
from mining.quality.estimates import verdicts_for
from mining.quality.image_planning import draw_whole_images
from mining.quality.judgements import Drawn, ImageJudgement, Judgement
from mining.quality.plan_rows import FIRST_LINE, DrawPictures
from mining.quality.plans import KnownVerdicts, PlanRow, plan_rows, write_plan
from mining.quality.sampling import draw_boxes, stratify
from mining.quality.table import read_quality
from mining.quality.verdicts import VerdictStore, open_verdicts
from mining.runs.run import CALIBRATION_FILE, Run
from mining.storage.provenance import utc_now

_ENOUGH_TO_EXPECT = 30  # verdicts from which on the share so far says how many are needed


@dataclass(frozen=True)
class PlanSummary:
    """What a plan asks for.

    Attributes:
        plan: Its name.
        out: The CSV file, None if none was written.
        random: Number of boxes drawn at random.
        suspicious: Number of doubtful boxes.
        drawn_before: Number of boxes that earlier plans drew at random.
        boxes: Number of boxes of the run.
        images: Number of images to be looked at whole.
        images_before: Number of images that earlier plans drew.
        of_images: Number of images of the run.
        filled_in: Number of its boxes whose verdict is known already, and filled in.
        pictures: Number of pictures that were drawn, None if none were asked for.
    """

    plan: str
    out: Path | None
    random: int
    suspicious: int
    drawn_before: int
    boxes: int
    images: int
    images_before: int
    of_images: int
    filled_in: int
    pictures: int | None = None


def plan_audit(settings: AuditPlanSettings, draw_pictures: DrawPictures | None = None) -> PlanSummary:
    """Draw boxes and images of a finished run, record the plan in the run and write its CSV.

    Args:
        settings: The run, how many boxes and images, and the file.
        draw_pictures: Draws the pictures, if the settings name a folder for them.

    Raises:
        InputError: There is nothing to draw.
        RunError: The run is not finished.
    """
    run = Run.open(settings.run, finished=True)
    if settings.out is not None and settings.out.exists():
        raise InputError(f"{settings.out} exists, and may have verdicts in it: give another --out.")
    table = run.read_annotations(["annotation_id", "file_name", "category", "category_id", "x", "y", "w", "h", "score"])
    random = np.random.default_rng(settings.seed)
    with open_verdicts(run.path) as store:
        before = np.array(store.drawn_at_random(), np.int64)
        drawn = _draw_boxes(settings, run, table, store, random) if settings.draws_boxes else []
        images_before, of_images, images = draw_whole_images(run, table, store, settings.images_wanted, random)
        plan = token_hex(4)
        ids = [*(one.annotation_id for one in drawn), *(number for _, some in images for number in some)]
        known = _known_verdicts(run, ids)
        pictures = None
        if settings.out is not None:
            rows = plan_rows(plan, drawn, boxes_by_id(table, ids), images, known)
            pictures = _pictures(run, settings.pictures, settings.out, rows, draw_pictures)
            write_plan(settings.out, rows, pictures)
        store.add_plan(plan, utc_now(), drawn, settings.precision_within, [image for image, _ in images])
    count = sum(one.why == "random" for one in drawn)
    return PlanSummary(
        plan,
        settings.out,
        count,
        len(drawn) - count,
        len(before),
        table.num_rows,
        len(images),
        images_before,
        of_images,
        len(known.boxes),
        None if pictures is None else len(pictures),
    )


def _pictures(
    run: Run, pictures: Path | None, out: Path, rows: list[PlanRow], draw_pictures: DrawPictures | None
) -> dict[int, str] | None:
    """Draw the pictures of a plan; their paths by line, relative to the plan's folder."""
    if pictures is None or draw_pictures is None:
        return None
    wanted = [one for line, row in enumerate(rows, start=FIRST_LINE) if (one := row.picture(line)) is not None]
    drawn = draw_pictures(run, pictures, wanted)
    folder = Path(os.path.relpath(pictures, out.parent)).as_posix()
    return {one.line: f"{folder}/{one.name}" for one in wanted if one.line in drawn}


def _known_verdicts(run: Run, ids: list[int]) -> KnownVerdicts:
    """What was said before of boxes and images of a plan, the last word on each."""
    current, wanted = CurrentVerdicts.read(run), set(ids)
    boxes = {one.annotation_id: one for one in sorted(current.boxes, key=_time) if one.annotation_id in wanted}
    return KnownVerdicts(boxes, {one.file_name: one for one in sorted(current.images, key=_time)})


def _time(judgement: Judgement | ImageJudgement) -> str:
    return judgement.time


def _draw_boxes(
    settings: AuditPlanSettings, run: Run, table: pa.Table, store: VerdictStore, random: np.random.Generator
) -> list[Drawn]:
    """Draw boxes at random, and list the doubtful ones if they are wanted."""
    if not table.num_rows:
        raise InputError(f"The run {run.path} has no box to judge.")
    before = np.array(store.drawn_at_random(), np.int64)
    ids, category, score = box_columns(table)
    left = np.flatnonzero(~np.isin(ids, before))
    count = min(_draws_wanted(settings, run.path, len(ids), len(before)), len(left))
    if count <= 0:
        raise InputError(
            f"The {len(before)} boxes of {run.path} that were drawn so far are enough, or all there are: record "
            "the verdicts on them (`boxmine audit record`)."
        )
    places = left[draw_boxes(stratify(category[left], score[left], count), count, random)]
    share = (len(before) + count) / len(ids)
    drawn = [Drawn(int(ids[place]), "random", share) for place in places]
    if settings.suspicious:
        shown = {*before.tolist(), *(one.annotation_id for one in drawn), *store.shown_as_suspicious()}
        order = np.argsort(trust_in_boxes(run, score), kind="stable")
        doubtful = [int(one) for one in ids[order] if int(one) not in shown]
        drawn += [Drawn(one, "suspicious") for one in doubtful[:count]]
    return drawn


def _draws_wanted(settings: AuditPlanSettings, run_dir: Path, boxes: int, before: int) -> int:
    """How many boxes this plan is to draw, after those that earlier ones drew."""
    if settings.precision_within is None:
        return settings.verdicts or VERDICTS
    so_far = estimate_audit(run_dir).precision
    if so_far is None or so_far.verdicts < _ENOUGH_TO_EXPECT:
        return verdicts_for(settings.precision_within, boxes) - before
    # the interval narrows with the root of the number, but for the finite population
    now = (1 / so_far.verdicts - 1 / so_far.boxes) * (settings.precision_within / max(so_far.half_width, 1e-9)) ** 2
    return int(np.ceil(1 / (now + 1 / so_far.boxes))) - before


def trust_in_boxes(run: Run, score: Floats) -> Floats:
    """Return the calibrated probability that each box is correct; its score where the run has no calibration.

    Args:
        run: A finished run.
        score: (n,) scores, in the order of annotations.parquet.
    """
    if not (run.path / CALIBRATION_FILE).is_file():
        return score
    probability = read_quality(run)["p_correct"].to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isfinite(probability), probability, score)
