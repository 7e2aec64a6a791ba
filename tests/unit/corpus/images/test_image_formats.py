"""Which files are images: all supported formats, however they are listed, but no files of system folders."""

import shutil

import pytest
from PIL import Image

from mining.corpus import file_walker
from mining.corpus.images import image_formats
from mining.corpus.images.decoding import read_image

LEFTOVERS = [
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/b.jpg", "__MACOSX/cat/._c.jpg", "cat/__MACOSX/d.jpg",
    ".AppleDouble/e.jpg", "$RECYCLE.BIN/f.jpg", "System Volume Information/g.jpg", "lost+found/h.jpg",
    "cat/._1.jpg", "@Recycle/i.jpg", "dog/@EADIR/j.jpg",
]  # fmt: skip
WRITTEN = ["a.gif", "b.avif", "c.jp2", "d.webp", "e.ppm", "f.tga", "g.JPE", "h.mpo", "i.bmp", "j.qoi"]


def names(rows):
    return [row["file_name"] for row in rows]


@pytest.fixture
def every_kind(tmp_path):
    root = tmp_path / "kinds"
    root.mkdir()
    for name in WRITTEN:
        Image.new("RGB", (32, 24), "teal").save(root / name)
    return root


def test_every_supported_format_is_listed_and_can_be_decoded(every_kind, scanned):
    _, rows = scanned(every_kind)
    assert names(rows) == sorted(WRITTEN)
    assert {tuple(read_image(every_kind / name).shape) for name in names(rows)} == {(3, 24, 32)}


def test_a_folder_and_a_csv_accept_the_same_files(every_kind, scanned, csv_file):
    listing = csv_file("file_name,labels", *(f"{name},cat" for name in WRITTEN))
    assert names(scanned(every_kind, listing)[1]) == names(scanned(every_kind)[1])


def test_unsupported_image_formats_are_counted_by_suffix_and_other_files_are_not(photos, scanned):
    summary, rows = scanned(
        photos("a.jpg", "b.CR2", "deep/c.cr2", "d.psb", "e.dng", "f.txt", "g.json", "h.xml", "i.mp4")
    )
    assert names(rows) == ["a.jpg"]
    assert any("3 files" in note and note.endswith("not supported: 2 .cr2, 1 .dng.") for note in summary.notes)


def test_a_note_says_what_to_install_for_heic_files(photos, scanned, monkeypatch):
    root = photos("a.jpg", "b.HEIC")
    monkeypatch.setattr(image_formats, "HAS_HEIF", False)
    monkeypatch.setattr(file_walker, "UNREAD_SUFFIXES", frozenset({".heic"}))
    monkeypatch.setattr(file_walker, "IMAGE_SUFFIXES", jpeg := frozenset({".jpg"}))
    found = file_walker.FileWalker(str(root), suffixes=jpeg)
    assert list(found) == ["a.jpg"]
    assert found.notes() == [
        f"1 file below {root} is skipped, because the image format is not supported: 1 .heic (install boxmine[heif])."
    ]


@pytest.mark.skipif(not image_formats.HAS_HEIF, reason="pillow-heif is not installed")
def test_heic_images_are_listed_and_decoded(tmp_path, scanned):
    import pillow_heif

    (tmp_path / "in").mkdir()
    pillow_heif.from_pillow(Image.new("RGB", (64, 32), "teal")).save(tmp_path / "in" / "a.HEIC")
    assert names(scanned(tmp_path / "in")[1]) == ["a.HEIC"]
    assert read_image(tmp_path / "in" / "a.HEIC").shape == (3, 32, 64)


def test_system_folders_of_nas_devices_and_archives_are_skipped(photos, scanned):
    summary, rows = scanned(photos("cat/1.jpg", "dog/1.jpg", *LEFTOVERS))
    assert names(rows) == ["cat/1.jpg", "dog/1.jpg"]
    assert summary.classes == {"cat": 1, "dog": 1}


def test_windows_thumbnails_are_skipped(photos, scanned):
    root = photos("a.jpg")
    shutil.copy(root / "a.jpg", root / "Thumbs.db")
    assert names(scanned(root)[1]) == ["a.jpg"]
