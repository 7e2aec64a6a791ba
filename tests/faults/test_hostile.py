"""Malicious images and labels: names and links that leave the folder, pipes, decompression bombs."""

import os
import threading
import zlib
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.mine import mine
from mining.config import MineSettings
from mining.corpus.images import decoding
from mining.corpus.images.decoding import read_image, resolve_image_path
from mining.errors import CorpusError, ImageError, RunError
from mining.export import export
from tests.unit.engine.painting import BOX, RED, list_painted, painted_model, scene


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a secret image, a folder photos/ with a good one, and a model."""
    list_painted(monkeypatch)
    painted_model(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for name in ("secret.png", "photos/good.png"):
        Image.fromarray(scene((BOX, RED))).save(tmp_path / name)
    return tmp_path


def mine_states(place: Path, labels: Path | str) -> dict[str, str]:
    """Mine, and read the state of each image by file name."""
    given: dict[str, Any] = {"images": place / "photos", "labels": labels, "model": str(place / "model")}
    mine(MineSettings(**given, out=place / "run", scales=(1.0,), device="cpu", workers=1, min_present=0.0))
    return {row["file_name"]: row["state"] for row in pq.read_table(place / "run" / "corpus.parquet").to_pylist()}


@pytest.mark.parametrize(
    "name", ["../secret.png", "a/../../secret.png", "/etc/passwd", "..\\secret.png", "C:\\secret.png"]
)
@pytest.mark.parametrize("kind", ["csv", "coco", "voc"])
def test_a_name_that_leads_out_of_the_image_folder_is_refused(place: Path, name: str, kind: str) -> None:
    if kind == "csv":
        labels = place / "labels.csv"
        labels.write_text(f"file_name,labels\ngood.png,red\n{name},red\n")
    elif kind == "coco":
        labels = place / "labels.json"
        listed = [{"id": n, "file_name": one, "width": 96, "height": 64} for n, one in enumerate(("good.png", name))]
        labels.write_bytes(orjson.dumps({"images": listed, "annotations": [], "categories": []}))
    else:
        labels = place / "xml"
        labels.mkdir()
        (labels / "a.xml").write_text(f"<annotation><filename>{name}</filename></annotation>")
    with pytest.raises(CorpusError, match="leads out of the image folder"):
        mine_states(place, labels)


def test_a_link_that_leads_out_is_not_read(place: Path) -> None:
    (place / "photos" / "link.png").symlink_to(place / "secret.png")
    (place / "photos" / "below").symlink_to(place)
    (place / "labels.csv").write_text("file_name,labels\ngood.png,red\nlink.png,red\nbelow/secret.png,red\n")
    assert mine_states(place, place / "labels.csv") == {
        "good.png": "labelled", "link.png": "quarantined", "below/secret.png": "quarantined",
    }  # fmt: skip


def test_a_link_that_stays_inside_is_read(place: Path) -> None:
    (place / "photos" / "again.png").symlink_to(place / "photos" / "good.png")
    (place / "elsewhere").symlink_to(place / "photos")
    assert resolve_image_path(place / "elsewhere", "again.png") == place / "elsewhere" / "again.png"
    assert mine_states(place, "none") == {"good.png": "labelled", "again.png": "labelled"}


def test_a_link_created_after_mining_is_not_exported(place: Path) -> None:
    mine_states(place, "none")
    (place / "photos" / "good.png").unlink()
    (place / "photos" / "good.png").symlink_to(place / "secret.png")
    with pytest.raises(RunError, match="leads out of the image root"):
        export(place / "run", "coco", place / "exported")
    assert not (place / "exported").exists()


def test_a_pipe_is_quarantined_without_waiting(place: Path) -> None:
    os.mkfifo(place / "photos" / "pipe.png")
    (place / "labels.csv").write_text("file_name,labels\ngood.png,red\npipe.png,red\n")
    states: dict[str, str] = {}
    thread = threading.Thread(target=lambda: states.update(mine_states(place, place / "labels.csv")), daemon=True)
    thread.start()
    thread.join(60)
    assert states == {"good.png": "labelled", "pipe.png": "quarantined"}


def test_a_file_too_large_for_an_image_is_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 100)
    with pytest.raises(ImageError, match="bytes, more than the limit of 100"):
        read_image(place / "photos" / "good.png")


def test_a_decompression_bomb_is_quarantined(place: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = 60_000
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes(side * 3 + 1) * 20)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (place / "photos" / "bomb.png").write_bytes(bomb)
    assert mine_states(place, "none")["bomb.png"] == "quarantined"
