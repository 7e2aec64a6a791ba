"""Fixtures: small real images and their listings."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from mining.corpus import CorpusSummary, iter_shards, scan

Photos = Callable[..., Path]
Scanned = Callable[..., tuple[CorpusSummary, list[dict]]]


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Write images of 8 x 6 pixels with the given names, and return their folder."""

    def made(*names: str) -> Path:
        root = tmp_path / "photos"
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), "teal").save(path, format="PNG")
        return root

    return made


@pytest.fixture
def scanned(tmp_path: Path) -> Scanned:
    """Scan, and return the summary and the rows of the table."""

    def run(images: Path, labels: Path | str | None = None, **options: object) -> tuple[CorpusSummary, list[dict]]:
        out = tmp_path / "out" / "corpus.parquet"
        summary = scan(images, labels, out, **options)
        return summary, pa.concat_tables(iter_shards(out)).to_pylist()

    return run


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV with the given lines."""

    def written(*lines: str, end: str = "\n", start: bytes = b"", encoding: str = "utf-8") -> Path:
        path = tmp_path / "train.csv"
        path.write_bytes(start + "".join(line + end for line in lines).encode(encoding))
        return path

    return written


@pytest.fixture
def without_rights() -> Iterator[Path]:
    """A folder, in a test that does not run as root, for whom permissions do not count."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(was)
