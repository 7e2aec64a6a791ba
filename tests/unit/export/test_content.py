"""Files whose content has another format than their suffix."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from mining.export import export
from tests.unit.export.conftest import Painted, SmallRun, write_run
from tests.unit.export.test_yolo import both_parts, read

CONTENTS = [name for name in ("JPEG", "PNG", "GIF", "PPM", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PCX")
            if name != "AVIF" or features.check("avif")]  # fmt: skip
SUFFIXES = [".jpg", ".jpeg", ".JPG", ".png", ".bmp", ".tif", ".webp", ".avif", ".gif", ".ppm"]


@pytest.fixture
def mixed_run(tmp_path: Path) -> SmallRun:
    """Each content under each name."""
    box = (1, 10, 5, 20, 15, 0.9)
    painted = [Painted(f"{content}{n}{suffix}", (box,)) for content in CONTENTS for n, suffix in enumerate(SUFFIXES)]
    run = write_run(tmp_path, [Painted(one.file_name + ".png", one.boxes) for one in painted])
    for one in painted:
        content = one.file_name.rpartition(".")[0].rstrip("0123456789")
        content = "JPEG2000" if content == "JPEG" and one.file_name.startswith("JPEG2000") else content
        source = run.images / (one.file_name + ".png")
        with Image.open(source) as image:
            image.convert("RGB").save(run.images / one.file_name, format=content)
        source.unlink()
    return rename(run, painted)


def rename(run: SmallRun, painted: list[Painted]) -> SmallRun:
    """The same run of files with other names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for table in ("corpus.parquet", "annotations.parquet"):
        rows = pq.read_table(run.folder / table)
        at = rows.schema.get_field_index("file_name")
        names = [name.removesuffix(".png") for name in rows["file_name"].to_pylist()]
        pq.write_table(rows.set_column(at, rows.schema.field(at), pa.array(names)), run.folder / table)
    return SmallRun(run.folder, run.images, tuple(painted))


def test_ultralytics_reads_every_content_under_every_name(mixed_run: SmallRun, tmp_path: Path, is_red) -> None:
    export(mixed_run.folder, "yolo", tmp_path / "out", val_share=0.3)
    images = both_parts(read(tmp_path / "out", tmp_path / "scratch"))
    assert len(images) == len(CONTENTS) * len(SUFFIXES)
    for name, entry in images.items():
        assert len(entry["boxes"]) == 1, name
        assert all(is_red(colour) for colour in entry["colours"]), name


def test_a_reencoded_file_has_the_format_of_its_suffix(mixed_run: SmallRun, tmp_path: Path) -> None:
    export(mixed_run.folder, "yolo", tmp_path / "out", val_share=0)
    formats = {}
    for name in ("GIF0.jpg", "PPM1.jpeg", "GIF3.png", "PCX4.bmp", "JPEG5.tif", "PNG0.jpg"):
        with Image.open(tmp_path / "out" / "images" / "train" / name) as image:
            formats[name] = image.format
    assert formats == {
        "GIF0.jpg": "JPEG", "PPM1.jpeg": "JPEG", "GIF3.png": "PNG", "PCX4.bmp": "BMP", "JPEG5.tif": "TIFF",
        "PNG0.jpg": "PNG",
    }  # fmt: skip


def test_voc_holds_nothing_but_jpeg(mixed_run: SmallRun, tmp_path: Path, is_red) -> None:
    export(mixed_run.folder, "voc", tmp_path / "out")
    for path in (tmp_path / "out" / "VOCdevkit" / "VOC2012" / "JPEGImages").iterdir():
        with Image.open(path) as image:
            assert image.format == "JPEG", path
            assert is_red(np.asarray(image.convert("RGB"))[12, 20]), path
