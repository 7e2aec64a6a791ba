"""Untrusted files: special files are refused at once, and memory is in proportion to the size of a file."""

import io
import json
import os
import socket
import tracemalloc
from pathlib import Path

import ijson
import pytest

from mining.corpus import scan
from mining.errors import CorpusError, InputError, ScoringError
from mining.evaluation import read_ground_truth
from mining.storage.untrusted_files import (
    MAX_JSON_DEPTH,
    DepthLimitedReader,
    JSONNestingError,
    LongLineError,
    iter_lines,
    open_input,
    parse_json,
    read_json,
)
from tests.factories import write_photos


class InPieces(io.BytesIO):
    """A file that returns a few bytes at a time, however many are requested."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(3, size) if size and size > 0 else 3)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("text", [nested(80_000), b'{"a":' * 80_000, b'{"annotations": ' + b"[" * 80_000])
def test_deeply_nested_json_is_refused(text: bytes) -> None:
    with pytest.raises(JSONNestingError, match=f"deeper than {MAX_JSON_DEPTH} levels"):
        parse_json(text)
    with pytest.raises(JSONNestingError):
        list(ijson.items(DepthLimitedReader(io.BytesIO(text)), "annotations.item"))


@pytest.mark.parametrize(
    "value",
    [
        json.loads(nested(MAX_JSON_DEPTH)),
        {"name": "[" * 100},
        {"name": '\\"' + "{" * 100},
        {"name": "\\" * 5 + "[" * 100, "b": "\\"},
        [[], {}, [{"a": [1]}]] * 50,
    ],
)
def test_json_within_the_nesting_limit_is_read_unchanged(value: object) -> None:
    text = json.dumps(value).encode()
    assert parse_json(text) == value
    whole = DepthLimitedReader(InPieces(text))
    assert b"".join(iter(whole.read, b"")) == text


def test_json_may_contain_nan_and_a_byte_order_mark() -> None:
    assert str(parse_json(b'\xef\xbb\xbf{"a": NaN}')) == "{'a': nan}"


def test_nested_labels_need_little_memory(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    labels = tmp_path / "labels.json"
    labels.write_bytes(b'{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [], "annotations": ' + b"[" * 8000)
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match="nested deeper than"):
            scan(photos, labels, tmp_path / "corpus.parquet")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def special_file(folder: Path, kind: str, name: str) -> Path:
    """A named pipe, a socket, a link to a device, or a folder."""
    path = folder / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(folder)  # an address of a socket has 108 bytes at most
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
        os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


KINDS = {"pipe": "a named pipe", "socket": "a socket", "device": "a device"}


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
def test_special_files_are_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = special_file(tmp_path, kind, "f.json")
    with pytest.raises(OSError, match=KINDS.get(kind, "a folder")):
        open_input(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["labels.csv", "labels.json"])
def test_labels_that_are_a_special_file_are_refused_at_once(kind: str, name: str, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    with pytest.raises(CorpusError, match=KINDS[kind]):
        scan(photos, special_file(tmp_path, kind, name), tmp_path / "corpus.parquet")


@pytest.mark.parametrize("name", ["images.txt", "classes.txt", "image_class_labels.txt", "x.xml"])
def test_a_pipe_among_cub_list_files_is_refused_at_once(name: str, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    lists = tmp_path / "lists"
    lists.mkdir()
    if name != "x.xml":
        for other in {"images.txt", "classes.txt", "image_class_labels.txt"} - {name}:
            (lists / other).write_text("1 a.jpg\n" if other == "images.txt" else "1 1\n")
    special_file(lists, "pipe", name)
    with pytest.raises(InputError):
        scan(photos, lists, tmp_path / "corpus.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_ground_truth_that_is_a_special_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=KINDS[kind]):
        read_ground_truth(special_file(tmp_path, kind, "truth.json"))


def test_a_file_without_line_ends_is_refused_rather_than_read_as_one_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)  # takes no room on the disk
    with pytest.raises(LongLineError, match="line 1 is longer"):
        next(iter_lines(path))


def test_a_record_above_the_size_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(OSError, match="more than the limit of"):
        read_json(path)
