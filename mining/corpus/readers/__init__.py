"""What lists the images: one file per kind of listing, and the choice between them."""

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
    """csv, coco, voc or cub, by what lies at the path; nothing is read yet.

    Raises CorpusError where there is nothing, or nothing of a known kind.
    """
    _refuse_special_file(labels)
    if labels.is_dir():
        if contains_cub(labels):
            return "cub"
        if contains_voc(labels):
            return "voc"
        raise CorpusError(f"{labels} is a folder without VOC XML and without CUB list files. {_ACCEPTED}.")
    kind = {".csv": "csv", ".json": "coco"}.get(labels.suffix.lower())
    if kind is None:
        hint = f"give its folder: --labels {labels.parent}" if labels.suffix.lower() == ".xml" else _ACCEPTED
        raise CorpusError(f"{labels} is not a kind of label file that is known here; {hint}.")
    return kind


def _refuse_special_file(labels: Path) -> None:
    try:
        check_not_special_file(labels)
    except FileNotFoundError:
        raise CorpusError(f"{labels} does not exist. {_ACCEPTED}.") from None
    except (OSError, ValueError) as error:
        raise CorpusError(f"Cannot read {labels}: {getattr(error, 'strerror', error)}. {_ACCEPTED}.") from None


def read_listing(
    labels: Path | Literal["none"] | None, root: ImageRoot, table: CorpusIndex, split: str | None = None
) -> ListingInfo:
    """Take the listing into the table; gives what it says of the corpus as a whole.

    labels: None = what the folders say; 'none' = no labels whatever they say. split: what of it will be used.
    Raises CorpusError for whatever cannot be used.
    """
    if labels is None or labels == "none":
        return folders.read(root, table, are_classes_wanted=labels is None, split=split)
    path = Path(labels)
    return _READERS[detect_kind(path)](path, root, table)
