"""Keys by which boxes are recognised in the files of review tools, and the names that those tools change."""

from pathlib import PurePosixPath

from mining.runs.run import Run
from mining.storage.files import sha256_of
from mining.storage.integrity import DIGESTS

_LENGTH = 8  # hexadecimal digits


def run_key(run: Run) -> str:
    """Return a short key of the boxes of a run: the beginning of the SHA-256 of annotations.parquet."""
    digest = run.record.get(DIGESTS, {}).get(run.annotations.name) or sha256_of(run.annotations)
    return str(digest)[:_LENGTH]


def box_key(run: str, annotation_id: int) -> str:
    """Return the key of a box."""
    return f"{run}-{annotation_id}"


def split_box_key(key: object) -> tuple[str, int] | None:
    """Return the key of the run and the id of the box; None for a text that is no key of a box.

    Example:
        >>> split_box_key("0a1b2c3d-17"), split_box_key("x7fK-2"), split_box_key(None)
        (('0a1b2c3d', 17), None, None)
    """
    run, dash, number = str(key).strip().partition("-")
    is_key = len(run) == _LENGTH and set(run) <= set("0123456789abcdef") and dash
    return (run, int(number)) if is_key and number.isascii() and number.isdigit() and len(number) < 19 else None


def name_with_suffix(file_name: str) -> str:
    """Return the name that an image is given where only its suffix tells it from another: a/1.png is a/1_png.png."""
    path = PurePosixPath(file_name)
    return str(path.with_name(f"{path.stem}_{path.suffix.lstrip('.')}{path.suffix}"))


def name_without_suffix(name: str) -> str:
    """Undo `name_with_suffix`; a name that it has not made is returned unchanged."""
    path = PurePosixPath(name)
    return str(path.with_name(path.stem.removesuffix(f"_{path.suffix.lstrip('.')}") + path.suffix))
