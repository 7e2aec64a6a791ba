import errno
import hashlib
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import SafetensorError

from mining.errors import InputError, StorageError
from mining.storage.files import atomic_write, sha256_of, storage_errors, write_json


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """Limit the size of files that this process writes to `count` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_appears_when_its_block_ends_without_an_error(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "down" / "a.txt"
    with atomic_write(out) as temporary:
        temporary.write_text("all of it")
        assert temporary.parent == out.parent
        assert not out.exists()
    assert out.read_text() == "all of it"
    assert names(out.parent) == ["a.txt"]


def test_no_file_is_left_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert names(tmp_path) == []


def test_an_interrupt_leaves_the_earlier_file_unchanged(tmp_path: Path) -> None:
    out = tmp_path / "a.txt"
    out.write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_write(out) as temporary:
        temporary.write_text("after")
        raise KeyboardInterrupt
    assert out.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_an_earlier_file_is_replaced_completely(tmp_path: Path) -> None:
    out = tmp_path / "a.txt"
    out.write_text("a long text from before")
    with atomic_write(out) as temporary:
        temporary.write_text("new")
    assert out.read_text() == "new"


def test_the_message_of_a_full_disk_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    out = tmp_path / "a.txt"
    with pytest.raises(StorageError, match="the disk is full") as caught, atomic_write(out) as temporary:
        temporary.write_text("started")
        Path("/dev/full").write_text("no room for this")
    assert str(out) in str(caught.value)
    assert "same command" in str(caught.value)
    assert caught.value.exit_code == 4
    assert names(tmp_path) == []


def test_a_write_beyond_the_file_size_limit_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="too large"), files_of_at_most(100):
        write_json(tmp_path / "a.json", {"text": "x" * 1000})
    assert names(tmp_path) == []


def test_a_table_beyond_the_file_size_limit_leaves_the_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    small, large = pa.table({"n": [1]}), pa.table({"n": [os.urandom(50_000)]})
    with atomic_write(out) as temporary:
        pq.write_table(small, temporary)
    with pytest.raises(StorageError), files_of_at_most(10_000), atomic_write(out) as temporary:
        pq.write_table(large, temporary)
    assert pq.read_table(out).equals(small)
    assert names(tmp_path) == ["a.parquet"]


def test_a_full_disk_is_recognised_from_the_message_if_the_error_number_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the disk is full"), storage_errors(tmp_path):
        raise OSError("[Errno 28] Error writing bytes to file. Detail: No space left on device")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Error while serializing: I/O error: File too large (os error 27)", "file would be too large"),
        ("Error while serializing: I/O error: Disk quota exceeded (os error 122)", "disk quota is used up"),
        ("[errno 30] Cannot open for writing", "file system is read-only"),
    ],
)
def test_an_error_number_in_the_text_alone_is_recognised(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(StorageError, match=reason), storage_errors(tmp_path / "weights.safetensors"):
        raise SafetensorError(text)


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM])
def test_every_write_error_of_the_disk_becomes_a_storage_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageError, match=str(tmp_path)), storage_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_system_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        (tmp_path / "missing").read_bytes()


@pytest.mark.parametrize("below", ["a.txt", "folder/a.txt", "one/two/a.txt"])
def test_an_output_path_below_a_file_is_refused(tmp_path: Path, below: str) -> None:
    blocking = tmp_path / "file"
    blocking.write_text("in the way")
    with pytest.raises(InputError, match="a folder above it is a file"), atomic_write(blocking / below) as t:
        t.write_text("x")
    assert blocking.read_text() == "in the way"


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(InputError, match="a folder of this name"), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == ["a.txt"]


def test_json_is_written_as_unicode_with_a_final_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Müller", "path": tmp_path})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert '"Müller"' in text
    assert str(tmp_path) in text
    assert text.endswith("}\n")


def test_json_never_contains_nan_or_infinity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert names(tmp_path) == []


def test_the_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("refuse", [atomic_write, storage_errors])
def test_a_storage_error_keeps_its_cause(
    tmp_path: Path, refuse: Callable[[Path], AbstractContextManager[object]]
) -> None:
    with pytest.raises(StorageError) as caught, refuse(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(caught.value.__cause__, OSError)


def test_what_a_full_disk_does_to_an_sqlite_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (text TEXT)")
        connection.execute("PRAGMA max_page_count = 2")  # SQLite refuses as on a full disk
        refused = pytest.raises(StorageError, match=r"Cannot write .*verdicts\.sqlite: the disk is full\. Free space")
        with refused, storage_errors(path):
            connection.execute("INSERT INTO t VALUES (?)", ["x" * 100_000])
    with pytest.raises(sqlite3.OperationalError, match="no such table"), storage_errors(path):
        sqlite3.connect(":memory:").execute("SELECT * FROM t")
