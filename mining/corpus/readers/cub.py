"""Image-level labels from CUB list files: images.txt, image_class_labels.txt, classes.txt, train_test_split.txt."""

from collections.abc import Iterator
from pathlib import Path

from mining.corpus.formats.cub import IMAGES, SPLITS, CubLists, iter_entries
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.sqlite_index import CorpusIndex, ValuesById
from mining.errors import CorpusError

_SPLIT_OF = {"1": "train", "0": "test"}


def read(path: Path, root: ImageRoot, index: CorpusIndex) -> ListingInfo:
    """Read the images with their class and, if train_test_split.txt exists, their split.

    Names are relative to ROOT/images if the first image is there but not below ROOT itself.

    Raises:
        CorpusError: A list is missing, a line is not 'id value', an image id is repeated, or no class is known.
    """
    lists = CubLists(path)
    labels, splits, names = (index.create_values_by_id(f"cub_{what}") for what in ("labels", "splits", "images"))
    labels.add(lists.labels(lists.classes()))
    if (path / SPLITS).is_file():
        splits.add(_read_splits(path / SPLITS))
    if not index.add_listed(_images(lists, root, labels, splits, names)):
        raise CorpusError(f"{path / IMAGES} lists no image; expected lines such as '1 001.Laysan/photo.jpg'.")
    return ListingInfo("cub", path, notes=lists.left_out.notes())


def _read_splits(path: Path) -> Iterator[tuple[str, str]]:
    for identity, is_training in iter_entries(path):
        if is_training not in _SPLIT_OF:
            raise CorpusError(f"{path}: image {identity} has {is_training!r}, expected 1 (train) or 0 (test).")
        yield identity, _SPLIT_OF[is_training]


def _images(
    lists: CubLists, root: ImageRoot, labels: ValuesById, splits: ValuesById, names: ValuesById
) -> Iterator[ListedImage]:
    prefix: str | None = None
    for identity, name in lists.images():
        if earlier := names.get(identity):
            raise CorpusError(
                f"{lists.folder / IMAGES}: image id {identity} occurs twice, for {earlier[0]!r} and {name!r}. Ids must "
                "be unique."
            )
        names.add([(identity, name)])
        if prefix is None:
            prefix = "images/" if not root.find(name) and root.find(f"images/{name}") else ""
        split = splits.get(identity)
        yield ListedImage(prefix + name, labels.get(identity) or None, split[0] if split else None)
