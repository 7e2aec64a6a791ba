"""A folder of VOC XML gives the same images and classes whether it is read as labels or as ground truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mining.corpus import CorpusSummary, iter_shards, scan
from mining.evaluation import GroundTruth, read_ground_truth
from mining.evaluation.run_reading import match_images
from tests.factories import write_photos
from tests.unit.ground_truth.test_folders import thing, write_xml


def both(folder: Path, *files: str) -> tuple[CorpusSummary, dict[str, Any], GroundTruth, dict[str, Any]]:
    """The folder `xml` as labels, and as truth of those labels' images: summary or truth, and the classes by file."""
    for name in files:
        write_photos((folder / "photos" / name).parent, [Path(name).name])
    summary = scan(folder / "photos", folder / "xml", folder / "corpus.parquet")
    rows = pa.concat_tables(iter_shards(folder / "corpus.parquet")).to_pylist()
    labels = {row["file_name"]: row["labels"] for row in rows if row["bytes"]}
    truth = read_ground_truth(folder / "xml")
    places = match_images(truth, files, folder).position.tolist()
    found = {files[place]: _classes(truth, image) for image, place in enumerate(places) if place >= 0}
    return summary, labels, truth, found


def _classes(truth: GroundTruth, image: int) -> list[str]:
    return sorted({truth.classes[number] for number in truth.boxes.category[truth.boxes.image == image]})


def write(folder: Path, *xmls: tuple[str, str | None, Sequence[str]]) -> None:
    """One XML for each (its name, <filename>, class names)."""
    for name, filename, classes in xmls:
        write_xml(folder / "xml", name, "".join(thing(one, 2, 2, 50, 50) for one in classes), filename=filename)


def test_files_that_share_a_filename_are_named_by_the_xml(tmp_path: Path) -> None:
    write(tmp_path, ("a.xml", "1.jpg", ["cat"]), ("b.xml", "1.jpg", ["dog"]), ("c.xml", "1.jpg", []))
    summary, labels, truth, found = both(tmp_path, "1.jpg", "a.jpg", "b.jpg", "c.jpg")
    assert labels == found == {"a.jpg": ["cat"], "b.jpg": ["dog"], "c.jpg": []}
    note = (
        "3 XML files of xml share their <filename> with another, first '1.jpg': their images are looked up by the names "
        "of the XML files."
    )
    assert note in summary.notes
    assert note in truth.notes


def test_the_file_whose_own_name_is_the_filename_keeps_it(tmp_path: Path) -> None:
    write(tmp_path, ("1.xml", "1.jpg", ["cat"]), ("b.xml", "1.jpg", ["dog"]))
    _, labels, _, found = both(tmp_path, "1.jpg", "b.jpg")
    assert labels == found == {"1.jpg": ["cat"], "b.jpg": ["dog"]}


def test_a_filename_that_no_file_has_gives_way_to_the_name_of_the_xml(tmp_path: Path) -> None:
    write(tmp_path, ("a.xml", "IMG_1.jpg", ["cat"]), ("b.xml", "b.jpg", ["dog"]))
    summary, labels, truth, found = both(tmp_path, "a.jpg", "b.jpg")
    assert labels == found == {"a.jpg": ["cat"], "b.jpg": ["dog"]}
    note = (
        "1 image of xml is matched by the name of the XML file, because no image has the name in <filename>, first "
        "'IMG_1.jpg' with 'a.jpg'."
    )
    assert note in summary.notes
    assert note in match_images(truth, ["a.jpg", "b.jpg"], tmp_path).notes


def test_a_filename_that_a_file_has_is_right_whatever_the_xml_is_called(tmp_path: Path) -> None:
    write(tmp_path, ("000001.xml", "img5.jpg", ["cat"]), ("000002.xml", "img6.jpg", ["dog"]))
    _, labels, _, found = both(tmp_path, "img5.jpg", "img6.jpg", "000001.jpg")
    assert labels == found == {"img5.jpg": ["cat"], "img6.jpg": ["dog"]}


def test_subfolders_of_the_xml_may_be_those_of_the_images_or_not(tmp_path: Path) -> None:
    write(tmp_path, ("x/1.xml", "1.jpg", ["cat"]), ("y/1.xml", "1.jpg", ["dog"]), ("batch/2.xml", "2.jpg", ["dog"]))
    _, labels, _, found = both(tmp_path, "x/1.jpg", "y/1.jpg", "2.jpg")
    assert labels == found == {"x/1.jpg": ["cat"], "y/1.jpg": ["dog"], "2.jpg": ["dog"]}


@pytest.mark.parametrize("written", ["photos\\a.jpg", "photos/a.jpg", "a", "a.JPG"])
def test_a_filename_may_be_a_path_or_lack_its_suffix(tmp_path: Path, written: str) -> None:
    write(tmp_path, ("a.xml", written, ["cat"]))
    _, labels, _, found = both(tmp_path, "a.jpg")
    assert labels == found == {"a.jpg": ["cat"]}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("<ANNOTATION>", "</ANNOTATION>"),
        ("<Annotation xmlns='http://example.org/voc'>", "</Annotation>"),
        ("<v:annotation xmlns:v='urn:v' xmlns='urn:v'>", "</v:annotation>"),
    ],
)
def test_upper_case_tags_and_namespaces_are_understood(tmp_path: Path, start: str, end: str) -> None:
    (tmp_path / "xml").mkdir()
    box = "<BndBox><xMin>1</xMin><yMin>1</yMin><xMax>50</xMax><yMax>40</yMax></BndBox>"
    text = f"{start}<FileName>a.jpg</FileName><Object><Name> cat </Name><Difficult>1</Difficult>{box}</Object>{end}"
    (tmp_path / "xml" / "a.xml").write_text(text)
    _, labels, truth, found = both(tmp_path, "a.jpg")
    assert labels == found == {"a.jpg": ["cat"]}
    assert truth.boxes.is_ignored.tolist() == [True]


def test_one_broken_file_does_not_block_the_rest(tmp_path: Path) -> None:
    write(tmp_path, ("a.xml", None, ["cat"]))
    (tmp_path / "xml" / "b.xml").write_text("<annotation><object>")
    (tmp_path / "xml" / "c.xml").write_text("<html></html>")
    summary, labels, truth, found = both(tmp_path, "a.jpg")
    assert labels == found == {"a.jpg": ["cat"]}
    said = [note for note in truth.notes if "cannot be read" in note]
    assert len(said) == 1
    assert said[0] in summary.notes
    assert said[0].startswith("2 of 3 XML files in xml cannot be read (first: ")
    assert "b.xml" in said[0]


def test_an_object_without_a_name_leaves_its_image_unknown(tmp_path: Path) -> None:
    write(tmp_path, ("a.xml", None, ["cat"]))
    write_xml(tmp_path / "xml", "b.xml", thing(" ", 1, 1, 5, 5))
    summary, labels, truth, found = both(tmp_path, "a.jpg", "b.jpg")
    assert (labels["a.jpg"], labels["b.jpg"]) == (["cat"], None)
    assert found == {"a.jpg": ["cat"]}
    note = "1 of 2 objects in xml have no name (b.xml); left out."
    assert note in summary.notes
    assert note in truth.notes


@pytest.mark.parametrize("word", ["1", " 1 ", "true", "True", "yes", "YES"])
def test_difficult_is_true_for_the_words_that_mean_so(tmp_path: Path, word: str) -> None:
    write_xml(tmp_path / "xml", "a.xml", thing("dog", 1, 1, 50, 50, difficult=word))
    assert read_ground_truth(tmp_path / "xml").boxes.is_ignored.tolist() == [True]


@pytest.mark.parametrize("word", ["0", "", "Unspecified", "false", "no", "None", "2", "unknown"])
def test_difficult_is_false_for_every_other_word(tmp_path: Path, word: str) -> None:
    write_xml(tmp_path / "xml", "a.xml", thing("dog", 1, 1, 50, 50, difficult=word))
    assert read_ground_truth(tmp_path / "xml").boxes.is_ignored.tolist() == [False]
