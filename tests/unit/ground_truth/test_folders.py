"""CUB's lists and VOC XML as ground truth."""

from pathlib import Path

import pytest

from mining.errors import CorpusError, ScoringError
from mining.evaluation import read_ground_truth, score_run
from tests.unit.evaluation.conftest import World

LISTS = {
    "images.txt": "1 001.Gull/a.jpg\n2 001.Gull/b.jpg\n3 002.Wren/c.jpg\n",
    "image_class_labels.txt": "1 1\n2 1\n3 2\n",
    "classes.txt": "1 001.Gull\n2 002.Wren\n",
    "train_test_split.txt": "1 1\n2 0\n3 0\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 10.0 10.0 40.0 40.5\n3 0.0 0.0 99.0 50.0\n",
}


def write_lists(folder: Path, **changed: str | None) -> Path:
    """CUB's list files, some of them changed or left out."""
    folder.mkdir(exist_ok=True)
    for name, text in {**LISTS, **{f"{key}.txt": text for key, text in changed.items()}}.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_the_boxes_of_cub_are_read_with_their_classes(tmp_path: Path) -> None:
    truth = read_ground_truth(write_lists(tmp_path / "cub"))
    assert truth.file_names == ("001.Gull/a.jpg", "001.Gull/b.jpg", "002.Wren/c.jpg")
    assert truth.classes == ("001.Gull", "002.Wren")
    assert truth.boxes.image.tolist() == [0, 1, 2]
    assert truth.boxes.category.tolist() == [0, 0, 1]
    assert truth.boxes.xywh.tolist() == [[60, 27, 325, 304], [10, 10, 40, 40.5], [0, 0, 99, 50]]
    assert (truth.file, truth.notes) == ("bounding_boxes.txt", ())


def test_the_list_of_boxes_names_the_folder_it_lies_in(tmp_path: Path) -> None:
    folder = write_lists(tmp_path / "cub")
    by_list, by_folder = read_ground_truth(folder / "bounding_boxes.txt"), read_ground_truth(folder)
    assert by_list.sha256 == by_folder.sha256
    assert by_list.boxes.xywh.tolist() == by_folder.boxes.xywh.tolist()


def test_a_line_that_is_no_box_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = write_lists(tmp_path / "cub", bounding_boxes="1 1.0 1.0 5.0\n2 1 1 5 5\n9 1 1 5 5\n3 1 1 0 5\n")
    truth = read_ground_truth(folder)
    assert truth.boxes.image.tolist() == [1]
    assert sorted(truth.notes) == [
        "1 of 4 lines of bounding_boxes.txt in cub have a box without area (image 3); left out.",
        "1 of 4 lines of bounding_boxes.txt in cub have no box of four finite numbers (image 1); left out.",
        "1 of 4 lines of bounding_boxes.txt in cub name an image that images.txt does not list (image 9); left out.",
        "2 images have no usable annotation in bounding_boxes.txt, which also has annotations that could not be used or "
        "attached to an image: the labels of these images are taken as unknown.",
    ]


def test_lists_without_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"cub has no bounding_boxes\.txt, so there are no boxes"):
        read_ground_truth(write_lists(tmp_path / "cub", bounding_boxes=None))


def test_a_broken_list_is_refused_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"bounding_boxes\.txt, line 2"):
        read_ground_truth(write_lists(tmp_path / "cub", bounding_boxes="1 1 1 5 5\n2\n"))


def write_xml(folder: Path, name: str, objects: str, *, filename: str | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    named = "" if filename is None else f"<filename>{filename}</filename>"
    size = "<size><width>100</width><height>80</height><depth>3</depth></size>"
    path.write_text(f"<annotation><folder>val</folder>{named}{size}{objects}</annotation>")
    return folder


def thing(name: str, x0: object, y0: object, x1: object, y1: object, *, difficult: str = "0") -> str:
    box = f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult>{box}</object>"


def test_voc_corners_count_from_1_and_lie_inside(tmp_path: Path) -> None:
    write_xml(tmp_path / "xml", "a.xml", thing("dog", 1, 1, 100, 80) + thing("cat", 11, 21, 30, 30), filename="a.jpg")
    truth = read_ground_truth(tmp_path / "xml")
    assert truth.file_names == ("a.jpg",)
    assert truth.sizes.tolist() == [[100, 80]]
    assert truth.classes == ("cat", "dog")
    rows = zip(truth.boxes.category.tolist(), truth.boxes.xywh.tolist(), strict=True)
    assert sorted(rows) == [(0, [10, 20, 20, 10]), (1, [0, 0, 100, 80])]


def test_difficult_objects_are_ignored_ones(tmp_path: Path) -> None:
    objects = thing("dog", 1, 1, 50, 50, difficult="1") + thing("dog", 1, 1, 60, 60)
    assert read_ground_truth(write_xml(tmp_path / "xml", "a.xml", objects)).boxes.is_ignored.tolist() == [True, False]


def test_objects_without_a_box_are_left_out_and_counted(tmp_path: Path) -> None:
    objects = "<object><name>dog</name></object>" + thing("dog", "x", 1, 5, 5) + thing("dog", 1, 1, 5, 5)
    truth = read_ground_truth(write_xml(tmp_path / "xml", "a.xml", objects))
    assert len(truth.boxes) == 1
    assert truth.notes == ("2 of 3 objects in xml have no box of four finite numbers (first: a.xml, a.xml); left out.",)


def test_an_image_is_named_with_the_folder_of_its_xml(tmp_path: Path) -> None:
    for folder in ("n01", "n02"):
        write_xml(tmp_path / "xml", f"{folder}/1.xml", thing(folder, 1, 1, 5, 5), filename="1")
    write_xml(tmp_path / "xml", "n03/2.xml", thing("n03", 1, 1, 5, 5), filename="n03/2.JPEG")
    assert read_ground_truth(tmp_path / "xml").file_names == ("n01/1", "n02/1", "n03/2.JPEG")


def test_the_fingerprint_follows_what_is_in_the_xml(tmp_path: Path) -> None:
    one, same, other = (
        read_ground_truth(write_xml(tmp_path / str(n) / "xml", "a.xml", thing("dog", 1, 1, side, 5))).sha256
        for n, side in enumerate((5, 5, 6))
    )
    assert one == same != other


def test_a_folder_of_something_else_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(
        ScoringError, match=r"holds no ground truth: neither VOC XML nor CUB list files.* or a COCO file"
    ):
        read_ground_truth(tmp_path)


def test_broken_xml_is_refused_by_its_name(tmp_path: Path) -> None:
    write_xml(tmp_path / "xml", "a.xml", "<object>")
    with pytest.raises(CorpusError, match=r"a\.xml is not XML that can be read"):
        read_ground_truth(tmp_path / "xml")


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_a_run_is_scored_against_xml_that_names_images_with_or_without_ending(world: World, ending: str) -> None:
    """Of three predicted pairs one is found, as against the COCO truth of the same boxes."""
    run, coco = world.write()
    for name in ("a", "b", "c"):
        rows = [row for row in world.truth if row[0] == f"{name}.jpg"]
        objects = "".join(thing(c, x + 1, y + 1, x + w, y + h) for _, c, (x, y, w, h), _ in rows)
        write_xml(world.folder / "xml", f"{name}.xml", objects, filename=name + ending)
    by_xml, by_coco = score_run(run, world.folder / "xml"), score_run(run, coco)
    assert by_xml["corloc"] == by_coco["corloc"]
    assert by_xml["corloc"]["value"] == 0.5
    assert by_xml["images"] == by_coco["images"]


def test_a_run_is_scored_against_the_boxes_of_cub(world: World) -> None:
    """The corpus has the images below images/, of the test split only."""
    world.corpus = ["images/001.Gull/b.jpg", "images/002.Wren/c.jpg"]
    world.model_classes = ["001.Gull", "002.Wren"]
    world.predicted = [
        ("images/001.Gull/b.jpg", "001.Gull", (10, 10, 40, 40), 0.9),
        ("images/002.Wren/c.jpg", "002.Wren", (60, 60, 40, 40), 0.9),
    ]
    run, _ = world.write()
    scores = score_run(run, write_lists(world.folder / "cub"))
    assert (scores["corloc"]["value"], scores["corloc"]["pairs"]) == (0.5, 2)
    assert scores["images"]["scored"] == 2
