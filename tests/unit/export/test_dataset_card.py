"""The dataset card of an export: figures, what is known of the quality, and text that is only text."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from mining.errors import InputError
from mining.evaluation import score_run, write_scores
from mining.export import export
from mining.export.card_text import plain, without_folders
from mining.export.licences import hub_licence
from mining.quality.corrected_run import apply_verdicts
from mining.quality.recording import record_verdicts
from mining.quality.verdicts import VERDICTS_FILE
from mining.storage.files import sha256_of
from tests.unit.export.conftest import Painted, SmallRun, write_run
from tests.unit.export.test_validation import true_boxes, truth_file
from tests.unit.quality.small_run import SmallRun as Corrected
from tests.unit.quality.test_audit import fill, mined_run, planned, truth
from tests.unit.quality.test_whole_images import planned as plan_of_images
from tests.unit.quality.test_whole_images import record

TRAINING_FORMATS = ("coco", "yolo", "voc", "hf")


def card(run: Path, folder: Path, format: str = "coco", **options: object) -> str:
    export(run, format, folder, **options)
    return (folder / "README.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, text
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the tables in a part of a card, without their headers."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return cells[1:]


def change(run: Path, **values: Any) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **values}))


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", TRAINING_FORMATS)
def test_the_counts_are_those_of_the_set(format: str, listed_run: SmallRun, tmp_path: Path) -> None:
    truth = truth_file(tmp_path, true_boxes(listed_run))
    folder = tmp_path / "out"
    summary = export(listed_run.folder, format, folder, val_truth=truth)
    text = (folder / "README.md").read_text()
    held_out = "validation" if format == "hf" else "val"
    true = 5 if format in ("coco", "voc") else 4  # the others leave out the box that is to be ignored
    assert rows(section(text, "Contents")) == [
        ["train", "mined", "8", "8", "0"], [held_out, "true", "4", str(true), "0"], ["all", "", "12", str(8 + true), "0"],
    ]  # fmt: skip
    assert summary.boxes == 8 + true
    assert [row[:2] for row in rows(section(text, "Sources of the boxes"))] == [["label", "8"], ["truth", str(true)]]
    classes = rows(section(text, "Classes"))
    assert sum(int(row[-2]) for row in classes) == summary.boxes
    assert classes[0][:-2] == {"coco": ["dog", "1"], "voc": ["dog"]}.get(format, ["dog", "0"])


def test_images_without_a_box_and_classes_are_counted(small_run: SmallRun, tmp_path: Path) -> None:
    text = card(small_run.folder, tmp_path / "out", val_share=0, min_score=0.6)
    assert rows(section(text, "Contents")) == [["train", "mined", "8", "8", "1"]]
    assert rows(section(text, "Classes")) == [
        ["dog", "1", "4", "4"], ["cat &amp; &lt;mouse&gt;", "3", "4", "4"]
    ]  # fmt: skip


def test_the_sources_of_boxes_are_counted(tmp_path: Path) -> None:
    boxes = [(1, 1, 1, 20, 20, 0.9), (3, 30, 1, 20, 20, 0.8)]
    run = write_run(tmp_path, [Painted("a.jpg", tuple(boxes)), Painted("b.jpg", (boxes[0],))]).folder
    path = run / "annotations.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("source")
    sources = pa.array(["prediction", "human", "prediction"])
    pq.write_table(table.set_column(place, table.schema.field("source"), sources), path)
    text = card(run, tmp_path / "out", val_share=0)
    assert [row[:3] for row in rows(section(text, "Sources of the boxes"))] == [
        ["prediction", "2", "66.7 %"], ["human", "1", "33.3 %"]
    ]  # fmt: skip
    assert rows(section(text, "Contents"))[0][1] == "human, mined"
    assert "1 box was drawn, moved or renamed by people." in text
    assert "2 boxes have a class that the model predicted" in section(text, "Known kinds of failure")


# --- quality ---------------------------------------------------------------------------------------------------------


def test_nobody_has_looked_yet(small_run: SmallRun, tmp_path: Path) -> None:
    quality = section(card(small_run.folder, tmp_path / "out"), "How good the boxes are")
    assert "Nobody has looked at a sample of these boxes yet" in quality
    assert "`boxmine audit RUN`" in quality
    assert "|" not in quality


def test_verdicts_give_the_precision_of_the_run_and_of_the_exported_boxes(tmp_path: Path) -> None:
    run = mined_run(tmp_path)
    record_verdicts(run, fill(planned(run, verdicts=120), truth), "Ada Lovelace")
    text = card(run, tmp_path / "out", min_score=0.5)
    assert rows(section(text, "How good the boxes are")) == [
        ["precision of all 120 boxes of the run", "25.0 %", "25.0 to 25.0 %", "120 verdicts"],
        ["precision of the 30 boxes that score 0.5 or more", "100.0 %", "100.0 to 100.0 %", "30 verdicts"],
    ]
    assert "judged by 1 person: 30 correct, 90 wrong place" in text
    assert "Ada" not in text
    assert rows(section(text, "Classes"))[0][-1].startswith("50.0 %")
    failures = section(text, "Known kinds of failure")
    assert "Of 120 verdicts on boxes drawn at random, these were faults: 90 at a wrong place." in failures
    assert "less precise than those of all classes together: cat &amp; &lt;mouse&gt;." in failures


def test_a_precision_that_chose_the_boxes_is_not_estimated_again(tmp_path: Path) -> None:
    run = mined_run(tmp_path)
    record_verdicts(run, fill(planned(run, verdicts=120), truth), "Ada")
    text = card(run, tmp_path / "out", min_precision=0.6)
    quality = section(text, "How good the boxes are")
    assert [row[0] for row in rows(quality)] == ["precision of all 120 boxes of the run"]
    assert "at least 0.6 with 95 % confidence" in quality
    assert "at least 0.6" not in section(text, "Before training")
    assert ["promised precision", "0.6"] in rows(section(text, "How the boxes were made"))


def test_verdicts_that_are_missing_are_counted(tmp_path: Path) -> None:
    run = mined_run(tmp_path)
    planned(run, verdicts=40)
    quality = section(card(run, tmp_path / "out"), "How good the boxes are")
    assert "40 boxes of the draw had no verdict yet." in quality
    assert "Nobody has looked" in quality


def test_damaged_verdicts_stop_the_export(tmp_path: Path) -> None:
    run = mined_run(tmp_path)
    (run / VERDICTS_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=VERDICTS_FILE):
        export(run, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_are_stated_with_the_name_of_the_ground_truth(listed_run: SmallRun, tmp_path: Path) -> None:
    path = truth_file(tmp_path, true_boxes(listed_run))
    scores = score_run(listed_run.folder, path)
    write_scores(listed_run.folder, scores)
    text = card(listed_run.folder, tmp_path / "out")
    found = {row[0].split()[0]: row for row in rows(section(text, "How good the boxes are"))}
    assert found["precision"][1] == f"{100 * scores['precision']['value']:.1f} %"
    assert found["CorLoc"][1] == f"{100 * scores['corloc']['value']:.1f} %"
    assert {row[3] for row in found.values()} == {"ground truth truth.json"}
    assert "Nobody has looked" not in text
    assert str(tmp_path) not in text


def test_whole_images_give_the_recall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = Corrected(tmp_path / "run")
    for number in range(10):
        add_photo(small, f"{number}.png", number)
    run = small.write().path
    record(run, plan_of_images(run, recall=True, images=10))  # each image has a found cat and a missed cow
    found = rows(section(card(run, tmp_path / "out"), "How good the boxes are"))
    assert found[-1][0].startswith("recall: share of the objects in the 10 images of the run")
    assert found[-1][1:] == ["50.0 %", "50.0 to 50.0 %", "10 images looked at whole"]


def test_the_precision_of_a_version_of_a_label_store_is_stated(small_run: SmallRun, tmp_path: Path) -> None:
    change(small_run.folder, precision={"value": 0.9, "ci95": [0.81, 0.95], "verdicts": 40})
    found = rows(section(card(small_run.folder, tmp_path / "out"), "How good the boxes are"))
    assert [row[1:] for row in found] == [["90.0 %", "81.0 to 95.0 %", "40 verdicts"]]


def add_photo(small: Corrected, name: str, grey: int, category: str = "cat") -> None:
    photo = small.path.parent / "photos" / name
    photo.parent.mkdir(exist_ok=True)
    Image.new("RGB", (100, 100), (grey, 0, 0)).save(photo)
    small.hashes[name] = sha256_of(photo)
    small.boxes.append((name, category, (10, 10, 20, 20), {}))


def test_corrections_of_people_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the run's images are
    small = Corrected(tmp_path / "run")
    for number, category in enumerate(("cat", "cat", "dog")):
        add_photo(small, f"{number}.png", number, category)
    run = small.write().path
    verdicts = iter(("correct", "nothing", "correct"))
    record_verdicts(run, fill(planned(run, verdicts=3), lambda _: next(verdicts)), "Ada")
    apply_verdicts(run, tmp_path / "corrected")
    found = section(card(tmp_path / "corrected", tmp_path / "out"), "Corrected by people")
    assert "2 confirmed, 1 rejected and removed, 0 moved or renamed, 0 added" in found
    assert "Corrected by people" not in card(run, tmp_path / "other")


# --- origin ----------------------------------------------------------------------------------------------------------


def test_model_settings_and_date_are_those_of_the_run(small_run: SmallRun, tmp_path: Path) -> None:
    config = json.loads((small_run.folder / "run.json").read_text())["config"]
    change(
        small_run.folder, finished="2020-02-03T04:05:06+00:00", versions={"boxmine": "0.0.7"},
        inputs={"model_sha256": "ab" * 32}, used={"localizer": "cam", "threshold": 0.45, "scales": [1.0, 1.5]},
        config={**config, "merge": "wbf", "threshold": None, "max_area": 0.9, "model": "/secret/place/model"},
    )  # fmt: skip
    text = card(small_run.folder, tmp_path / "out", min_score=0.3, seed=7)
    found = {row[0]: row[1] for row in rows(section(text, "How the boxes were made")) if len(row) == 2}
    expected = {
        "written with": "boxmine 0.0.7", "date": "2020-02-03T04:05:06+00:00", "localizer": "cam", "backbone": "x",
        "SHA-256 of the model's weights": "ab" * 32, "threshold": "0.45", "scales": "1, 1.5", "merge": "wbf",
        r"max\_area": "0.9", "minimum score of a box": "0.3",
        "split": "drawn by file name: 0.1 for validation, seed 7",
    }  # fmt: skip
    assert found.items() >= expected.items()
    assert "secret" not in text


def test_a_pretrained_model_is_named(small_run: SmallRun, tmp_path: Path) -> None:
    config = json.loads((small_run.folder / "run.json").read_text())["config"]
    change(small_run.folder, config={**config, "model": "pretrained:resnet50", "weights": "/srv/models/best.pt"})
    found = rows(section(card(small_run.folder, tmp_path / "out"), "How the boxes were made"))
    assert ["model", "pretrained:resnet50"] in found
    assert ["weights", "best.pt"] in found


@pytest.mark.parametrize("format", TRAINING_FORMATS)
def test_the_card_is_the_same_each_time_and_names_no_folder(format: str, small_run: SmallRun, tmp_path: Path) -> None:
    warning = f"All boxes are alike. See {small_run.folder}/report/index.html and /srv/somebody/notes.txt."
    change(small_run.folder, warnings=[warning], finished="2020-02-03T04:05:06+00:00")
    cards = [card(small_run.folder, tmp_path / name, format, val_share=0.3) for name in ("one", "two")]
    assert cards[0] == cards[1]
    assert str(tmp_path) not in cards[0]
    assert "/srv" not in cards[0]
    assert "See run/report/index.html and notes.txt." in section(cards[0], "Known kinds of failure")


def test_boxes_of_the_whole_image_and_several_of_a_class_are_counted(tmp_path: Path) -> None:
    images = [
        Painted("whole.jpg", ((1, 0, 0, 60, 39, 0.9),)),
        Painted("two.jpg", ((1, 0, 0, 20, 20, 0.9), (1, 30, 10, 20, 20, 0.8))),
        Painted("both.jpg", ((1, 0, 0, 20, 20, 0.9), (3, 30, 10, 20, 20, 0.8))),
    ]
    failures = section(card(write_run(tmp_path, images).folder, tmp_path / "out"), "Known kinds of failure")
    assert "1 box covers 95 % of the image or more (20.0 %)" in failures
    assert "1 image has several boxes of one class." in failures


# --- text ------------------------------------------------------------------------------------------------------------

HOSTILE = (
    "a|b", "<script>alert(1)</script>", "[x](javascript:1)", "![i](https://example.org/x.png)", "https://example.org",
    "`c`|", "_x_ **y** ~~z~~", "\\", "\\|", "<!-- ", "&lt;b&gt;", "# head", "me@example.org", "猫 naïve",
)  # fmt: skip


def tokens(text: str) -> list[str]:
    return [
        one.type
        for block in MarkdownIt("gfm-like", {"linkify": False}).parse(text)
        for one in (block, *(block.children or ()))
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_as_it_is(name: str) -> None:
    line = f"| {plain(name)} | end |"
    page = MarkdownIt("gfm-like", {"linkify": False}).parse(f"| a | b |\n|---|---|\n{line}\n")
    cells = [one for one in page if one.type == "inline"]
    shown = ["".join(part.content for part in one.children or ()) for one in cells]
    assert shown == ["a", "b", name.strip(), "end"]
    assert {part.type for one in cells for part in one.children or ()} <= {"text", "text_special"}


def test_what_cannot_be_seen_is_left_out() -> None:
    assert plain("a\n\n## b\u202e\x00\u2028c") == "a \\#\\# b c"
    assert plain("\u0645\u06cc\u200c\u0631") == "\u0645\u06cc\u200c\u0631"  # a joiner that the word is written with


@pytest.mark.parametrize("format", TRAINING_FORMATS)
def test_names_of_classes_runs_and_licences_add_no_markup(format: str, listed_run: SmallRun, tmp_path: Path) -> None:
    usual = tokens(card(listed_run.folder, tmp_path / "usual", format, license="x"))
    evil = "| <img src=x> [a](b)\n# c `d` **e**"
    model = listed_run.folder / "model" / "model.json"
    values = json.loads(model.read_text())
    values["classes"][0]["name"] = evil
    model.write_text(json.dumps(values))
    change(listed_run.folder, name=evil)
    text = card(listed_run.folder, tmp_path / "evil", format, license=evil)
    kinds = [one for one in tokens(text) if one != "text_special"]
    assert [one for one in kinds if one != "text"] == [one for one in usual if one not in ("text", "text_special")]
    assert "<img" not in text.split("---\n\n#")[-1]


def test_folders_are_left_out_of_sentences() -> None:
    text = "see /srv/a b/run/x.json and /var/y/z.txt, cats and/or dogs, 3/4, s3://bucket/key"
    assert without_folders(text, ["/srv/a b/run"]) == "see run/x.json and z.txt, cats and/or dogs, 3/4, s3://bucket/key"


# --- licence ---------------------------------------------------------------------------------------------------------


def test_an_unknown_licence_is_to_be_filled_in(small_run: SmallRun, tmp_path: Path) -> None:
    found = section(card(small_run.folder, tmp_path / "out"), "Licence")
    assert found.startswith("license: unknown\n")
    assert "Fill it in before you pass the set on" in found
    known = section(card(small_run.folder, tmp_path / "known", license="CC-BY-4.0"), "Licence")
    assert known == "license: CC-BY-4.0\n"


@pytest.mark.parametrize(
    ("license", "fields"),
    [
        (None, {"license": "unknown"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("Our terms: 1", {"license": "other", "license_name": "our-terms-1"}),
    ],
)
def test_the_head_of_a_hugging_face_card_is_right(
    license: str | None, fields: dict[str, Sequence[str]], small_run: SmallRun, tmp_path: Path
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    text = card(small_run.folder, tmp_path / "out", "hf", val_share=0.5, license=license)
    loaded = hub.DatasetCard(text)
    data = loaded.data.to_dict()
    assert data.items() >= fields.items()
    assert data["task_categories"] == ["object-detection"]
    assert data["size_categories"] == ["n<1K"]
    assert [one["path"] for one in data["configs"][0]["data_files"]] == ["train/**", "validation/**"]
    assert loaded.text.lstrip().startswith("# Pseudo-annotations of the run small")
    assert yaml.safe_load(text.split("---\n")[1]).items() >= fields.items()
    assert hub_licence(license) == fields
