"""What people did in Label Studio and CVAT comes back as one record per box."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

import boxmine
from mining.config.audit import AuditPlanSettings
from mining.errors import InputError
from mining.export import export
from mining.imports import import_boxes
from mining.quality.audit import estimate_audit
from mining.quality.planning import plan_audit
from mining.quality.recording import record_verdicts
from mining.quality.review_files import Review, ReviewedBox, read_review
from mining.quality.verdicts import open_verdicts
from mining.runs.run import Run

WIDTH, HEIGHT = 200, 100
NAMES = ("a/1.jpg", "a/1.png", "b #2.jpg")
CLASSES = ("dog", "cat & <mouse>")
# id in the run, image, class, x, y, w, h
BOXES = (
    (1, "a/1.jpg", "dog", 10.0, 10.0, 40.0, 30.0),
    (2, "a/1.jpg", "cat & <mouse>", 100.0, 20.5, 50.0, 60.0),
    (3, "a/1.png", "dog", 20.0, 20.0, 30.0, 30.0),
    (4, "b #2.jpg", "dog", 5.0, 5.0, 60.0, 60.0),
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    for name in NAMES:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), "white").save(tmp_path / "photos" / name)
    document = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(NAMES, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
        "annotations": [
            {"id": number, "image_id": 1 + NAMES.index(image), "category_id": 1 + CLASSES.index(category),
             "bbox": xywh, "score": 1 - number / 10}
            for number, image, category, *xywh in BOXES
        ],
    }  # fmt: skip
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    return Run(import_boxes(tmp_path / "boxes.json", tmp_path / "photos", tmp_path / "run").run)


def as_mined(number: int, verdict: str) -> ReviewedBox:
    return ReviewedBox(*BOXES[number - 1], verdict)  # type: ignore[arg-type]


# --- Label Studio ----------------------------------------------------------------------------------------------------


def tasks_of(run: Run, **options: Any) -> list[dict[str, Any]]:
    """The tasks, each submitted as it was shown."""
    out = run.path.parent / "label_studio"
    export(run.path, "labelstudio", out, **options)
    tasks = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
    for task in tasks:
        regions = [region for prediction in task["predictions"] for region in prediction["result"]]
        task["annotations"] = [{"result": regions, "was_cancelled": False, "updated_at": "2026-01-01T10:00:00Z"}]
    return tasks


def read_tasks(run: Run, tasks: Any) -> Review:
    path = run.path.parent / "project.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return read_review(path, run)


def regions(tasks: list[dict[str, Any]], file_name: str) -> list[dict[str, Any]]:
    return next(task["annotations"][0]["result"] for task in tasks if task["data"]["file_name"] == file_name)


def region(x: float, y: float, w: float, h: float, *labels: str) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0, "rectanglelabels": list(labels)}
    sides = {"original_width": WIDTH, "original_height": HEIGHT}
    return {"id": "x7fK2", "type": "rectanglelabels", "from_name": "label", "to_name": "image", **sides, "value": value}


def test_boxes_that_were_submitted_unchanged_are_correct_exactly_as_mined(run: Run) -> None:
    review = read_tasks(run, tasks_of(run))
    assert review.tool == "Label Studio"
    assert review.boxes == [as_mined(number, "correct") for number in (1, 2, 3, 4)]
    assert review.images == sorted(NAMES)
    assert review.notes == []


def change(tasks: list[dict[str, Any]]) -> None:
    """Move box 1, delete 2, relabel 3, add a box to the image of 4."""
    first = regions(tasks, "a/1.jpg")
    first[0]["value"] |= {"x": 10.0, "width": 25.0}  # percent
    del first[1]
    regions(tasks, "a/1.png")[0]["value"]["rectanglelabels"] = ["cat & <mouse>"]
    regions(tasks, "b #2.jpg").append(region(50, 50, 10, 20, "dog"))


CHANGED = [
    ReviewedBox(1, "a/1.jpg", "dog", 20.0, 10.0, 50.0, 30.0, "correct"),
    as_mined(2, "nothing"),
    as_mined(3, "wrong_class")._replace(category="cat & <mouse>"),
    as_mined(4, "correct"),
    ReviewedBox(None, "b #2.jpg", "dog", 100.0, 50.0, 20.0, 20.0, "missed"),
]


def test_moved_deleted_relabelled_and_added_boxes_come_back_from_label_studio(run: Run) -> None:
    tasks = tasks_of(run)
    change(tasks)
    assert read_tasks(run, tasks).boxes == CHANGED


def test_boxes_are_recognised_by_meta_and_where_that_is_lost_by_their_place(run: Run) -> None:
    tasks = tasks_of(run)
    change(tasks)
    for task in tasks:
        for one in task["annotations"][0]["result"]:
            one["id"] = "Qx3"
    assert read_tasks(run, tasks).boxes == CHANGED
    for task in tasks:
        for one in task["annotations"][0]["result"]:
            one.pop("meta", None)
    regions(tasks, "a/1.jpg")[0]["value"] |= {"x": 6.0, "width": 22.0}
    moved = ReviewedBox(1, "a/1.jpg", "dog", 12.0, 10.0, 44.0, 30.0, "correct")
    assert read_tasks(run, tasks).boxes == [moved, *CHANGED[1:]]


def test_a_copied_box_is_an_added_one(run: Run) -> None:
    tasks = tasks_of(run)
    copied = json.loads(json.dumps(regions(tasks, "a/1.png")[0]))
    copied["value"] |= {"x": 60.0}
    regions(tasks, "a/1.png").insert(0, copied)
    assert read_tasks(run, tasks).boxes[2:4] == [
        as_mined(3, "correct"),
        ReviewedBox(None, "a/1.png", "dog", 120.0, 20.0, 30.0, 30.0, "missed"),
    ]


def test_a_box_without_a_class_is_unsure(run: Run) -> None:
    tasks = tasks_of(run)
    regions(tasks, "a/1.png")[0]["value"]["rectanglelabels"] = []
    assert read_tasks(run, tasks).boxes[2] == as_mined(3, "unsure")


def test_a_turned_box_comes_back_as_its_extent(run: Run) -> None:
    tasks = tasks_of(run)
    regions(tasks, "a/1.png")[0]["value"] |= {"x": 30.0, "y": 40.0, "rotation": 90}  # around (60, 40), clockwise
    assert read_tasks(run, tasks).boxes[2] == ReviewedBox(3, "a/1.png", "dog", 30.0, 40.0, 30.0, 30.0, "correct")


def test_only_submitted_tasks_count(run: Run) -> None:
    tasks = tasks_of(run)
    tasks[0]["annotations"] = []
    tasks[1]["annotations"][0]["was_cancelled"] = True
    review = read_tasks(run, tasks)
    assert review.images == ["b #2.jpg"]
    assert review.boxes == [as_mined(4, "correct")]
    assert review.notes == ["Tasks of project.json that nobody submitted, left out: 2."]


def test_of_several_annotations_the_latest_counts(run: Run) -> None:
    tasks = tasks_of(run)
    task = next(task for task in tasks if task["data"]["file_name"] == "a/1.png")
    task["annotations"].insert(0, {"result": [], "updated_at": "2026-02-01T10:00:00Z"})
    review = read_tasks(run, tasks)
    assert review.boxes[2] == as_mined(3, "nothing")
    assert review.notes == ["Tasks of project.json with several annotations, of which the latest counts: 1."]


def test_a_box_that_was_not_shown_is_not_deleted(run: Run) -> None:
    review = read_tasks(run, tasks_of(run, min_score=0.85))
    assert review.boxes == [as_mined(1, "correct")]


def test_other_shapes_and_broken_rectangles_are_counted(run: Run) -> None:
    tasks = tasks_of(run)
    broken = region(1, 1, 1, 1, "dog")
    del broken["value"]["x"]
    regions(tasks, "a/1.png").extend(
        [broken, {"type": "polygonlabels", "value": {}}, region(5, 5, 0, 0, "dog"), {"type": "choices", "value": {}}]
    )
    review = read_tasks(run, tasks)
    assert review.boxes == [as_mined(number, "correct") for number in (1, 2, 3, 4)]
    assert review.notes == [
        "Shapes of project.json that are no rectangles, left out: 1.",
        "Rectangles of project.json without four numbers, left out: 1.",
        "Added boxes of project.json without an area, left out: 1.",
    ]


def test_images_that_the_run_does_not_have_are_named(run: Run) -> None:
    tasks = tasks_of(run)
    tasks[2]["data"] |= {"file_name": "other.jpg", "image": "/data/upload/1/other.jpg"}
    assert read_tasks(run, tasks).notes == [
        "Images of project.json that are not in the run, left out: 1, first 'other.jpg'."
    ]


# --- CVAT ------------------------------------------------------------------------------------------------------------


def xml_of(run: Run, **options: Any) -> ElementTree.ElementTree:
    out = run.path.parent / "cvat"
    export(run.path, "cvat", out, **options)
    return ElementTree.parse(out / "annotations.xml")


def read_xml(run: Run, tree: ElementTree.ElementTree, **options: Any) -> Review:
    path = run.path.parent / "reviewed.xml"
    tree.write(path, encoding="utf-8", xml_declaration=True)
    return read_review(path, run, **options)


def image_of(tree: ElementTree.ElementTree, name: str) -> Any:
    return next(image for image in tree.iter("image") if image.get("name") == name)


def test_boxes_that_cvat_returns_unchanged_are_correct_exactly_as_mined(run: Run) -> None:
    review = read_xml(run, xml_of(run))
    assert review.tool == "CVAT"
    assert review.boxes == [as_mined(number, "correct") for number in (1, 2, 3, 4)]
    assert review.images == sorted(NAMES)


@pytest.mark.parametrize("has_keys", [True, False])
def test_moved_deleted_relabelled_and_added_boxes_come_back_from_cvat(run: Run, has_keys: bool) -> None:
    tree = xml_of(run)
    first = image_of(tree, "a/1.jpg")
    first[0].set("xtl", "12.00")
    first.remove(first[1])
    image_of(tree, "a/1_png.png")[0].set("label", "cat & <mouse>")
    box = {"label": "dog", "source": "manual", "xtl": "100", "ytl": "50", "xbr": "120", "ybr": "70"}
    ElementTree.SubElement(image_of(tree, "b #2.jpg"), "box", box)
    if not has_keys:
        for one in tree.iter("box"):
            for attribute in list(one):
                one.remove(attribute)
    moved = ReviewedBox(1, "a/1.jpg", "dog", 12.0, 10.0, 38.0, 30.0, "correct")
    assert read_xml(run, tree).boxes == [moved, *CHANGED[1:]]


def test_an_image_that_cvat_does_not_list_was_not_looked_at(run: Run) -> None:
    tree = xml_of(run)
    tree.getroot().remove(image_of(tree, "a/1.jpg"))
    review = read_xml(run, tree)
    assert review.images == ["a/1.png", "b #2.jpg"]
    assert [box.annotation_id for box in review.boxes] == [3, 4]


def test_boxes_below_the_minimum_score_of_the_export_are_not_deleted(run: Run) -> None:
    tree = xml_of(run, min_score=0.7, include_empty=True)
    assert [box.verdict for box in read_xml(run, tree).boxes] == ["correct", "correct", "correct", "nothing"]
    assert [box.verdict for box in read_xml(run, tree, min_score=0.7).boxes] == ["correct", "correct", "correct"]


def test_a_box_that_was_turned_in_cvat_comes_back_as_its_extent(run: Run) -> None:
    tree = xml_of(run)
    box = image_of(tree, "b #2.jpg")[0]
    for name, value in {"xtl": "20", "ytl": "40", "xbr": "80", "ybr": "60", "rotation": "90.0"}.items():
        box.set(name, value)  # around its centre (50, 50)
    assert read_xml(run, tree).boxes[3] == ReviewedBox(4, "b #2.jpg", "dog", 40.0, 20.0, 20.0, 60.0, "correct")


def test_other_shapes_of_cvat_are_counted(run: Run) -> None:
    tree = xml_of(run)
    ElementTree.SubElement(image_of(tree, "a/1.jpg"), "polygon", {"label": "dog", "points": "1,1;2,2;3,1"})
    assert read_xml(run, tree).notes == ["Shapes of reviewed.xml that are no boxes, left out: 1."]


# --- an audit --------------------------------------------------------------------------------------------------------


def drawn_plan(run: Run, verdicts: int) -> Path:
    plan = run.path.parent / "plan.csv"
    plan_audit(AuditPlanSettings(run=run.path, out=plan, verdicts=verdicts))
    return plan


def test_a_review_is_recorded_as_verdicts_on_the_boxes_of_the_plans(run: Run) -> None:
    plan = drawn_plan(run, 3)
    drawn = {int(line.partition(",")[0]) for line in plan.read_text(encoding="utf-8").splitlines()[1:]}
    tasks = tasks_of(run)
    change(tasks)
    path = run.path.parent / "project.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    summary = record_verdicts(run.path, path, "Ada")
    assert (summary.recorded, summary.pending) == (4, 0)
    assert summary.notes == [
        "1 boxes that no plan asks for were judged; `boxmine audit apply` uses them, estimates do not."
    ]
    with open_verdicts(run.path) as store:
        found = {one.annotation_id: one for one in store.judgements()}
        images = {one.file_name: one for one in store.image_judgements()}
    words = {1: "correct", 2: "nothing", 3: "wrong_class", 4: "correct"}
    assert {number: one.verdict for number, one in found.items()} == words
    assert {number for number, one in found.items() if one.why == "random"} == drawn
    assert {number for number, one in found.items() if one.corrected is not None} == {1}
    assert {number: one.new_category for number, one in found.items() if one.new_category} == {3: "cat & <mouse>"}
    assert [len(one.missed) for one in images.values() if one.missed] == [1]
    assert record_verdicts(run.path, path, "Ada").repeated == 4


def test_a_review_counts_for_no_estimate_without_a_plan(run: Run) -> None:
    path = run.path.parent / "project.json"
    tasks = tasks_of(run)
    path.write_text(json.dumps(tasks), encoding="utf-8")
    summary = record_verdicts(run.path, path, "Ada")
    assert (summary.recorded, summary.images) == (4, len(tasks))
    assert estimate_audit(run.path).precision is None


# --- files that cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2]", "has no tasks with data and annotations"),
        (b'[{"image": "a.jpg", "label": []}]', "as JSON-MIN and others do not"),
        (b"[{", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"<annotations><image", "is not valid XML"),
        (b"<a/>", "its root is not <annotations>"),
        (b"<annotations><track/></annotations>", "is a CVAT export of a video"),
        (b"<annotations/>", "has no image that was looked at"),
        (b"<annotations><image name='x.jpg'/></annotations>", "No image of .* is in the run .*, first 'x.jpg'"),
        (b"[]", "has no image that was looked at"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(run: Run, content: bytes, message: str) -> None:
    path = run.path.parent / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_review(path, run)


def test_a_missing_file_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="Cannot read"):
        read_review(run.path.parent / "none.json", run)


@pytest.mark.parametrize("reviewed", [lambda run: read_tasks, lambda run: read_xml])
def test_a_review_of_another_run_is_refused(run: Run, reviewed: Callable[[Run], Any], tmp_path: Path) -> None:
    document = json.loads((tmp_path / "boxes.json").read_text(encoding="utf-8"))
    document["annotations"] = document["annotations"][:2]
    (tmp_path / "fewer.json").write_text(json.dumps(document))
    other = boxmine.import_boxes(tmp_path / "fewer.json", images=tmp_path / "photos", out=tmp_path / "other")
    read = reviewed(run)
    content = tasks_of(run) if read is read_tasks else xml_of(run)
    with pytest.raises(InputError, match="of another run"):
        read(Run(other.path), content)


# --- tools -----------------------------------------------------------------------------------------------------------


def test_label_studio_accepts_what_is_read_back(run: Run) -> None:
    interfaces = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    tasks = tasks_of(run)
    change(tasks)
    text = (run.path.parent / "label_studio" / "label_config.xml").read_text(encoding="utf-8")
    interface = interfaces.LabelInterface(text)
    assert all(interface.validate_annotation(task["annotations"][0]) for task in tasks)


# in a process of its own: Datumaro changes settings of other libraries
REVIEW = """
import sys
from datumaro.components.annotation import Bbox
from datumaro.components.dataset import Dataset
data = Dataset.import_from(sys.argv[1], "cvat")
for item in list(data):
    boxes = sorted(item.annotations, key=lambda box: box.x)
    if item.id == "a/1":
        first = boxes[0]
        moved = Bbox(12, 10, 38, 30, label=first.label, attributes=first.attributes)
        data.put(item.wrap(annotations=[moved]))
data.export(sys.argv[2], "cvat", save_media=False)
"""


def test_what_datumaro_writes_for_cvat_is_read_back(run: Run) -> None:
    if find_spec("datumaro") is None:
        pytest.skip("datumaro is not installed")
    xml_of(run)
    folders = [str(run.path.parent / name) for name in ("cvat", "written")]
    child = subprocess.run([sys.executable, "-c", REVIEW, *folders], capture_output=True, text=True)
    assert child.returncode == 0, child.stdout + child.stderr
    (written,) = Path(folders[1]).rglob("*.xml")
    moved = ReviewedBox(1, "a/1.jpg", "dog", 12.0, 10.0, 38.0, 30.0, "correct")
    assert read_review(written, run).boxes == [
        moved,
        as_mined(2, "nothing"),
        as_mined(3, "correct"),
        as_mined(4, "correct"),
    ]
