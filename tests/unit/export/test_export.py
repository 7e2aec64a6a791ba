"""Common behaviour of all exports: errors, links, and no incomplete folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mining.errors import InputError, RunError, StorageError
from mining.export import EXPORTERS, ExportSummary, export
from mining.storage.folders import atomic_folder

FORMATS = sorted(EXPORTERS)
PIXELS = {
    "coco": "images", "yolo": "images/train", "voc": "VOCdevkit/VOC2012/JPEGImages", "labelstudio": "images",
    "cvat": "images", "hf": "train",
}  # fmt: skip


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".tmp-")]


@pytest.mark.parametrize("format", FORMATS)
def test_the_summary_counts_what_was_written_and_dropped(format, small_run, tmp_path):
    summary = export(small_run.folder, format, tmp_path / "out", min_score=0.6)
    assert summary == ExportSummary(format, images=8, boxes=8, dropped_by_score=3, out=tmp_path / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_images_are_hard_links_unless_copies_are_requested(format, listed_run, tmp_path):
    original = listed_run.images / "01.jpg"
    export(listed_run.folder, format, tmp_path / "linked")
    export(listed_run.folder, format, tmp_path / "copied", copy=True)
    linked, copied = (tmp_path / name / PIXELS[format] / "01.jpg" for name in ("linked", "copied"))
    assert linked.samefile(original)
    assert not copied.samefile(original)
    assert copied.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_a_symbolic_link_in_the_corpus_becomes_a_real_file(format, listed_run, tmp_path):
    original = listed_run.images / "01.jpg"
    far_away = listed_run.images / "below" / "far away.jpg"
    far_away.parent.mkdir()
    original.rename(far_away)
    original.symlink_to(far_away)
    export(listed_run.folder, format, tmp_path / "out")
    placed = tmp_path / "out" / PIXELS[format] / "01.jpg"
    assert not placed.is_symlink()
    assert placed.samefile(far_away)


def test_images_are_copied_if_links_are_impossible(listed_run, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    export(listed_run.folder, "coco", tmp_path / "out")
    placed = tmp_path / "out" / "images" / "01.jpg"
    assert placed.read_bytes() == (listed_run.images / "01.jpg").read_bytes()


def test_a_jpeg_that_trainers_would_repair_in_place_is_copied(listed_run, tmp_path):
    original = listed_run.images / "01.jpg"
    original.write_bytes(original.read_bytes() + b"trailing bytes")
    export(listed_run.folder, "yolo", tmp_path / "out")
    assert not (tmp_path / "out" / "images" / "train" / "01.jpg").samefile(original)


@pytest.mark.parametrize("format", FORMATS)
def test_rotated_images_are_written_upright_without_an_orientation(format, small_run, tmp_path):
    export(small_run.folder, format, tmp_path / "out", val_share=0.0)
    with Image.open(tmp_path / "out" / PIXELS[format] / "turned.jpg") as image:
        assert (image.size, image.getexif().get(0x0112)) == ((60, 40), None)
    with Image.open(small_run.images / "turned.jpg") as original:
        assert (original.size, original.getexif().get(0x0112)) == ((40, 60), 6)


@pytest.mark.parametrize(("suffix", "is_lossless"), [(".png", True), (".webp", True), (".tiff", True), (".jpg", False)])
def test_an_image_written_upright_keeps_its_format(suffix, is_lossless, listed_run, tmp_path):
    original = listed_run.images / "01.jpg"
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(original) as image:
        pixels = image.transpose(Image.Transpose.ROTATE_180)
        pixels.save(tmp_path / f"turned{suffix}", exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    (tmp_path / f"turned{suffix}").replace(original)
    export(listed_run.folder, "coco", tmp_path / "out")
    with Image.open(tmp_path / "out" / "images" / "01.jpg") as placed, Image.open(original) as stored:
        assert placed.format == stored.format
        assert placed.getexif().get(0x0112) is None
        assert (placed.tobytes() == pixels.transpose(Image.Transpose.ROTATE_180).tobytes()) == is_lossless


def test_an_unknown_format_is_refused_with_the_nearest_name(small_run, tmp_path):
    with pytest.raises(InputError, match=r"Unknown format 'coc': did you mean 'coco'\? Choose from: coco, yolo, voc"):
        export(small_run.folder, "coc", tmp_path / "out")


@pytest.mark.parametrize("options", [{"min_score": 1.5}, {"min_score": float("nan")}, {"val_share": 1.0}])
def test_a_value_out_of_range_is_refused(options, small_run, tmp_path):
    with pytest.raises(InputError, match=f"{next(iter(options))} is "):
        export(small_run.folder, "yolo", tmp_path / "out", **options)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is not a run directory: it has no run\.json"):
        export(tmp_path, "coco", tmp_path / "out")


def test_an_unfinished_run_is_refused_with_the_remedy(small_run, tmp_path):
    record = json.loads((small_run.folder / "run.json").read_text())
    (small_run.folder / "run.json").write_text(json.dumps(record | {"state": "running"}))
    with pytest.raises(RunError, match=r"not finished \(state: running\).* resume"):
        export(small_run.folder, "coco", tmp_path / "out")


@pytest.mark.parametrize("part", ["annotations.parquet", "corpus.parquet"])
def test_a_damaged_table_is_reported(part, small_run, tmp_path):
    (small_run.folder / part).write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(RunError, match=part):
        export(small_run.folder, "coco", tmp_path / "out")


def test_missing_images_are_reported(small_run, tmp_path):
    small_run.images.rename(tmp_path / "moved")
    with pytest.raises(RunError, match=r"its images were in .*photos, which does not exist any more"):
        export(small_run.folder, "coco", tmp_path / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_that_changed_since_the_run_stops_the_export(format, listed_run, tmp_path):
    Image.new("RGB", (61, 40)).save(listed_run.images / "11.jpg")
    with pytest.raises(RunError, match=r"11\.jpg is 61 x 40 px, but was 60 x 40 during the run"):
        export(listed_run.folder, format, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"no image")])
def test_a_missing_or_unreadable_image_is_reported(spoil, listed_run, tmp_path):
    spoil(listed_run.images / "05.jpg")
    with pytest.raises(RunError, match=r"05\.jpg"):
        export(listed_run.folder, "coco", tmp_path / "out")


def test_an_occupied_folder_is_refused_and_not_touched(small_run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not an empty folder"):
        export(small_run.folder, "coco", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"


def test_an_empty_folder_is_filled(small_run, tmp_path):
    (tmp_path / "out").mkdir()
    export(small_run.folder, "coco", tmp_path / "out")
    assert (tmp_path / "out" / "annotations" / "instances.json").is_file()


def test_a_folder_inside_the_images_is_refused(small_run):
    with pytest.raises(InputError, match="Give a folder outside of it"):
        export(small_run.folder, "coco", small_run.images / "export")


def test_a_file_name_that_leads_out_of_the_image_root_is_refused(listed_run, tmp_path):
    corpus = pq.read_table(listed_run.folder / "corpus.parquet")
    names = ["../run/run.json", *corpus["file_name"].to_pylist()[1:]]
    corpus = corpus.set_column(1, corpus.schema.field(1), pa.array(names))
    pq.write_table(corpus, listed_run.folder / "corpus.parquet")
    with pytest.raises(RunError, match="leads out of the image root"):
        export(listed_run.folder, "coco", tmp_path / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_boxes_without_an_image_are_an_error(format, listed_run, tmp_path):
    corpus = pq.read_table(listed_run.folder / "corpus.parquet")
    pq.write_table(corpus.slice(1), listed_run.folder / "corpus.parquet")
    with pytest.raises(RunError, match="boxes of image 101 have no readable image"):
        export(listed_run.folder, format, tmp_path / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_no_export(format, listed_run, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mining.export.image_files.shutil.copyfile", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        export(listed_run.folder, format, tmp_path / "out", copy=True)
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


def killed_export(run: Path, out: Path, *, at: str = "mining.export.coco.write_document") -> None:
    """An export in a process that is killed when it has written the images."""
    code = f"import os, sys, {at.rpartition('.')[0]}; {at} = lambda *a, **k: os._exit(9)\n"
    code += f"from mining.export import export; from pathlib import Path; export(Path({str(run)!r}), 'coco', Path({str(out)!r}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 9


def test_leftovers_of_a_killed_export_are_deleted_by_the_next_and_nothing_else(small_run, tmp_path):
    killed_export(small_run.folder, tmp_path / "out")
    assert len(leftovers(tmp_path)) == 1
    foreign = {f".tmp-{os.getpid()}-out", ".tmp-0123456789abcdef-out", ".tmp-notes"}
    for name in foreign:
        (tmp_path / name / "images").mkdir(parents=True)
    export(small_run.folder, "coco", tmp_path / "out")
    assert set(leftovers(tmp_path)) == foreign


def test_a_second_export_to_the_same_folder_is_refused_and_changes_nothing(small_run, tmp_path):
    with atomic_folder(tmp_path / "out") as first:
        (first / "picture.jpg").write_text("of the first")
        with pytest.raises(InputError, match=r"Another process is writing .*out\. Wait until it has finished"):
            export(small_run.folder, "coco", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["picture.jpg"]
    assert leftovers(tmp_path) == []


def test_of_two_simultaneous_exports_the_second_does_not_change_the_first(tmp_path):
    with (
        pytest.raises(InputError, match="was written by another process in the meantime"),
        atomic_folder(tmp_path / "out") as last,
    ):
        (last / "b").write_text("")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a").write_text("of the first")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["/absolute/a.jpg", "../a.jpg", "../../{root}/a.jpg", "b/../a.jpg"])
def test_a_record_with_paths_outside_the_run_writes_nothing_there(listed_run, tmp_path, name):
    path = listed_run.folder / "corpus.parquet"
    corpus = pq.read_table(path)
    root = f"{listed_run.images.parent.name}/{listed_run.images.name}"
    given = (
        str(listed_run.images / "01.jpg") if name.startswith("/") else name.format(root=root).replace("a.jpg", "01.jpg")
    )
    names = [given, *corpus["file_name"].to_pylist()[1:]]
    column = corpus.schema.get_field_index("file_name")
    pq.write_table(corpus.set_column(column, corpus.schema.field(column), pa.array(names)), path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match="leads out of the image root"):
        export(listed_run.folder, "coco", tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_export_twice_gives_the_same_files(format, unlisted_run, tmp_path):
    trees = []
    for name in ("one", "two"):
        export(unlisted_run.folder, format, tmp_path / name)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        trees.append([(p.relative_to(tmp_path / name), p.read_bytes()) for p in files])
    assert trees[0] == trees[1]


def test_importing_the_exporters_imports_neither_torch_nor_pandas():
    code = "import sys, mining.export; print(sorted({'torch', 'pandas', 'prefect'} & set(sys.modules)))"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert child.stdout.strip() == "[]"
