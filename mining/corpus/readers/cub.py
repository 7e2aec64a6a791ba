"""CUB list files: images.txt, image_class_labels.txt, classes.txt and, where there is one, train_test_split.txt."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mining.corpus.names import checked_name
from mining.corpus.readers.source import Source, readable
from mining.corpus.spill import Listed, Relation, Spill
from mining.corpus.walk import ImageRoot
from mining.errors import CorpusError
from mining.untrusted import input_lines

IMAGES, LABELS, CLASSES, _SPLITS = "images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt"
_SPLIT_OF = {"1": "train", "0": "test"}


def is_at(folder: Path) -> bool:
    """Whether the folder holds the list of images."""
    return (folder / IMAGES).is_file()


def read(path: Path, root: ImageRoot, table: Spill) -> Source:
    """Take in the images with their class and split; names are below ROOT/images where they lie there, else ROOT.

    Raises CorpusError for a list that is missing, a line that is not 'id value', or an unknown class.
    """
    labels, splits, seen = (table.relation(f"cub_{what}") for what in ("labels", "splits", "images"))
    classes = dict(lines(path / CLASSES))
    labels.add(_labelled(path / LABELS, classes))
    if (path / _SPLITS).is_file():
        splits.add(_split(path / _SPLITS))
    if not table.add_listed(_images(path / IMAGES, root, labels, splits, seen)):
        raise CorpusError(f"{path / IMAGES} lists no image; expected lines such as '1 001.Laysan/photo.jpg'.")
    return Source("cub", path)


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line's id and what follows it; raises CorpusError for a line that has one of them only."""
    with readable(path), closing(input_lines(path)) as text:
        for number, line in enumerate(text, start=1):
            identity, _, value = line.strip().partition(" ")
            if identity and not value.strip():
                raise CorpusError(f"{path}, line {number}: expected an id, a space and a value, found {line!r:.80}.")
            if identity:
                yield identity, value.strip()


def _labelled(path: Path, classes: dict[str, str]) -> Iterator[tuple[str, str]]:
    for identity, label in lines(path):
        if label not in classes:
            raise CorpusError(f"{path}: image {identity} has class {label!r}, which {CLASSES} does not list.")
        yield identity, classes[label]


def _split(path: Path) -> Iterator[tuple[str, str]]:
    for identity, is_training in lines(path):
        if is_training not in _SPLIT_OF:
            raise CorpusError(f"{path}: image {identity} has {is_training!r}, expected 1 (train) or 0 (test).")
        yield identity, _SPLIT_OF[is_training]


def _images(path: Path, root: ImageRoot, labels: Relation, splits: Relation, seen: Relation) -> Iterator[Listed]:
    prefix: str | None = None
    for identity, written in lines(path):
        name = checked_name(written, f"{path.name}, image {identity}")
        if earlier := seen.of(identity):
            raise CorpusError(f"{path}: image id {identity} stands twice, for {earlier[0]!r} and {name!r}.")
        seen.add([(identity, name)])
        if prefix is None:
            prefix = "images/" if not root.find(name) and root.find(f"images/{name}") else ""
        split = splits.of(identity)
        yield Listed(prefix + name, labels.of(identity) or None, split[0] if split else None)
