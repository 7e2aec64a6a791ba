"""Infer what the folders of a dataset mean: splits, classes, one wrapper around everything, masks beside images."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from mining.corpus.splits import canonical_split
from mining.corpus.summary import format_count

Folder = tuple[str, ...]
DEPTH = 6  # levels of folders that are considered
_IMAGES = {"images", "image", "imgs", "img", "jpegimages", "jpegs", "photos", "pictures", "pics", "rgb"}
_ANNOTATIONS = {
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "segmentation", "segmentations",
    "segmentationclass", "segmentationobject", "ground_truth", "groundtruth", "gt", "trimaps", "depth", "depths",
    "thumbnails", "thumbs",
}  # fmt: skip


@dataclass
class FolderLayout:
    """Which levels of folders name the split and the class.

    Attributes:
        split_level: Level whose folders are splits, counted from 0; None if there is none.
        class_level: Level whose folders are classes; None if there is none.
        left_out: Folders whose images are annotations, such as masks.
        unlabelled: Number of images in each folder above the class folders.
        notes: Sentences for the user on what was inferred.
    """

    split_level: int | None = None
    class_level: int | None = None
    left_out: set[Folder] = field(default_factory=set)
    unlabelled: dict[Folder, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def split_of(self, folder: Folder) -> str | None:
        """The split of the images in a folder."""
        return _at(folder, self.split_level)

    def class_of(self, folder: Folder) -> str | None:
        """The class of the images in a folder, as the folder is written."""
        return _at(folder, self.class_level)

    def is_left_out(self, folder: Folder) -> bool:
        """Whether the images in a folder are annotations."""
        return any(folder[: len(excluded)] == excluded for excluded in self.left_out)


def _at(folder: Folder, level: int | None) -> str | None:
    return folder[level] if level is not None and level < len(folder) else None


def infer_layout(counts: Mapping[Folder, int], split: str | None) -> FolderLayout:
    """Infer the layout of a dataset from the top folder down.

    A level contains splits if its folders have names of splits, or if all of them have the same sub-folders. A single
    folder that contains folders is a wrapper. Any other level contains classes, if it has at least two folders and no
    more images lie above them than in them; a level of splits may follow (CLASS/train/...). A folder such as `masks`
    beside one such as `images` contains annotations.

    Args:
        counts: Number of images directly in each folder.
        split: The split that will be used; the folders of other splits need no classes.
    """
    layout, level = FolderLayout(), 0
    counts = dict(counts)
    while True:
        counts = _without_annotations(layout, counts, level)
        names = _names(counts, level)
        below = {name: _names(_in(counts, level, name), level + 1) for name in names}
        reason = _why_splits(counts, level, below) if layout.split_level is None else None
        if reason is not None:
            layout.split_level = level
            layout.notes.append(f"The folders {_join(names)} are taken as splits{reason}.")
        elif not (len(names) == 1 and any(below.values())):
            break
        level += 1
    if len(names) < 2:
        return layout
    counts = _without_annotations(layout, counts, level + 1)
    if layout.split_level is None and _splits_follow(counts, level):
        layout.split_level = level + 1
        layout.notes.append(f"The folders {_join(_names(counts, level + 1))} in the class folders are taken as splits.")
    _take_classes(layout, counts, level, split)
    return layout


def _names(counts: Iterable[Folder], level: int) -> set[str]:
    return {folder[level] for folder in counts if len(folder) > level}


def _in(counts: Mapping[Folder, int], level: int, name: str) -> dict[Folder, int]:
    return {folder: count for folder, count in counts.items() if len(folder) > level and folder[level] == name}


def _without_annotations(layout: FolderLayout, counts: dict[Folder, int], level: int) -> dict[Folder, int]:
    kept, masks = dict(counts), Counter[str]()
    names = {name: name.casefold().replace(" ", "_") for name in _names(counts, level)}
    is_layout = names and all(word in _IMAGES | _ANNOTATIONS for word in names.values())
    if not (is_layout and any(word in _IMAGES for word in names.values())):
        return kept
    for folder, count in counts.items():
        if len(folder) > level and names[folder[level]] in _ANNOTATIONS:
            layout.left_out.add(folder[: level + 1])
            masks[folder[level]] += count
            del kept[folder]
    for name, count in sorted(masks.items()):
        images = next(folder for folder, word in sorted(names.items()) if word in _IMAGES)
        layout.notes.append(
            f"{format_count(count, 'image')} not used, because the folder {name} beside {images} is assumed to "
            "contain annotations. Rename it to use them."
        )
    return kept


def _why_splits(counts: Mapping[Folder, int], level: int, below: Mapping[str, set[str]]) -> str | None:
    """Why the folders of a level are splits, as the end of a sentence; None if they are not."""
    parts = {canonical_split(name) for name in below}
    if below and None not in parts:
        return ""
    if len(parts - {None}) >= 2:
        return ", because some have names of splits"
    folders = next(iter(below.values()), set())
    are_same = (
        len(below) >= 2 and len(folders) >= 2 and all(first == second for first, second in pairwise(below.values()))
    )
    has_images = any(len(folder) == level + 1 for folder in counts)
    words = {name.casefold() for name in folders}
    if are_same and not has_images and not words <= _IMAGES | _ANNOTATIONS and not all(map(canonical_split, folders)):
        return ", because each has the same sub-folders"
    return None


def _splits_follow(counts: Mapping[Folder, int], level: int) -> bool:
    """Whether each class folder contains only folders that are splits."""
    names = _names(counts, level + 1)
    return bool(names) and all(map(canonical_split, names)) and not any(len(folder) == level + 1 for folder in counts)


def _take_classes(layout: FolderLayout, counts: Mapping[Folder, int], level: int, split: str | None) -> None:
    """Use the level as classes, and record the images that have none."""
    asked = {folder: n for folder, n in counts.items() if split is None or layout.split_of(folder) == split}
    above: defaultdict[Folder, int] = defaultdict(int)
    inside: defaultdict[Folder, int] = defaultdict(int)
    for folder, count in asked.items():
        (inside if len(folder) > level else above)[folder[:level]] += count
    flat = {folder: count for folder, count in above.items() if folder not in inside}
    stray = sum(above.values()) - sum(flat.values())
    if stray > sum(inside.values()):
        layout.notes.append(
            f"The folders {_join(_names(counts, level))} are not taken as classes, because more images lie above "
            f"them ({stray}) than in them ({sum(inside.values())}). Move the images into class folders, or give "
            "--labels."
        )
        return
    layout.class_level, layout.unlabelled = level, dict(above)
    if level and not (level == 1 and layout.split_level == 0):
        wrappers = sorted({"/".join(folder) for folder in inside})
        layout.notes.append(f"The class folders were found in {_join(wrappers)}.")


def _join(names: Iterable[str], limit: int = 12) -> str:
    known = sorted(names)
    return ", ".join(known[:limit]) + (f", ... ({len(known)} in all)" if len(known) > limit else "")
