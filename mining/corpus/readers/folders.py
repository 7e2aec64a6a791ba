"""An image folder as its own listing: plain, or with one folder per class."""

from mining.corpus.names import class_name
from mining.corpus.readers.source import Source
from mining.corpus.spill import Listed, Spill
from mining.corpus.walk import ImageRoot, Walk
from mining.errors import CorpusError

SPLIT_FOLDERS = frozenset({"train", "val", "valid", "test"})


def read(root: ImageRoot, table: Spill, *, are_classes_wanted: bool) -> Source:
    """List every image below the root, with its folder as class where the images lie so.

    Class folders are ROOT/CLASS/... or ROOT/{train,val,valid,test}/CLASS/..., at least two, with no image above them.
    Raises CorpusError for a folder without images.
    """
    walk = Walk(root.real)
    table.add_disk(walk)
    tops, seconds = _folders(table)
    if not tops:
        raise CorpusError(" ".join([f"{root.given} holds no image (JPEG, PNG, WebP, BMP or TIFF).", *walk.notes()]))
    # a missing class name ('') means images that lie above the class folders
    is_split = all(top.lower() in SPLIT_FOLDERS for top in tops)
    classes = seconds if is_split else tops
    has_classes = are_classes_wanted and "" not in classes and len(classes) >= 2
    table.add_listed(_row(name, is_split, has_classes) for name in table.disk())
    return Source("classes" if has_classes else "folder", notes=_notes(is_split, tops, has_classes) + walk.notes())


def _folders(table: Spill) -> tuple[set[str], set[str]]:
    pairs = list(table.folders())
    return {class_name(top) for top, _ in pairs}, {class_name(second) for _, second in pairs}


def _row(name: str, is_split: bool, has_classes: bool) -> Listed:
    split, rest = name.split("/", 1) if is_split else (None, name)
    return Listed(name, [class_name(rest.split("/", 1)[0])] if has_classes else None, split)


def _notes(is_split: bool, tops: set[str], has_classes: bool) -> list[str]:
    notes = ["The class names are those of the folders; --labels none ignores them."] if has_classes else []
    if is_split:
        notes.append(f"The folders {', '.join(sorted(tops))} are taken as splits.")
    return notes
