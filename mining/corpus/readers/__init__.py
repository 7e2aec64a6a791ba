"""Readers of listings: one module per kind, and the choice between them."""

from pathlib import Path
from typing import Literal

from mining.corpus.formats.cub import contains_cub
from mining.corpus.formats.voc import contains_voc
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListingInfo
from mining.corpus.readers import coco, csv_list, cub, folders, voc
from mining.corpus.sqlite_index import CorpusIndex
from mining.errors import CorpusError
from mining.storage.untrusted_files import check_not_special_file

_ACCEPTED = (
    "--labels takes a CSV (file_name,labels), a COCO JSON, a folder of VOC XML, a folder of CUB list files, or 'none'"
)
_READERS = {"csv": csv_list.read, "coco": coco.read, "voc": voc.read, "cub": cub.read}


def detect_kind(labels: Path) -> str:
    """Detect the kind of a label file or folder from its suffix or contents; the labels are not read yet.

    Returns:
        "csv", "coco", "voc" or "cub".

    Raises:
        CorpusError: It is missing, cannot be read, or is of no known kind.
    """
    _check_exists(labels)
    if labels.is_dir():
        if contains_cub(labels):
            return "cub"
        if contains_voc(labels):
            return "voc"
        raise CorpusError(f"{labels} is a folder with neither VOC XML nor CUB list files. {_ACCEPTED}.")
    kind = {".csv": "csv", ".json": "coco"}.get(labels.suffix.lower())
    if kind is None:
        hint = f"Give its folder: --labels {labels.parent}" if labels.suffix.lower() == ".xml" else _ACCEPTED
        raise CorpusError(f"{labels} is not a label file of a known kind. {hint}.")
    return kind


def _check_exists(labels: Path) -> None:
    try:
        check_not_special_file(labels)
    except FileNotFoundError:
        raise CorpusError(f"{labels} does not exist. {_ACCEPTED}.") from None
    except (OSError, ValueError) as error:
        raise CorpusError(f"Cannot read {labels}: {getattr(error, 'strerror', error)}. {_ACCEPTED}.") from None


def read_listing(
    labels: Path | Literal["none"] | None, root: ImageRoot, index: CorpusIndex, split: str | None = None
) -> ListingInfo:
    """Read a listing into the index.

    Args:
        labels: The label file or folder; None takes classes from folder names, 'none' ignores those.
        root: The folder of the images.
        index: Where the listed images go.
        split: The split that will be used.

    Returns:
        What the listing states as a whole.

    Raises:
        CorpusError: The listing cannot be used.
    """
    if labels is None or labels == "none":
        return folders.read(root, index, are_classes_wanted=labels is None, split=split)
    path = Path(labels)
    return _READERS[detect_kind(path)](path, root, index)
