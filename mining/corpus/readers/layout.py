"""What the folders above the images mean: classes, splits, a wrapper around everything, masks beside the images."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from mining.corpus.splits import canonical_split
from mining.corpus.summary import format_count

Folder = tuple[str, ...]
DEPTH = 6  # levels of folders that are looked at
_IMAGES = {"images", "image", "imgs", "img", "jpegimages", "jpegs", "photos", "pictures", "pics", "rgb"}
_ANNOTATIONS = {
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "segmentation", "segmentations",
    "segmentationclass", "segmentationobject", "ground_truth", "groundtruth", "gt", "trimaps", "depth", "depths",
    "thumbnails", "thumbs",
}  # fmt: skip


@dataclass
class FolderLayout:
    """Which level of folders names the split and which the class, counted from 0; None where none does.

    left_out: folders whose images are annotations. unlabelled: folders above those of the classes, and the number of
    images in them. notes: sentences for a person.
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
        """Their class, as the folder is written."""
        return _at(folder, self.class_level)

    def is_left_out(self, folder: Folder) -> bool:
        """Whether they are annotations."""
        return any(folder[: len(one)] == one for one in self.left_out)


def _at(folder: Folder, level: int | None) -> str | None:
    return folder[level] if level is not None and level < len(folder) else None


def infer_layout(counts: Mapping[Folder, int], split: str | None) -> FolderLayout:
    """Read the folders from the top.

    counts: images that lie in each folder itself. split: what is asked for; labels of other splits do not matter.

    A level is one of splits where its folders have names of splits, or each the same sub-folders. A single folder with
    folders in it is a wrapper. What is neither is a level of classes, where at least two are found and no more images
    lie above them than in them; below it a level of splits may follow (CLASS/train/...). Beside a folder such as
    `images`, one such as `masks` holds annotations.
    """
    layout, level = FolderLayout(), 0
    counts = dict(counts)
    while True:
        counts = _without_annotations(layout, counts, level)
        names = _names(counts, level)
        below = {name: _names(_in(counts, level, name), level + 1) for name in names}
        why = _why_splits(counts, level, below) if layout.split_level is None else None
        if why is not None:
            layout.split_level = level
            layout.notes.append(f"The folders {_listed(names)} are taken as splits{why}.")
        elif not (len(names) == 1 and any(below.values())):
            break
        level += 1
    if len(names) < 2:
        return layout
    counts = _without_annotations(layout, counts, level + 1)
    if layout.split_level is None and _splits_follow(counts, level):
        layout.split_level = level + 1
        layout.notes.append(
            f"The folders {_listed(_names(counts, level + 1))} in the class folders are taken as splits."
        )
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
        images = next(one for one, word in sorted(names.items()) if word in _IMAGES)
        layout.notes.append(
            f"{format_count(count, 'image')} left out, because a folder {name} beside {images} is taken for "
            "annotations; rename it to include them."
        )
    return kept


def _why_splits(counts: Mapping[Folder, int], level: int, below: Mapping[str, set[str]]) -> str | None:
    """Why the folders of a level are splits, as the end of a sentence; None where they are not."""
    parts = {canonical_split(name) for name in below}
    if below and None not in parts:
        return ""
    if len(parts - {None}) >= 2:
        return ", since some have names of splits"
    first = next(iter(below.values()), set())
    are_same = len(below) >= 2 and len(first) >= 2 and all(one == other for one, other in pairwise(below.values()))
    has_images = any(len(folder) == level + 1 for folder in counts)
    words = {name.casefold() for name in first}
    if are_same and not has_images and not words <= _IMAGES | _ANNOTATIONS and not all(map(canonical_split, first)):
        return ", because each has the same sub-folders"
    return None


def _splits_follow(counts: Mapping[Folder, int], level: int) -> bool:
    """Whether each class folder holds nothing but folders of splits."""
    names = _names(counts, level + 1)
    return bool(names) and all(map(canonical_split, names)) and not any(len(folder) == level + 1 for folder in counts)


def _take_classes(layout: FolderLayout, counts: Mapping[Folder, int], level: int, split: str | None) -> None:
    """Make the level one of classes, and say which images have none."""
    asked = {folder: n for folder, n in counts.items() if split is None or layout.split_of(folder) == split}
    above: defaultdict[Folder, int] = defaultdict(int)
    inside: defaultdict[Folder, int] = defaultdict(int)
    for folder, count in asked.items():
        (inside if len(folder) > level else above)[folder[:level]] += count
    flat = {folder: count for folder, count in above.items() if folder not in inside}
    stray = sum(above.values()) - sum(flat.values())
    if stray > sum(inside.values()):
        layout.notes.append(
            f"No labels are taken from the folders {_listed(_names(counts, level))}, because more images lie above "
            f"them ({stray}) than in them ({sum(inside.values())}). Move these into class folders, or give --labels."
        )
        return
    layout.class_level, layout.unlabelled = level, dict(above)
    if level and not (level == 1 and layout.split_level == 0):
        wrappers = sorted({"/".join(folder) for folder in inside})
        layout.notes.append(f"The class folders were found in {_listed(wrappers)}.")


def _listed(names: Iterable[str], limit: int = 12) -> str:
    known = sorted(names)
    return ", ".join(known[:limit]) + (f", ... ({len(known)} in all)" if len(known) > limit else "")
