"""Converted networks on disk, so that a model is converted once and not at every start.

An entry is a folder in the user's cache folder, named by a digest of everything that decides the network: weights,
options, the code that builds it, and the versions of the runtimes. It appears whole or not at all, and a damaged entry
is made again. The least recently used entries are deleted when all of them together are too large.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from mining.runtimes.openvino_core import import_openvino, openvino_core
from mining.storage.cache import cache_folder
from mining.storage.files import sha256_of

FOLDER = "networks"
MAX_BYTES = 2_000_000_000
_GRAPH, _WEIGHTS, _RECORD = "graph.xml", "graph.bin", "record.json"
_KEY = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"unfinished-.*")
_ABANDONED_SECONDS = 3600.0

_UNUSABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError)  # the last from OpenVINO

Convert = Callable[[], tuple[Any, list[int]]]


def load_or_convert(key: str, convert: Convert) -> tuple[Any, list[int]]:
    """Return a converted network from the cache; if it is not there, convert it and add it.

    Where the cache cannot be written, the network is converted at each start. It is then read from a file, too, because
    OpenVINO computes what it reads with another rounding than what was just converted.

    Args:
        key: SHA-256 of everything that decides the network, in hexadecimal digits.
        convert: Returns the network as an OpenVINO model, and numbers to be kept with it.

    Returns:
        What `convert` returned.
    """
    entry = cache_folder(FOLDER) / key
    with suppress(*_UNUSABLE):
        loaded = _read(entry)
        os.utime(entry)
        return loaded
    model, numbers = convert()
    with suppress(*_UNUSABLE):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(entry.parent) as folder:
            _write(folder, model, numbers)
            shutil.rmtree(entry, ignore_errors=True)  # damaged
            folder.rename(entry)  # fails if another process was faster
        _delete_least_recently_used(entry.parent)
        return _read(entry)
    with _unfinished(None) as folder:
        _write(folder, model, numbers)
        return _read(folder)


def _read(entry: Path) -> tuple[Any, list[int]]:
    record = json.loads((entry / _RECORD).read_text(encoding="utf-8"))
    numbers = [int(number) for number in record["numbers"]]
    if record["sha256"] != _digest(entry, numbers):
        raise ValueError("damaged")
    return openvino_core().read_model(entry / _GRAPH), numbers


def _write(folder: Path, model: Any, numbers: list[int]) -> None:
    import_openvino().save_model(model, folder / _GRAPH, compress_to_fp16=False)
    record = json.dumps({"sha256": _digest(folder, numbers), "numbers": numbers})
    (folder / _RECORD).write_text(record, encoding="utf-8")


def _digest(folder: Path, numbers: list[int]) -> str:
    """Return one digest of the files and the numbers."""
    said = [*(sha256_of(folder / name) for name in (_GRAPH, _WEIGHTS)), *numbers]
    return hashlib.sha256(repr(said).encode()).hexdigest()


@contextmanager
def _unfinished(parent: Path | None) -> Iterator[Path]:
    """Make a folder in `parent`, or in the system's folder of temporary files, that is deleted unless it is renamed."""
    folder = Path(mkdtemp(prefix="unfinished-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _delete_least_recently_used(folder: Path) -> None:
    """Delete entries until the others fit into MAX_BYTES, and what killed processes left; nothing else."""
    entries = [path for path in folder.iterdir() if _KEY.fullmatch(path.name)]
    newest_first = sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in newest_first:
        total += sum(file.stat().st_size for file in path.iterdir())
        if total > MAX_BYTES and path != newest_first[0]:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
