"""Which pictures the gallery shows, and by what they are chosen."""

import json
from pathlib import Path
from typing import Any

import pytest

from mining.quality.judgements import Judgement
from mining.quality.verdicts import open_verdicts
from mining.reporting import gallery
from mining.reporting.report_page import write_report
from mining.runs.run import Run
from tests.unit.reporting.conftest import CLASSES, Mined, Page, mine


def judge(run: Path, *verdicts: Any) -> list[dict[str, Any]]:
    rows = Run(run).read_annotations().to_pylist()[: len(verdicts)]
    with open_verdicts(run) as store:
        store.record(
            Judgement(
                "", "random", row["annotation_id"], row["file_name"], None, row["category"], row["x"], row["y"],
                row["w"], row["h"], verdict, None, None, None, None, None, "Ada", "2026-01-01",
            )
            for row, verdict in zip(rows, verdicts, strict=True)
        )  # fmt: skip
    return rows


def tiles(run: Path, **options: Any) -> list[dict[str, Any]]:
    page = Page(write_report(run, **options).read_text(encoding="utf-8"))
    return page.of("figure", "tile")


def test_verdicts_are_what_pictures_are_chosen_by(mined: Mined) -> None:
    rows = judge(mined.run, "too_large")
    shown = tiles(mined.run)
    said = [one for one in shown if one["data-verdicts"] == "too_large"]
    assert [json.loads(one["data-classes"]) for one in said] == [[rows[0]["category"]]]
    assert {one["data-verdicts"] for one in shown} == {"too_large", "not_judged"}
    page = mined.page()
    assert "judged too large" in page.text
    options = [one["value"] for one in page.of("option")]
    assert "too_large" in options
    assert "wrong_class" not in options, "nobody said so"


def test_without_verdicts_there_is_no_such_filter(mined: Mined) -> None:
    write_report(mined.run)
    page = mined.page()
    assert "not_judged" not in [one.get("value") for one in page.of("option")]
    assert [one["name"] for one in page.of("select")] == ["class", "state", "kind"]


def test_judged_boxes_that_are_not_shown_otherwise_are_added(mined: Mined, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(mined.run, *["correct"] * len(Run(mined.run).read_annotations()))
    monkeypatch.setattr(gallery, "MAX_TILES", 3)
    shown = tiles(mined.run)
    kinds = [one["data-kind"] for one in shown]
    assert kinds.count("judged") == gallery.MAX_JUDGED or len(shown) == 5, "all pairs of the run are five"
    assert len({(one["data-classes"], one["data-score"]) for one in shown}) == len(shown)
    monkeypatch.setattr(gallery, "MAX_JUDGED", 1)
    assert [one["data-kind"] for one in tiles(mined.run)].count("judged") == 1


def test_images_without_a_box_are_shown_with_their_classes(
    mined: Mined, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = mine(mined.images.parent, model, "empty", min_score=1.0)
    shown = tiles(run)
    assert [one["data-state"] for one in shown] == ["low_score"] * 5
    assert sorted(json.loads(one["data-classes"])[0] for one in shown) == sorted([CLASSES[0]] * 3 + ["dog"] * 2)
    assert {(one["data-score"], one["data-verdicts"]) for one in shown} == {("", "")}
    page = Mined(run, mined.images, mined.truth).page()
    assert "Images without a box 5 of 5 images" in page.text
    assert page.of("img", "heat"), "their maps say why"
    assert "listed: dog" in page.text
    monkeypatch.setattr(gallery, "MAX_UNBOXED", 2)
    assert len(tiles(run)) == 2


def test_an_image_that_was_missed_is_not_shown_again_as_one_without_a_box(mined: Mined, model: Path) -> None:
    run = mine(mined.images.parent, model, "empty", min_score=1.0)
    names = Page(write_report(run, mined.truth).read_text(encoding="utf-8"))
    alts = [one["alt"] for one in names.of("img") if one["alt"]]
    assert len(alts) == len(set(alts)) == 5
    assert [one["data-kind"] for one in names.of("figure", "tile")].count("missed") > 0


def test_the_page_says_how_much_of_the_run_it_shows(mined: Mined) -> None:
    write_report(mined.run, per_class=1)
    text = mined.page().text
    count = len(mined.page().of("figure", "tile"))
    assert f"{count} pictures of 6 images." in " ".join(text.split())
    assert "could not be used (1)" in text


def test_of_an_image_without_labels_the_map_of_the_most_probable_class_is_drawn(mined: Mined, model: Path) -> None:
    run = mine(mined.images.parent, model, "empty", min_score=1.0, labels="none", class_cut=0.0)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    ranked = Run(run).read_rankings().to_pylist()
    first = {row["image_id"]: dict(Run(run).classes)[row["category_ids"][0]] for row in ranked}
    rows = Run(run).read_corpus(["image_id", "state"]).to_pylist()
    guessed = [first[row["image_id"]] for row in rows if row["state"] == "low_score"]
    assert len(guessed) == 5
    for name in set(guessed):
        assert page.text.count(f"classes not known; map of {name}, the most probable") == guessed.count(name)
    assert len(page.of("img", "heat")) == len(page.of("figure", "tile"))
