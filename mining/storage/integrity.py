"""Detect files that changed after boxmine wrote them.

Each Parquet file of boxmine is sealed: its footer holds the SHA-256 of the whole file, computed with zeros in the
place of the digest. So one file, which appears whole or not at all, tells whether any of its bits changed, its footer
included. The record of a finished run also lists the SHA-256 of each of its files, so that an intact file of another
run is noticed too. Files of earlier versions have neither; of those only the checksums of Parquet's pages are checked.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from mining.errors import DamagedFileError, RunError
from mining.storage.files import sha256_of, whole_file

if TYPE_CHECKING:  # pyarrow takes its time, and who checks a record only does without
    import pyarrow as pa
    import pyarrow.parquet as pq

RUN_FILE = "run.json"
DIGESTS = "digests"  # key of run.json: SHA-256 by the file's path below the run directory
PARTS = "parts"
MADE_FROM_PARTS = frozenset(
    {"annotations.parquet", "curves.parquet", "rankings.parquet", "quarantine.parquet", "annotations.json"}
)
_SEAL_KEY = "boxmine.seal"
_SEAL_MARK = b"boxmine-sha256:"
_DIGITS = 64
# Key and value as Thrift writes them, each behind its length. Behind them in the footer stands nothing but JSON and
# base64, which have no such control characters: the last one in the file is the seal, whatever names the images have.
_SEAL = b"\x0c" + _SEAL_KEY.encode() + b"\x18\x4f" + _SEAL_MARK
_CHUNK = 1 << 20
_SETTLED_NS = 2_000_000_000  # a file changed more recently may change again without another time


# --- sealed Parquet files --------------------------------------------------------------------------------------------


@contextmanager
def sealed_writer(path: Path, schema: "pa.Schema") -> Iterator["pq.ParquetWriter"]:
    """Give a writer of a sealed Parquet file, which appears whole when the block ends well, or not at all."""
    import pyarrow.parquet as pq

    with whole_file(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            yield writer
            writer.add_key_value_metadata({_SEAL_KEY: _SEAL_MARK + b"0" * _DIGITS})
        with temporary.open("r+b") as file:
            place = _place_of_seal(file)
            assert place is not None
            digest = _sha256_without_seal(file, place)
            file.seek(place)
            file.write(digest)


def seal_holds(path: Path) -> bool | None:
    """Whether the file is as it was when it was sealed; None for a file without a seal. Raises OSError."""
    with path.open("rb") as file:
        place = _place_of_seal(file)
        if place is None:
            return None
        digest = _sha256_without_seal(file, place)
        file.seek(place)
        return file.read(_DIGITS) == digest


def _place_of_seal(file: BinaryIO) -> int | None:
    """Where the digest starts. It does not rely on the footer's length, which may be what is damaged."""
    end = size = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _CHUNK)
        file.seek(start)
        found = file.read(end - start).rfind(_SEAL)
        if found >= 0:
            place = start + found + len(_SEAL)
            return place if place + _DIGITS <= size else None
        end = start + len(_SEAL) - 1 if start else 0  # a seal may lie across two pieces
    return None


def _sha256_without_seal(file: BinaryIO, place: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    left = place
    while left and (chunk := file.read(min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    digest.update(b"0" * _DIGITS)
    file.seek(place + _DIGITS)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest().encode()


# --- files of a run --------------------------------------------------------------------------------------------------


def digests_of(run: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of those of the files that are there, by name, for the run's record."""
    return {name: sha256_of(run / name) for name in names if (run / name).is_file()}


def check_file(path: Path) -> None:
    """Raise DamagedFileError where the file is not as it was written.

    A file that a finished run's record lists must have the digest listed there; any other must fit its own seal, where
    it has one. A file that passed is not read again while its size, times and place on the disk stay the same.
    """
    try:
        found = path.stat()
    except OSError:
        return  # whoever opens the file says what is wrong
    if not stat.S_ISREG(found.st_mode):
        return
    identity = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    is_settled = max(found.st_mtime_ns, found.st_ctime_ns) < time.time_ns() - _SETTLED_NS
    check = _check_once if is_settled else _check_once.__wrapped__
    check(path, _listed_digest(path), identity)


@lru_cache(maxsize=256)
def _check_once(path: Path, listed: str | None, _identity: tuple[int, ...]) -> None:
    if listed is None and path.suffix != ".parquet":
        return
    holds = seal_holds(path) if listed is None else sha256_of(path) == listed
    if holds is False:
        raise DamagedFileError(damage_in_words(path))


def damaged_files(run: Path) -> list[Path]:
    """The files that the record of a finished run lists and that are gone or not as they were written."""
    damaged = []
    for name in _digests(run):
        try:
            check_file(run / name)
        except DamagedFileError:
            damaged.append(run / name)
        else:
            damaged += [] if (run / name).is_file() else [run / name]
    return damaged


def damage_in_words(path: Path, reason: str = "") -> str:
    """A sentence for a damaged file of a run, with what to do."""
    can_be_rebuilt = path.name in MADE_FROM_PARTS and (path.parent / PARTS).is_dir()
    remedy = (
        f"Run the `boxmine mine` command of {path.parent} again to write it anew from the run's parts."
        if can_be_rebuilt
        else f"Restore it from a backup, or move {_folder(path)} away and mine again."
    )
    return f"{path} is damaged: {reason or 'it is not the file that was written (its SHA-256 differs)'}. {remedy}"


def _folder(path: Path) -> Path:
    return path.parent.parent if (path.parent.parent / RUN_FILE).is_file() else path.parent


def _listed_digest(path: Path) -> str | None:
    for run in (path.parent, path.parent.parent):
        if (run / RUN_FILE).is_file():
            return _digests(run).get(path.relative_to(run).as_posix())
    return None


def _digests(run: Path) -> Mapping[str, str]:
    """What the record lists; nothing while the run is not finished, because its files still change."""
    try:
        record = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        return dict(record.get(DIGESTS, {})) if record["state"] == "finished" else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@contextmanager
def open_table(path: Path) -> Iterator["pq.ParquetFile"]:
    """Open a Parquet table of a run for reading, after it was checked.

    Raises RunError where it is missing, and DamagedFileError where it is damaged, also while it is read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_file(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError:
        raise RunError(f"{path} is missing. Mine again into a new folder.") from None
    except (OSError, pa.ArrowException) as error:
        raise DamagedFileError(damage_in_words(path, " ".join(str(error).split()).rstrip("."))) from None


def digest_of(value: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


# --- JSON records ----------------------------------------------------------------------------------------------------


def with_digest(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the SHA-256 of its content as `sha256`."""
    return {**record, "sha256": _content_digest(record)}


def digest_fits(record: Mapping[str, Any]) -> bool:
    """Whether a record that `with_digest` made still has that content; True for one without a digest."""
    return "sha256" not in record or record["sha256"] == _content_digest(record)


def _content_digest(record: Mapping[str, Any]) -> str:
    content = {name: value for name, value in record.items() if name != "sha256"}
    read_back = json.loads(json.dumps(content, default=str))  # keys become text, which sorts otherwise than numbers
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()
