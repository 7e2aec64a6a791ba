"""Links, cycles, permissions and names that are not valid UTF-8."""

import os
from pathlib import Path

import pytest

from mining.corpus.file_walker import FileWalker
from mining.corpus.image_root import ImageRoot
from mining.errors import CorpusError


def walked(root: Path) -> tuple[list[str], list[str]]:
    walk = FileWalker(str(root.resolve()))
    return sorted(walk), walk.notes()


def test_links_inside_the_root_are_followed(photos):
    root = photos("store/a.jpg")
    (root / "b.jpg").symlink_to("store/a.jpg")
    (root / "again").symlink_to("store")
    assert walked(root) == (["again/a.jpg", "b.jpg", "store/a.jpg"], [])


def test_a_link_into_a_hidden_store_is_followed(photos):
    root = photos(".store/a.jpg")
    (root / "cats").symlink_to(".store")
    assert walked(root)[0] == ["cats/a.jpg"]


def test_links_out_of_the_root_are_not_followed_and_are_counted(photos, tmp_path):
    root = photos("a.jpg")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.jpg").write_bytes((root / "a.jpg").read_bytes())
    (root / "b.jpg").symlink_to(tmp_path / "other" / "b.jpg")
    (root / "more").symlink_to(tmp_path / "other")
    names, notes = walked(root)
    assert names == ["a.jpg"]
    assert notes == [f"2 links below {root} are not followed, because the target lies outside of it."]


def test_a_folder_whose_name_begins_with_that_of_the_root_is_outside(photos, tmp_path):
    root = photos("a.jpg")
    (tmp_path / "photos2").mkdir()
    (root / "more").symlink_to(tmp_path / "photos2")
    walk = FileWalker(str(root))
    assert (list(walk), walk.outside) == (["a.jpg"], 1)


def test_a_broken_link_is_counted(photos):
    root = photos("a.jpg")
    (root / "gone.jpg").symlink_to("nothing.jpg")
    (root / "self.jpg").symlink_to("self.jpg")
    walk = FileWalker(str(root))
    assert (list(walk), walk.broken) == (["a.jpg"], 2)


def test_a_link_to_a_folder_above_does_not_loop(photos):
    root = photos("a.jpg", "deep/b.jpg")
    (root / "deep" / "up").symlink_to("..")
    walk = FileWalker(str(root))
    assert (sorted(walk), walk.cyclic) == (["a.jpg", "deep/b.jpg"], 1)


def test_folders_that_link_to_each_other_are_listed_by_their_real_names(photos):
    root = photos("a/x.jpg", "b/y.jpg")
    (root / "a" / "to_b").symlink_to("../b")
    (root / "b" / "to_a").symlink_to("../a")
    names, _ = walked(root)
    assert names == ["a/to_b/y.jpg", "a/x.jpg", "b/to_a/x.jpg", "b/y.jpg"]


def test_many_links_between_folders_end_quickly(photos):
    folders = [f"f{i}" for i in range(12)]
    root = photos(*(f"{folder}/x.jpg" for folder in folders))
    for folder in folders:
        for other in folders:
            if other != folder:
                (root / folder / f"to_{other}").symlink_to(f"../{other}")
    names, _ = walked(root)
    assert len(names) == 12 + 12 * 11


def test_a_name_that_is_not_utf8_is_skipped_and_counted(photos):
    root = photos("a.jpg")
    with open(os.fsencode(root) + b"/caf\xe9.jpg", "wb") as file:
        file.write(b"x")
    names, notes = walked(root)
    assert names == ["a.jpg"]
    assert notes == [f"1 name below {root} is skipped, because it is not valid UTF-8. Rename the file to use it."]


def test_a_pipe_is_not_an_image(photos):
    root = photos("a.jpg")
    os.mkfifo(root / "pipe.jpg")
    assert walked(root)[0] == ["a.jpg"]


def test_an_unreadable_root_is_an_error(without_rights):
    (without_rights / "closed").mkdir(mode=0o000)
    with pytest.raises(CorpusError, match=r"closed cannot be opened \(Permission denied\)"):
        ImageRoot(without_rights / "closed")


def test_an_unreadable_folder_is_skipped_and_named(without_rights):
    (without_rights / "a.jpg").write_bytes(b"x")
    (without_rights / "closed").mkdir(mode=0o000)
    assert walked(without_rights) == (
        ["a.jpg"],
        [f"1 folder below {without_rights} is skipped, because it cannot be opened: closed."],
    )
