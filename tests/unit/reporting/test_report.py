"""The report page: complete, self-contained, escaped, and explicit about what is not known."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mining.config import CompareSettings, ScoreSettings
from mining.errors import InputError, RunError, ScoringError
from mining.evaluation import job as evaluation_job
from mining.evaluation.job import score
from mining.evaluation.run_comparison import compare_runs
from mining.reporting import comparison_page, gallery
from mining.reporting.report_page import write_report
from mining.reporting.summary_text import define_score
from mining.runs.run import Run
from mining.storage.ownership import temporary_path
from tests.unit.reporting.conftest import CLASSES, NASTY, Mined, Page, mine


def test_nothing_is_fetched_and_only_its_own_script_is_run(mined: Mined):
    write_report(mined.run, mined.truth)
    page = mined.page()
    assert not re.search(r"https?:|//[a-z]|url\(", re.sub(r"data:[^\"]+", "", page.html))
    assert page.of("link") == page.of("iframe") == []
    assert page.of("script") == [{}]
    script = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = str(next(one["content"] for one in page.of("meta") if "http-equiv" in one))
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert all(str(image["src"]).startswith("data:image/") for image in page.of("img"))
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_what_a_killed_report_left_is_deleted_by_the_next_one(mined: Mined):
    report = mined.run / "report"
    (report / "charts").mkdir(parents=True, exist_ok=True)
    left = [temporary_path(path) for path in (report / "charts" / "iou.svg", report / "index.html")]
    of_comparison = temporary_path(report / "against-first.html")  # maybe being written now
    for path in (*left, of_comparison):
        path.write_text("half")
    write_report(mined.run, mined.truth)
    assert [path for path in left if path.exists()] == []
    assert of_comparison.exists()
    of_comparison.unlink()


def test_names_that_hold_html_are_text(mined: Mined):
    write_report(mined.run, mined.truth)
    page = mined.page()
    assert NASTY in page.text
    assert CLASSES[0] in page.text
    assert page.html.count("<script") == 1
    assert "<script>alert" not in page.html
    assert "<b>mouse" not in page.html
    assert CLASSES[0] in [one.get("value") for one in page.of("option")]
    assert CLASSES[0] in [one.get("data-class") for one in page.of("a")]
    assert [CLASSES[0]] in [json.loads(str(one["data-classes"])) for one in page.of("figure", "tile")]


@pytest.mark.parametrize(
    ("options", "cut", "line"),
    [
        ({"threshold": 0.3}, "boxes cut where a map reaches 0.3 of its range.", "threshold 0.3"),
        ({"threshold": "otsu"}, "boxes cut at each map's own threshold (otsu).", "threshold"),
        (
            {"class_thresholds": {"dog": 0.4, CLASSES[0]: 0.2}},
            "boxes cut at a threshold per class, 0.2 to 0.4 of a map's range.",
            "threshold",
        ),
    ],
)
def test_the_page_says_where_maps_were_cut(
    mined: Mined, model: Path, tmp_path: Path, options: dict[str, Any], cut: str, line: str
):
    run = mine(tmp_path, model, "other", **options)
    evaluation_job.score(ScoreSettings(run=run, truth=mined.truth))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert cut in page.text
    assert f"white line: {line}\n" in page.text
    assert all(str(one["d"]).startswith("M") for one in page.of("path")), "what reaches the threshold is outlined"


@pytest.mark.parametrize(
    ("used", "described"),
    [({"refine": "cells"}, "mean probability"), ({"refine": "walk"}, "peak of its activation map"), ({}, "peak of")],
)
def test_the_score_is_described_as_it_was_computed(used: dict[str, str], described: str):
    assert described in define_score({"used": used})


@pytest.mark.parametrize(
    ("refine", "words"), [("walk", ", refined by the affinity walk;"), ("none", "at scale 1; boxes")]
)
def test_the_page_says_how_maps_were_refined(mined: Mined, model: Path, tmp_path: Path, refine: str, words: str):
    page = Page(write_report(mine(tmp_path, model, "other", refine=refine)).read_text(encoding="utf-8"))
    assert words in page.text


def test_without_ground_truth_the_page_says_that_quality_is_unknown(mined: Mined):
    assert write_report(mined.run) == mined.run / "report" / "index.html"
    page = mined.page()
    assert "not been scored against true boxes" in page.text
    assert "not probabilities" in page.text
    assert page.of("i", "mined")
    assert not page.of("i", "true")
    assert "IoU 0" not in page.text


def test_photos_and_maps_are_pictures_of_the_stated_size(mined: Mined):
    write_report(mined.run)
    photos = [image for image in mined.page().of("img") if "heat" not in (image.get("class") or "")]
    decoded = [Image.open(io.BytesIO(base64.b64decode(str(one["src"]).partition(",")[2]))) for one in photos]
    assert {one.format for one in decoded} == {"JPEG"}
    assert {one.size for one in decoded} == {(128, 96)}
    assert all(str(one["alt"]).startswith("Photo ") for one in photos)
    assert len(mined.page().of("img", "heat")) == len(photos)


def test_true_boxes_are_drawn_where_they_are(mined: Mined):
    write_report(mined.run, mined.truth)
    true = mined.page().of("i", "true")
    assert true
    assert {one["style"] for one in true} == {"left:23.44%;top:20.83%;width:46.88%;height:52.08%"}


def test_a_scored_run_shows_its_scores_and_finds_the_truth_again(mined: Mined):
    score(ScoreSettings(run=mined.run, truth=mined.truth))
    write_report(mined.run)
    page = mined.page()
    assert "All figures come from the ground truth truth.json" in page.text
    assert "Baseline: the whole image" in page.text
    assert page.of("i", "true")


def test_a_scored_run_has_its_charts_on_the_page_and_beside_it(mined: Mined):
    score(ScoreSettings(run=mined.run, truth=mined.truth))
    write_report(mined.run)
    plots = mined.page().of("img", "plot")
    assert [str(one["alt"]).split()[0] for one in plots] == ["CorLoc", "How", "Which", "How"]
    folder = mined.run / "report" / "charts"
    names = {"threshold", "iou", "size", "precision"}
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    for name in names:
        assert Image.open(folder / f"{name}.png").size == (672, 408)
        drawn = (folder / f"{name}.svg").read_bytes()
        assert any(base64.b64encode(drawn).decode() in str(one["src"]) for one in plots)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    write_report(mined.run)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before, "the same scores, the same files"
    assert "By the number of true boxes" in mined.page().text


def test_scores_of_an_earlier_version_have_a_page_without_charts(mined: Mined):
    score(ScoreSettings(run=mined.run, truth=mined.truth))
    scores = json.loads((mined.run / "scores.json").read_text())
    for name in ("charts", "thresholds", "localization", "voc", "breakdown", "sha256"):
        del scores[name]
    (mined.run / "scores.json").write_text(json.dumps(scores))
    write_report(mined.run)
    assert not mined.page().of("img", "plot")
    assert "CorLoc at IoU 0.7" in mined.page().text


def test_a_truth_that_has_changed_since_is_not_drawn(mined: Mined):
    score(ScoreSettings(run=mined.run, truth=mined.truth))
    mined.truth.write_text(mined.truth.read_text() + "\n")
    write_report(mined.run)
    assert not mined.page().of("i", "true")


def test_a_truth_of_other_images_ranks_nothing(mined: Mined, tmp_path: Path):
    content = json.loads(mined.truth.read_text())
    for image in content["images"]:
        image["file_name"] = f"other/{image['id']}.jpg"
    (tmp_path / "other.json").write_text(json.dumps(content))
    write_report(mined.run, tmp_path / "other.json")
    assert "none of this run's images" in mined.page().text
    assert mined.page().of("figure", "tile")


def test_quarantined_images_are_listed_with_their_reasons(mined: Mined):
    write_report(mined.run)
    assert "Images that could not be used 1 image" in mined.page().text
    assert "not an image in a supported format" in mined.page().text


def test_a_run_without_boxes_has_a_page(mined: Mined, model: Path):
    run = mine(mined.images.parent, model, "empty", min_score=1.0)
    write_report(run)
    text = Mined(run, mined.images, mined.truth).page().text
    assert "The run has no boxes;" in text
    assert "regions were found, but all scored below the minimum score" in text


def test_a_run_without_boxes_shows_what_the_truth_has(mined: Mined, model: Path):
    run = mine(mined.images.parent, model, "empty", min_score=1.0)
    score(ScoreSettings(run=run, truth=mined.truth))
    write_report(run)
    page = Mined(run, mined.images, mined.truth).page()
    assert "missed" in page.text
    assert page.of("i", "true")
    assert not page.of("i", "mined")


def test_an_image_that_went_away_is_left_out_and_named(mined: Mined):
    (mined.images / "b.jpg").unlink()
    write_report(mined.run)
    assert "1 picture could not be drawn" in mined.page().text
    assert "b.jpg: can no longer be opened" in mined.page().text


def test_without_any_image_the_page_says_why_it_has_no_picture(mined: Mined):
    shutil.rmtree(mined.images)
    write_report(mined.run)
    page = mined.page()
    assert "No picture could be drawn." in page.text
    assert page.of("li", "card")
    assert not page.of("form"), "nothing to filter"


def test_without_the_weights_the_photos_are_still_shown(mined: Mined):
    (mined.run / "model" / "weights.safetensors").unlink()
    write_report(mined.run)
    assert "Activation maps are not shown:" in mined.page().text
    assert mined.page().of("i", "mined")
    assert not mined.page().of("img", "heat")


def test_few_classes_are_shown_when_few_are_requested(mined: Mined):
    write_report(mined.run, per_class=1, max_classes=1)
    page = mined.page()
    assert "the class with most boxes, of 2" in page.text
    assert len([one for one in page.of("section", "group") if "data-state" not in one]) == 1
    assert 1 <= len(page.of("figure", "tile")) <= 3


def test_pictures_stay_below_the_most_a_page_holds(mined: Mined, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gallery, "MAX_TILES", 3)
    write_report(mined.run)
    assert len(mined.page().of("figure", "tile")) <= 3


def test_an_unfinished_run_is_refused_and_has_no_page(mined: Mined):
    record = json.loads((mined.run / "run.json").read_text())
    (mined.run / "run.json").write_text(json.dumps({**record, "state": "stopped"}))
    with pytest.raises(RunError, match="not finished"):
        write_report(mined.run)
    assert not (mined.run / "report").exists()


def test_damaged_scores_are_refused_with_the_remedy(mined: Mined):
    (mined.run / "scores.json").write_text("{")
    with pytest.raises(RunError, match="boxmine score"):
        write_report(mined.run)


def test_a_missing_truth_is_refused(mined: Mined, tmp_path: Path):
    with pytest.raises(ScoringError, match="no ground truth file"):
        write_report(mined.run, tmp_path / "nowhere.json")


# --- against an earlier run ------------------------------------------------------------------------------------------


def test_a_run_is_compared_with_an_earlier_one(mined: Mined, model: Path):
    run = mine(mined.images.parent, model, "second", threshold=0.9)
    page = Page(write_report(run, against=mined.run).read_text(encoding="utf-8"))
    section = page.html.split('<section id="drift"')[1].split("</section>")[0]
    assert '<h2 id="drift-heading">Against run</h2>' in section
    assert "too few to say what chance does" in section
    before, after = (Run(path).record["counts"]["boxes"] for path in (mined.run, run))
    assert f"Before: run, {before} boxes on 6 images. Now: {after} boxes on 6 images." in " ".join(section.split())
    settings = section.split("Settings that differ")[1]
    assert re.findall(r'<th scope="row">(\w+)</th>', settings) == ["threshold"], "not the folder of the run"
    assert "#drift" in [one.get("href") for one in page.of("a")]
    assert 'id="drift"' not in write_report(run).read_text(encoding="utf-8")


def test_of_two_runs_of_one_name_the_folders_are_named(mined: Mined, tmp_path: Path):
    shutil.copytree(mined.run, tmp_path / "monday" / "run")
    page = write_report(mined.run, against=tmp_path / "monday" / "run").read_text(encoding="utf-8")
    assert "Against monday/run" in page


def test_a_run_is_not_compared_with_itself_or_an_unfinished_one(mined: Mined, other: Path):
    with pytest.raises(InputError, match="is the run itself"):
        write_report(mined.run, against=mined.run / ".." / "run")
    Run(other).update(state="stopped")
    with pytest.raises(RunError, match="not finished"):
        write_report(mined.run, against=other)
    assert not (mined.run / "report").exists()


# --- two runs side by side -------------------------------------------------------------------------------------------


@pytest.fixture
def other(mined: Mined, model: Path) -> Path:
    """Another run of the same images, its maps cut elsewhere."""
    return mine(mined.images.parent, model, "other", threshold=0.9)


HIGHER, LOWER, UNCLEAR = (0.02, 0.2), (-0.2, -0.02), (-0.02, 0.2)


@pytest.mark.parametrize(
    ("corloc", "recall", "sentence"),
    [
        (
            UNCLEAR,
            HIGHER,
            "The second run is better: +9.0 points of CorLoc, +11.0 of recall at one false box per image; the second is more",
        ),
        (
            LOWER,
            UNCLEAR,
            "The second run is worse: -11.0 points of CorLoc, +9.0 of recall at one false box per image; the first is more",
        ),
        (HIGHER, HIGHER, "+11.0 of recall at one false box per image; both are more than chance explains."),
        (HIGHER, LOWER, "The second run is better in one figure and worse in the other: +11.0 points of CorLoc, -11.0"),
        (UNCLEAR, UNCLEAR, "No clear difference: the 95 % intervals of both differences"),
    ],
)
def test_the_comparison_says_which_run_is_better_by_both_figures(
    mined: Mined, other: Path, tmp_path: Path, corloc: tuple[float, float], recall: tuple[float, float], sentence: str
):
    comparison = compare_runs(mined.run, other, mined.truth, resamples=10)
    for name, (low, high) in (("corloc_0.5", corloc), ("instance_recall_at_1_fp", recall)):
        comparison.summary["truth"][name] |= {
            "difference": (low + high) / 2, "ci95": [low, high], "is_clear": low > 0 or high < 0,
        }  # fmt: skip
    path = comparison_page.write_comparison(mined.run, other, comparison, mined.truth, tmp_path / "page.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert sentence in " ".join(page.text.split())
    assert "Recall at 1 FP" in page.text


def compared(first: Path, second: Path, **options: Any) -> tuple[Page, Path]:
    _, path = comparison_page.compare(CompareSettings(first=first, second=second, **options))
    return Page(path.read_text(encoding="utf-8")), path


def test_two_runs_are_shown_side_by_side(mined: Mined, other: Path):
    page, path = compared(mined.run, other, truth=mined.truth)
    assert path == other / "report" / f"against-{mined.run.name}.html"
    assert "threshold" in page.text
    assert NASTY not in page.html
    assert "<script" not in page.html
    assert all(str(image["src"]).startswith("data:image/") for image in page.of("img"))
    kinds = re.findall(r'<span class="kind">(\w+)</span>', page.html)
    assert set(kinds) <= {"first", "second"}
    assert kinds.count("first") == kinds.count("second")
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} <= {"better", "worse", "right", "wrong"}
    assert rows


def test_without_a_truth_the_page_says_that_it_shows_only_changes(mined: Mined, other: Path, tmp_path: Path):
    page, path = compared(mined.run, other, out=tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert "not what got better" in page.text
    assert page.of("figure", "tile")


def test_the_truth_that_a_run_was_scored_against_is_found(mined: Mined, other: Path):
    score(ScoreSettings(run=mined.run, truth=mined.truth))
    assert "from the ground truth truth.json" in compared(mined.run, other)[0].text


def test_an_unfinished_run_is_not_compared(mined: Mined, other: Path):
    record = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**record, "state": "stopped"}))
    with pytest.raises(RunError, match="is not finished"):
        compared(mined.run, other)
