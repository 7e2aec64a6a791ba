"""Matching listed names with files: one rule for labels and for ground truth."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mining.corpus import iter_shards, scan
from mining.errors import CorpusError
from mining.evaluation.boxes import TruthBoxes
from mining.evaluation.run_reading import match_images
from mining.ground_truth.reading import GroundTruth
from tests.factories import write_photos


def by_labels(folder: Path, listed: Sequence[str], files: Sequence[str], root: str, listing: str) -> tuple[dict, list]:
    """The file that each listed name of a CSV has as its name in the corpus; and the notes on that."""
    photos = folder / root
    for name in files:
        write_photos((photos / name).parent, [Path(name).name])
    labels = folder / listing
    labels.write_text("file_name,labels\n" + "".join(f"{name},c{i}\n" for i, name in enumerate(listed)))
    try:
        summary = scan(photos, labels, folder / "corpus.parquet")
    except CorpusError as error:
        return {}, [str(error)]
    rows = pa.concat_tables(iter_shards(folder / "corpus.parquet")).to_pylist()
    found = {listed[int(label[1:])]: row["file_name"] for row in rows if row["bytes"] for label in row["labels"]}
    return found, summary.notes


def by_truth(folder: Path, listed: Sequence[str], files: Sequence[str], root: str, listing: str) -> tuple[dict, list]:
    """The same of a truth and a run."""
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text(json.dumps({"config": {"images": str(folder / root)}}))
    empty = TruthBoxes(np.empty(0, int), np.empty(0, int), np.empty((0, 4)))
    truth = GroundTruth(listing, "", tuple(listed), np.full((len(listed), 2), np.nan), (), empty)
    found = match_images(truth, files, folder / "run")
    pairs = zip(listed, found.position.tolist(), strict=True)
    return {name: files[place] for name, place in pairs if place >= 0}, list(found.notes)


both_ways = pytest.mark.parametrize("matched", [by_labels, by_truth])


@both_ways
@pytest.mark.parametrize(
    ("listed", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("x\\a.jpg", "x/a.jpg"),
        ("./x//a.jpg", "x/a.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("x/a", "x/a.jpeg"),
        ("a.v2", "a.v2.png"),
        ("a.jpg", "x/y/a.jpg"),
        ("y/a.jpg", "x/y/a.jpg"),
        ("photos/x/a.jpg", "x/a.jpg"),
        ("a", "x/a.jpg"),
        ("a.JPG", "a.jpg"),
        ("a.jpg", "x/a.JPG"),
    ],
)
def test_a_name_means_the_one_file_that_it_fits(matched, tmp_path, listed, file) -> None:
    assert matched(tmp_path, [listed, "z.jpg"], [file, "z.jpg"], "root", "l.csv")[0] == {listed: file, "z.jpg": "z.jpg"}


@both_ways
@pytest.mark.parametrize(
    ("listed", "files", "hint"),
    [
        (["a.jpg"], ["x/a.jpg", "y/a.jpg"], "could mean several files"),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], "could mean several files, or a file that another name means too"),
        (["a"], ["a.jpg", "a.png"], "could mean several files"),
        (["a.JPG"], ["a.jpg", "a.Jpg"], "could mean several files"),
        (["A.jpg"], ["a.jpg"], "differs from a file in letter case only, first 'A.jpg' (file 'a.jpg')"),
        (["X/a.jpg"], ["x/a.jpg"], "differs from a file in letter case only"),
        (["x/a.jpg"], ["y/a.jpg"], "has the name of a file in another folder, first 'x/a.jpg' (file 'y/a.jpg')"),
        (["train/a.jpg"], ["val/a.jpg"], "has the name of a file in another folder"),
        (["train/a.jpg"], ["test/images/a.jpg"], "has the name of a file in another folder"),
        (["train/a.jpg"], ["a.jpg"], "has the name of a file in another folder"),
        (["a.png"], ["a.jpg"], ""),
    ],
)
def test_a_name_that_fits_no_file_or_several_means_none_and_a_hint_says_so(
    matched, tmp_path, listed, files, hint
) -> None:
    found, notes = matched(tmp_path, [*listed, "z.jpg"], [*files, "z.jpg"], "root", "l.csv")
    assert found == {"z.jpg": "z.jpg"}
    said = " ".join(notes).replace("images of l.csv differ", "image of l.csv differs").replace("have the", "has the")
    assert hint in said


@both_ways
def test_a_file_that_is_listed_by_its_whole_name_means_no_other(matched, tmp_path) -> None:
    found, notes = matched(tmp_path, ["x/a.jpg", "a.jpg"], ["x/a.jpg"], "root", "l.csv")
    assert found == {"x/a.jpg": "x/a.jpg"}
    assert not any("matched" in note for note in notes)


@both_ways
def test_what_is_found_by_the_end_of_the_path_is_counted_and_named(matched, tmp_path) -> None:
    _, notes = matched(tmp_path, ["a.jpg", "b.jpg", "z.jpg"], ["x/a.jpg", "y/b.jpg", "z.jpg"], "root", "l.csv")
    assert notes == ["2 images of l.csv are matched by the end of the path only, first 'a.jpg' with 'x/a.jpg'."]


@both_ways
def test_what_is_found_in_other_letter_case_of_the_suffix_is_counted_and_named(matched, tmp_path) -> None:
    _, notes = matched(tmp_path, ["a.JPG", "z.jpg"], ["a.jpg", "z.jpg"], "root", "l.csv")
    assert notes == [
        "1 image of l.csv is matched although the suffix differs in letter case, first 'a.JPG' with 'a.jpg'."
    ]


@both_ways
@pytest.mark.parametrize(
    ("root", "listing", "listed", "file", "is_found"),
    [
        ("ds/train", "l.csv", "train/a.jpg", "a.jpg", True),
        ("ds/train", "l.csv", "ds/train/a.jpg", "a.jpg", True),
        ("train2017", "l.csv", "train/a.jpg", "a.jpg", True),
        ("ds/train", "l.csv", "val/a.jpg", "a.jpg", False),
        ("ds/photos", "l.csv", "val/a.jpg", "a.jpg", False),
        ("ds", "instances_val.csv", "a.jpg", "train/a.jpg", False),
        ("ds", "instances_val2017.csv", "a.jpg", "valid/a.jpg", True),
        ("ds", "l.csv", "a.jpg", "train/a.jpg", True),
    ],
)
def test_a_split_is_matched_only_where_it_is_known_to_be_the_same(
    matched, tmp_path, root, listing, listed, file, is_found
) -> None:
    found, notes = matched(tmp_path, [listed, "z.jpg"], [file, "z.jpg"], root, listing)
    assert (found.get(listed) == file) == is_found
    assert any(listed in note for note in notes)
