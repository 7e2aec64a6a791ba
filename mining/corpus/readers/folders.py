"""The image folder as its own listing: without labels, or with one folder per class."""

from collections import Counter

from mining.corpus.file_walker import FileWalker
from mining.corpus.image_root import ImageRoot
from mining.corpus.images.image_formats import SUPPORTED_FORMATS
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.names import normalise_class_names
from mining.corpus.readers.layout import DEPTH, Folder, FolderLayout, infer_layout
from mining.corpus.splits import match_split
from mining.corpus.sqlite_index import CorpusIndex
from mining.corpus.summary import format_count
from mining.errors import CorpusError


def read(root: ImageRoot, index: CorpusIndex, *, are_classes_wanted: bool, split: str | None = None) -> ListingInfo:
    """List every image below the root, with the class and split that its folders are named after (see `infer_layout`).

    Args:
        root: The folder of the images.
        index: Where the images go.
        are_classes_wanted: Use folder names as classes.
        split: The split that will be used.

    Raises:
        CorpusError: There is no image in the folder.
    """
    walker = FileWalker(root.real)
    index.add_disk(walker)
    counts = Counter(map(_folder, index.disk()))
    if not counts:
        raise CorpusError(" ".join([f"{root.given} contains no image ({SUPPORTED_FORMATS}).", *walker.notes()]))
    layout = infer_layout(counts, split)
    if split is not None and layout.split_level is not None:
        known = {name for folder in counts if (name := layout.split_of(folder))}
        layout = infer_layout(counts, match_split(split, known))
    if not are_classes_wanted:
        layout.class_level = None
    has_classes = layout.class_level is not None
    notes = _notes_on_unlabelled(layout, index) if has_classes else []
    index.add_listed(row for name in index.disk() if (row := _row(name, layout)) is not None)
    return ListingInfo("classes" if has_classes else "folder", notes=[*notes, *layout.notes, *walker.notes()])


def _notes_on_unlabelled(layout: FolderLayout, index: CorpusIndex) -> list[str]:
    notes = []
    for folder, count in sorted(layout.unlabelled.items()):
        first = next(name for name in index.disk() if _folder(name) == folder)
        pronoun = "it" if count == 1 else "them"
        notes.append(
            f"{format_count(count, 'image')} without labels, because no class folder contains {pronoun}, "
            f"first {first!r}."
        )
    return notes


def _folder(name: str) -> Folder:
    return tuple(name.split("/", DEPTH)[:-1])


def _row(name: str, layout: FolderLayout) -> ListedImage | None:
    folder = _folder(name)
    if layout.is_left_out(folder):
        return None
    label = layout.class_of(folder)
    return ListedImage(name, None if label is None else normalise_class_names([label]), layout.split_of(folder))
