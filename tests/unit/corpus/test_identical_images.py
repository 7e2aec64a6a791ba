"""Images that exist under several names."""

import hashlib

from mining.corpus.identical_images import ImageFile, map_copies_to_first


def copies(folder, contents, hashes=None):
    for name, content in contents.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return map_copies_to_first(lambda: [ImageFile(name, folder / name, (hashes or {}).get(name)) for name in contents])


LONG = b"x" * 50_000


def test_equal_bytes_under_other_names_are_copies_of_the_first(tmp_path):
    found = copies(tmp_path, {"a": LONG + b"1", "b": LONG + b"2", "c": LONG + b"1", "d": LONG + b"1", "e": b"1"})
    assert found == {"a": "a", "c": "a", "d": "a"}


def test_missing_unreadable_and_empty_files_and_folders_are_not_copies(tmp_path):
    (tmp_path / "folder").mkdir()
    assert copies(tmp_path, {"a": b"1", "gone": None, "also gone": None, "folder": None}) == {}


def test_known_hashes_are_used_without_reading_files(tmp_path):
    hashes = {name: hashlib.sha256(name[:1].encode()).hexdigest() for name in ("a1", "a2", "b1")}
    assert copies(tmp_path, dict.fromkeys(hashes), hashes) == {"a1": "a1", "a2": "a1"}


def test_images_with_known_and_unknown_hashes_are_compared(tmp_path):
    known = {"a": hashlib.sha256(b"same").hexdigest()}
    assert copies(tmp_path, {"a": b"same", "b": b"same", "c": b"other"}, known) == {"a": "a", "b": "a"}
