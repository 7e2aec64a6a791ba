"""CUB list files: images.txt, image_class_labels.txt, classes.txt and, where there is one, train_test_split.txt."""

from collections.abc import Iterator
from pathlib import Path

from mining.corpus.formats.cub import IMAGES, SPLITS, CubLists, iter_entries
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.sqlite_index import CorpusIndex, ValuesById
from mining.errors import CorpusError

_SPLIT_OF = {"1": "train", "0": "test"}


def read(path: Path, root: ImageRoot, table: CorpusIndex) -> ListingInfo:
    """Take in the images with their class and split; names are below ROOT/images where they lie there, else ROOT.

    Raises CorpusError for a list that is missing, a line that is not 'id value', or lines none of whose classes is
    known.
    """
    lists = CubLists(path)
    labels, splits, seen = (table.relation(f"cub_{what}") for what in ("labels", "splits", "images"))
    labels.add(lists.labels(lists.classes()))
    if (path / SPLITS).is_file():
        splits.add(_split(path / SPLITS))
    if not table.add_listed(_images(lists, root, labels, splits, seen)):
        raise CorpusError(f"{path / IMAGES} lists no image; expected lines such as '1 001.Laysan/photo.jpg'.")
    return ListingInfo("cub", path, notes=lists.left_out.notes())


def _split(path: Path) -> Iterator[tuple[str, str]]:
    for identity, is_training in iter_entries(path):
        if is_training not in _SPLIT_OF:
            raise CorpusError(f"{path}: image {identity} has {is_training!r}, expected 1 (train) or 0 (test).")
        yield identity, _SPLIT_OF[is_training]


def _images(
    lists: CubLists, root: ImageRoot, labels: ValuesById, splits: ValuesById, seen: ValuesById
) -> Iterator[ListedImage]:
    prefix: str | None = None
    for identity, name in lists.images():
        if earlier := seen.of(identity):
            raise CorpusError(
                f"{lists.folder / IMAGES}: image id {identity} stands twice, for {earlier[0]!r} and {name!r}."
            )
        seen.add([(identity, name)])
        if prefix is None:
            prefix = "images/" if not root.find(name) and root.find(f"images/{name}") else ""
        split = splits.of(identity)
        yield ListedImage(prefix + name, labels.of(identity) or None, split[0] if split else None)
