"""The gallery of a report: which pictures it shows, and by what they can be filtered."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from mining.corpus.schema import LABELLED, STATES
from mining.models.card import read_card
from mining.quality.judgements import VERDICTS, Judgement
from mining.reporting.corpus_counts import CorpusCounts, UnboxedImage
from mining.reporting.ground_truth_index import GroundTruthIndex
from mining.reporting.sample_selection import KINDS, Pair, find_pairs, select_pairs
from mining.reporting.statistics import RunStatistics
from mining.reporting.thumbnails import Painter, Tile
from mining.runs.run import Run
from mining.storage.parquet import iter_batches

MAX_TILES = 90  # of the best, doubtful, worst and missed
MAX_JUDGED = 4  # further pictures per verdict
MAX_UNBOXED = 6  # images without a box per state
KINDS_PER_CLASS = 3
EVEN = 0.5  # class probability that imported boxes are compared with
JUDGED, NOT_JUDGED = "judged", "not_judged"
ProgressCallback = Callable[[int, int], None]
Option = tuple[str, str, int]
"""Value, text and number of pictures of a choice in a filter."""


@dataclass(frozen=True)
class Picture:
    """A picture, and what the filters choose it by.

    Attributes:
        tile: The picture.
        classes: Class of its boxes; of an image without a box, the classes that are listed for it.
        state: State of the image in corpus.parquet.
        verdicts: What people said of its boxes; NOT_JUDGED where nobody said anything, none without a box.
        caption: What it shows.
    """

    tile: Tile
    classes: tuple[str, ...]
    state: str
    verdicts: tuple[str, ...]
    caption: str

    @property
    def score(self) -> float | None:
        """The highest score of its boxes, None without one."""
        rows = self.tile.pair.rows
        return rows[0].score if rows else None


@dataclass(frozen=True)
class Group:
    """Pictures under one heading; `boxes` counts the boxes of the class in the run, None for images without a box."""

    name: str
    boxes: int | None
    pictures: list[Picture]


@dataclass(frozen=True)
class Gallery:
    """All pictures of a page.

    Attributes:
        groups: One per class, and one of images without a box.
        classes: Number of classes of which the best, doubtful and worst are shown.
        classes_known: Number of classes of which they could be.
        per_class: Most pictures of each kind per class.
        judged_boxes: Number of boxes of the run that people judged.
        is_ranked_by_truth: Whether pairs are ranked by IoU.
        skipped: Reasons why pictures could not be drawn.
        no_maps: Why activation maps cannot be drawn; empty where they can.
    """

    groups: list[Group]
    classes: int
    classes_known: int
    per_class: int
    judged_boxes: int
    is_ranked_by_truth: bool
    skipped: list[str]
    no_maps: str

    @property
    def pictures(self) -> list[Picture]:
        """All pictures, in the order of the page."""
        return [picture for group in self.groups for picture in group.pictures]

    @property
    def class_options(self) -> list[Option]:
        """The classes, in the order of the page."""
        counts = Counter(chain.from_iterable(picture.classes for picture in self.pictures))
        return [(name, name, number) for name, number in counts.items()]

    @property
    def state_options(self) -> list[Option]:
        """The states of the images, most frequent outcome first."""
        counts = Counter(picture.state for picture in self.pictures)
        return [(name, describe_state(name), counts[name]) for name in STATES if counts[name]]

    @property
    def verdict_options(self) -> list[Option]:
        """The verdicts, and NOT_JUDGED; none if nobody judged a box of the pictures."""
        counts = Counter(chain.from_iterable(picture.verdicts for picture in self.pictures))
        names = [name for name in (*VERDICTS, NOT_JUDGED) if counts[name]]
        return [] if names == [NOT_JUDGED] else [(name, name.replace("_", " "), counts[name]) for name in names]

    @property
    def kind_options(self) -> list[Option]:
        """Why pictures were chosen; of images without a box the state says it."""
        counts = Counter(picture.tile.kind for picture in self.pictures)
        return [(name, name, counts[name]) for name in (*KINDS, JUDGED) if counts[name]]


def describe_state(state: str) -> str:
    """Return a state of an image in words."""
    return "with a box" if state == LABELLED else state.replace("_", " ")


def build_gallery(
    run: Run,
    statistics: RunStatistics,
    counts: CorpusCounts,
    truth: GroundTruthIndex | None,
    judgements: Sequence[Judgement],
    *,
    per_class: int,
    max_classes: int,
    progress: ProgressCallback,
) -> Gallery:
    """Select the pictures and draw them.

    Args:
        run: A finished run.
        statistics: Counts over its boxes.
        counts: Counts over its images, with those without a box that are shown.
        truth: Ground truth whose boxes are drawn.
        judgements: The verdicts on its boxes.
        per_class: Pictures of each kind per class; fewer where there would be more than MAX_TILES.
        max_classes: Classes whose best, doubtful and worst are shown, those with the most boxes.
        progress: Called with the number of pictures drawn so far and their total.
    """
    usable = truth if truth is not None and len(truth) else None
    classes = _classes_to_show(run, statistics, usable)
    shown = classes[: max(1, min(max_classes, MAX_TILES // KINDS_PER_CLASS))]
    each = max(1, min(per_class, MAX_TILES // (KINDS_PER_CLASS * max(1, len(shown)))))
    cut = run.record["used"].get("class_cut", EVEN)
    pairs = select_pairs(run.annotations, shown, usable, per_class=each, class_cut=cut)
    verdicts = _verdicts_by_box(judgements)
    for pair in find_pairs(run.annotations, _judged_keys(judgements, pairs), usable):
        if pair.rows:
            pairs.setdefault(pair.category, []).append((JUDGED, pair))
    taken = {pair.file_name for of_class in pairs.values() for _, pair in of_class if not pair.rows}
    without = [image for image in _unboxed(counts) if image.file_name not in taken]
    guesses = _most_probable(run, [image.image_id for image in without if not image.labels])
    unboxed = [_pair_of(image, guesses.get(image.image_id, ""), usable) for image in without]
    groups = [(name, statistics.per_class[name], of_class) for name, of_class in pairs.items()]
    drawn = [*groups, *([("Images without a box", None, unboxed)] if unboxed else [])]
    painter = Painter(run, {pair.file_name for *_, of_group in drawn for _, pair in of_group})
    return Gallery(
        _draw(painter, drawn, verdicts, progress), len(shown), len(classes), each, len(verdicts), usable is not None,
        painter.skipped, painter.no_maps,
    )  # fmt: skip


def _classes_to_show(run: Run, statistics: RunStatistics, truth: GroundTruthIndex | None) -> list[str]:
    """Classes with most boxes first, then the model's classes that the ground truth has and the run never boxed."""
    boxed = [name for name, _ in statistics.classes()]
    if truth is None:
        return boxed
    never_boxed = set(read_card(run.model).class_names) - set(boxed)
    return boxed + [name for name in truth.classes() if name in never_boxed]


def _verdicts_by_box(judgements: Iterable[Judgement]) -> dict[int, tuple[str, ...]]:
    found: dict[int, dict[str, None]] = {}
    for one in judgements:
        found.setdefault(one.annotation_id, {})[one.verdict] = None
    return {box: tuple(verdicts) for box, verdicts in found.items()}


def _judged_keys(judgements: Iterable[Judgement], pairs: Mapping[str, list[tuple[str, Pair]]]) -> list[tuple[str, str]]:
    """File name and class of up to MAX_JUDGED further pairs per verdict."""
    taken = {(pair.file_name, name) for name, of_class in pairs.items() for _, pair in of_class}
    keys: dict[tuple[str, str], None] = {}
    left = Counter(dict.fromkeys(VERDICTS, MAX_JUDGED))
    for one in judgements:
        key = one.file_name, one.category
        if left[one.verdict] > 0 and key not in taken and key not in keys:
            left[one.verdict] -= 1
            keys[key] = None
    return sorted(keys)


def _unboxed(counts: CorpusCounts) -> list[UnboxedImage]:
    return [image for of_state in counts.unboxed.values() for image in of_state[:MAX_UNBOXED]]


def _most_probable(run: Run, images: list[int]) -> dict[int, str]:
    """The class that the classifier ranks first, by image_id; none for a run without rankings."""
    if not images or not run.rankings.is_file():
        return {}
    names, selected, found = dict(run.classes), pa.array(images, pa.int64()), {}
    for batch in iter_batches(run.rankings, ["image_id", "category_ids"]):
        for row in batch.filter(pc.is_in(batch["image_id"], value_set=selected)).to_pylist():
            if row["category_ids"]:
                found[row["image_id"]] = names.get(row["category_ids"][0], "")
    return found


def _pair_of(image: UnboxedImage, guess: str, truth: GroundTruthIndex | None) -> tuple[str, Pair]:
    """The pair whose map is drawn: of its first class, or of the most probable one."""
    category = image.labels[0] if image.labels else guess
    true = truth.boxes(image.file_name, category) if truth is not None and image.labels else None
    return describe_state(image.state), Pair(image.file_name, category, (), true, None)


def _draw(
    painter: Painter,
    groups: list[tuple[str, int | None, list[tuple[str, Pair]]]],
    verdicts: Mapping[int, tuple[str, ...]],
    progress: ProgressCallback,
) -> list[Group]:
    total, done = sum(len(of_group) for *_, of_group in groups), 0
    progress(0, total)
    drawn = []
    for name, boxes, of_group in groups:
        pictures: list[Picture] = []
        for kind, pair in of_group:
            pictures += [_picture(painter, tile, verdicts) for tile in painter.tiles([(kind, pair)])]
            done += 1
            progress(done, total)
        drawn.append(Group(name, boxes, pictures))
    return drawn


def _picture(painter: Painter, tile: Tile, verdicts: Mapping[int, tuple[str, ...]]) -> Picture:
    pair, recorded = tile.pair, painter.recorded[tile.pair.file_name]
    if not pair.rows and recorded.state != LABELLED:
        labels = None if recorded.labels is None else tuple(recorded.labels)
        return Picture(tile, labels or (), recorded.state, (), _describe_unboxed(labels, tile))
    said = dict.fromkeys(chain.from_iterable(verdicts.get(row.annotation_id, ()) for row in pair.rows))
    judged = tuple(said) or ((NOT_JUDGED,) if pair.rows else ())
    return Picture(tile, (pair.category,), recorded.state, judged, tile.verdict)


def _describe_unboxed(labels: tuple[str, ...] | None, tile: Tile) -> str:
    category = tile.pair.category if tile.heat is not None else ""
    if labels:
        of_map = f"; map of {category}" if category and len(labels) > 1 else ""
        return f"listed: {', '.join(labels)}{of_map}"
    of_map = f"; map of {category}, the most probable" if category else ""
    return f"{'classes not known' if labels is None else 'no class listed'}{of_map}"
