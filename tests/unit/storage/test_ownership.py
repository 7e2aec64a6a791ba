"""Only files that carry the token of their folder are deleted."""

import os
from pathlib import Path

import pytest

from mining.errors import RunError
from mining.storage.files import atomic_write
from mining.storage.locks import lock_folder, share_path
from mining.storage.ownership import MARK_FILE, delete_temporaries, foreign_entries, mark_folder, token_of

FOREIGN = (".tmp-", ".tmp-notes", ".tmp-123-run.json", ".tmp-0123456789abcdef-01234567-run.json")


def killed_while_writing(path: Path) -> None:
    child = os.fork()
    if child == 0:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            os._exit(9)
    os.waitpid(child, 0)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_temporaries_of_a_killed_process_are_deleted_and_foreign_files_of_similar_names_are_not(tmp_path: Path) -> None:
    mark_folder(tmp_path, "run")
    foreign = {str(Path(below) / name) for below in (".", "parts", "notes/old") for name in FOREIGN}
    for name in foreign:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("somebody's")
    for name in ("run.json", "parts/part-00000.parquet"):
        killed_while_writing(tmp_path / name)
    assert delete_temporaries(tmp_path, ("parts",)) == 2
    assert names(tmp_path) == foreign | {MARK_FILE}


def test_nothing_is_deleted_from_a_folder_without_a_mark(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "run.json")
    before = names(tmp_path)
    assert len(before) == 1
    assert delete_temporaries(tmp_path) == 0
    assert names(tmp_path) == before


def test_a_symbolic_link_to_another_folder_is_not_followed(tmp_path: Path) -> None:
    for name in ("run", "elsewhere"):
        (tmp_path / name).mkdir()
    token = mark_folder(tmp_path / "run", "run")
    (tmp_path / "elsewhere" / f".tmp-{token}-x").write_text("")
    (tmp_path / "run" / "parts").symlink_to(tmp_path / "elsewhere")
    assert delete_temporaries(tmp_path / "run", ("parts",)) == 0
    assert (tmp_path / "elsewhere" / f".tmp-{token}-x").exists()


@pytest.mark.parametrize("content", ["x", "[]", "{}", '{"format": "boxmine-mark/1", "kind": "run", "token": "../.."}'])
def test_a_foreign_file_with_the_name_of_a_mark_is_foreign(tmp_path: Path, content: str) -> None:
    (tmp_path / MARK_FILE).write_text(content)
    assert token_of(tmp_path) is None
    assert foreign_entries(tmp_path) == [MARK_FILE]


def test_a_folder_can_be_marked_after_a_process_was_killed_while_marking_it(tmp_path: Path) -> None:
    (tmp_path / MARK_FILE).write_text("")
    assert foreign_entries(tmp_path) == []
    assert mark_folder(tmp_path, "run") == token_of(tmp_path) == mark_folder(tmp_path, "run")


def test_the_temporary_name_of_a_long_name_is_short_enough_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + ".json")
    with atomic_write(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


def test_a_lock_removes_only_the_folders_that_it_created(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "there", tmp_path / "there" / "new" / "deep"):
        with lock_folder(path):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    with lock_folder(tmp_path / "new"):
        (tmp_path / "new" / "a.txt").write_text("x")
    assert (tmp_path / "new" / "a.txt").exists()


def test_a_locked_folder_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(RunError, match="Another process is working on"), lock_folder(tmp_path):
        pass


def test_only_the_first_of_several_writers_of_a_folder_sweeps_it(tmp_path: Path) -> None:
    swept = []
    with share_path(tmp_path, lambda: swept.append("first")):
        with share_path(tmp_path, lambda: swept.append("second")):
            pass
        with pytest.raises(RuntimeError, match="half way"), share_path(tmp_path, lambda: None):
            raise RuntimeError("half way")
    assert swept == ["first"]
    with share_path(tmp_path, lambda: swept.append("third")):
        pass
    assert swept == ["first", "third"]
