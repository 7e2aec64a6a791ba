"""Converted networks on disk, so that a model is converted once and not at every start.

An entry is a folder in the user's cache folder, named by a digest of everything that decides the network: weights,
options, the code that builds it, and the versions of the runtimes. It appears whole or not at all, and a damaged entry
is made again. The least recently used entries are deleted when all of them together are too large.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from platformdirs import user_cache_path

from mining.runtimes.openvino_core import import_openvino, openvino_core
from mining.storage.files import sha256_of

MAX_BYTES = 2_000_000_000
_GRAPH, _WEIGHTS, _RECORD = "graph.xml", "graph.bin", "record.json"
_KEY = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"unfinished-.*")
_ABANDONED_SECONDS = 3600.0

Convert = Callable[[], tuple[Any, list[int]]]


def cache_folder() -> Path:
    """Return the folder of the entries: `networks` in BOXMINE_CACHE, or in boxmine's folder of the user's cache."""
    chosen = os.environ.get("BOXMINE_CACHE")
    return (Path(chosen) if chosen else user_cache_path("boxmine", appauthor=False)) / "networks"


def load_or_convert(key: str, convert: Convert) -> tuple[Any, list[int]]:
    """Return a converted network from the cache; if it is not there, convert it and add it.

    Where the cache cannot be written, the network is converted at each start.

    Args:
        key: SHA-256 of everything that decides the network, in hexadecimal digits.
        convert: Returns the network as an OpenVINO model, and numbers to be kept with it.

    Returns:
        What `convert` returned.
    """
    entry = cache_folder() / key
    # RuntimeError: OpenVINO cannot read it
    with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
        record = json.loads((entry / _RECORD).read_text(encoding="utf-8"))
        if record["sha256"] == [sha256_of(entry / name) for name in (_GRAPH, _WEIGHTS)]:
            model = openvino_core().read_model(entry / _GRAPH)
            os.utime(entry)
            return model, [int(number) for number in record["numbers"]]
    model, numbers = convert()
    with suppress(OSError, RuntimeError):
        _store(entry, model, numbers)
        _delete_least_recently_used(entry.parent)
    return model, numbers


def _store(entry: Path, model: Any, numbers: list[int]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(prefix="unfinished-", dir=entry.parent))
    try:
        import_openvino().save_model(model, unfinished / _GRAPH, compress_to_fp16=False)
        digests = [sha256_of(unfinished / name) for name in (_GRAPH, _WEIGHTS)]
        record = json.dumps({"sha256": digests, "numbers": numbers})
        (unfinished / _RECORD).write_text(record, encoding="utf-8")
        if entry.exists():
            shutil.rmtree(entry, ignore_errors=True)  # damaged
        unfinished.rename(entry)  # fails if another process was faster
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
