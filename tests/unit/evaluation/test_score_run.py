"""Scoring a run directory: how names are matched, and the content of scores.json."""

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.errors import RunError, ScoringError
from mining.evaluation import score_run, write_scores
from mining.reporting.score_rows import score_rows
from mining.runs.schema import RANKING_SCHEMA
from tests.unit.evaluation.conftest import World


def scored(world: World, **options: Any) -> dict[str, Any]:
    return score_run(*world.write(), **options)


def test_the_known_world_has_the_known_scores(world: World) -> None:
    scores = scored(world)
    corloc = scores["corloc"]
    assert (corloc["value"], corloc["pairs"], corloc["any_box"]) == (0.5, 4, 0.75)
    assert (corloc["at_0.3"], corloc["at_0.7"], corloc["macro"]) == (0.5, 0.25, 0.5)
    assert corloc["per_class"] == {"cat": {"value": 1.0, "pairs": 2}, "dog": {"value": 0.0, "pairs": 2}}
    assert scores["baselines"]["whole_image"] == 0.25
    assert scores["false_positives_per_image"] == pytest.approx(1 / 3)
    assert (scores["boxes"], scores["boxes_left_out"]) == (4, 0)
    assert scores["coco"]["per_class_AP50"]["cat"] == pytest.approx(1)


def test_the_interval_holds_the_value(world: World) -> None:
    corloc = scored(world)["corloc"]
    assert corloc["ci95"][0] <= corloc["value"] <= corloc["ci95"][1]


def test_the_definition_is_given_with_the_value(world: World) -> None:
    assert "best-scored predicted box" in scored(world)["corloc"]["definition"]


def test_perfect_boxes_score_1_everywhere(world: World) -> None:
    world.predicted = [(name, c, box, 0.9) for name, c, box, _ in world.truth]
    scores = scored(world)
    corloc = scores["corloc"]
    assert [corloc[k] for k in ("value", "macro", "at_0.3", "at_0.7", "any_box", "instance_recall")] == [1] * 6
    assert corloc["ci95"] == [1, 1]
    assert scores["coco"]["AP"] == pytest.approx(1)
    assert scores["false_positives_per_image"] == 0


def test_the_order_of_images_boxes_and_classes_changes_nothing(world: World) -> None:
    rng = random.Random(8)
    world.images = [f"{i}.jpg" for i in range(40)]
    box = lambda: [rng.uniform(0, 40), rng.uniform(0, 40), rng.uniform(20, 60), rng.uniform(20, 60)]  # noqa: E731
    world.truth = [(rng.choice(world.images), rng.choice(["cat", "dog"]), box(), {}) for _ in range(120)]
    world.predicted = [(name, c, box(), rng.random()) for name, c, _, _ in world.truth]
    shrinking = lambda side: lambda threshold: (0, 0, round(side * (1 - threshold)), side)  # noqa: E731
    world.curves = [(name, c, shrinking(rng.randint(20, 90))) for name, c in sorted({row[:2] for row in world.truth})]
    first = scored(world)
    assert 0 < first["thresholds"]["chosen"]["corloc"] < 1
    for column in (world.images, world.classes, world.model_classes, world.truth, world.predicted, world.curves):
        rng.shuffle(column)
    again = scored(world)
    assert first.pop("truth") != again.pop("truth")
    assert first == again


def test_empty_predictions_score_0(world: World) -> None:
    world.predicted = []
    scores = scored(world)
    assert (scores["corloc"]["value"], scores["coco"]["AP"], scores["boxes"]) == (0, 0, 0)
    assert scores["false_positives_per_image"] == 0


def test_difficult_pairs_are_not_counted(world: World) -> None:
    world.truth[3] = (*world.truth[3][:3], {"difficult": 1})
    assert scored(world)["corloc"]["pairs"] == 3


def test_a_box_on_a_difficult_object_is_no_false_positive(world: World) -> None:
    world.truth.append(("a.jpg", "dog", (0, 0, 20, 20), {"difficult": 1}))
    assert scored(world)["false_positives_per_image"] == 0


def test_a_truth_of_difficult_objects_only_has_no_corloc_and_says_so(world: World) -> None:
    world.truth = [(name, c, box, {"difficult": 1}) for name, c, box, _ in world.truth]
    scores = scored(world)
    assert scores["corloc"]["value"] is scores["corloc"]["ci95"] is scores["coco"]["AP"] is None
    assert "The truth has no countable box on the scored images, so CorLoc is not defined." in scores["notes"]


def test_images_outside_the_corpus_are_not_scored(world: World) -> None:
    world.corpus = ["a.jpg", "b.jpg", "x.jpg"]
    scores = scored(world)
    assert scores["corloc"]["pairs"] == 3
    assert scores["images"] == {
        "truth": 3,
        "corpus": 3,
        "scored": 2,
        "share_of_truth": pytest.approx(2 / 3),
        "share_of_corpus": pytest.approx(2 / 3),
    }
    assert "2 of the truth's 3 images (66.7%) are in the run's corpus, and are scored." in scores["notes"]
    assert "1 of the corpus' 3 images are not in the truth, and are not scored." in scores["notes"]


def test_boxes_outside_the_truth_are_left_out_and_counted(world: World) -> None:
    world.corpus = [*world.images, "x.jpg"]
    world.predicted.append(("x.jpg", "cat", (0, 0, 5, 5), 0.9))
    scores = scored(world)
    assert (scores["boxes"], scores["boxes_left_out"]) == (4, 1)
    assert "1 of 5 predicted boxes are on images that are not in the truth; left out." in scores["notes"]


def test_images_in_other_folders_meet_by_their_last_part(world: World) -> None:
    world.corpus = [f"photos/{name}" for name in world.images]
    world.predicted = [(f"photos/{name}", *rest) for name, *rest in world.predicted]
    assert scored(world)["corloc"]["value"] == 0.5


def test_a_file_name_that_occurs_twice_in_the_corpus_matches_nothing(world: World) -> None:
    world.corpus = ["one/a.jpg", "two/a.jpg", "one/b.jpg"]
    world.predicted = []
    assert scored(world)["images"]["scored"] == 1


def test_a_file_name_that_occurs_twice_in_the_truth_matches_nothing(world: World) -> None:
    world.images = ["one/a.jpg", "two/a.jpg", "b.jpg"]
    world.corpus, world.truth, world.predicted = ["a.jpg", "b.jpg"], [], []
    assert scored(world)["images"]["scored"] == 1


def test_the_whole_name_goes_before_the_last_part(world: World) -> None:
    world.images = ["one/a.jpg", "two/a.jpg"]
    world.corpus = ["two/a.jpg", "a.jpg"]
    world.truth = [("two/a.jpg", "cat", (0, 0, 9, 9), {}), ("one/a.jpg", "cat", (50, 50, 9, 9), {})]
    world.predicted = [("two/a.jpg", "cat", (0, 0, 9, 9), 0.9)]
    scores = scored(world)
    assert (scores["images"]["scored"], scores["corloc"]["value"]) == (1, 1)


def test_backslashes_and_slashes_are_the_same(world: World) -> None:
    coco = world.coco()
    for image in coco["images"]:
        image["file_name"] = "deep\\" + image["file_name"]
    world.corpus = ["deep/a.jpg", "other/a.jpg"]
    world.predicted = []
    assert score_run(*world.write(coco))["images"]["scored"] == 1


def test_ids_need_not_agree(world: World) -> None:
    coco = world.coco()
    shift = {image["id"]: f"image-{image['id']}" for image in coco["images"]}
    for image in coco["images"]:
        image["id"] = shift[image["id"]]
    for annotation in coco["annotations"]:
        annotation["image_id"] = shift[annotation["image_id"]]
    assert score_run(*world.write(coco))["corloc"]["value"] == 0.5


def test_no_image_in_common_is_refused(world: World) -> None:
    world.corpus, world.predicted = ["x.jpg"], []
    with pytest.raises(ScoringError, match=r"No image of truth\.json .* names 'a\.jpg', the corpus names 'x\.jpg'"):
        scored(world)


def test_no_class_in_common_is_refused_with_the_nearest(world: World) -> None:
    world.model_classes, world.predicted = ["Cat", "horse"], []
    with pytest.raises(ScoringError, match=r"No class of truth\.json is a class of the run.*did you mean 'Cat'"):
        scored(world)


def test_no_class_in_common_is_refused_without_a_model_too(world: World) -> None:
    world.model_classes = None
    world.predicted = [("a.jpg", "horse", (0, 0, 5, 5), 0.9)]
    with pytest.raises(ScoringError, match=r"No class of truth\.json is a class of the run"):
        scored(world)


def test_a_class_that_the_model_does_not_know_is_left_out_and_named(world: World) -> None:
    world.model_classes = ["cat"]
    world.predicted = [row for row in world.predicted if row[1] == "cat"]
    scores = scored(world)
    assert (scores["corloc"]["pairs"], scores["corloc"]["value"]) == (2, 1)
    assert any("The truth's class 'dog' (2 boxes) is unknown to the run's model" in note for note in scores["notes"])


def test_a_class_that_is_never_predicted_counts_as_missed(world: World) -> None:
    world.predicted = [row for row in world.predicted if row[1] == "cat"]
    assert scored(world)["corloc"]["value"] == 0.5


def test_a_predicted_class_that_the_truth_does_not_know_is_left_out_and_named(world: World) -> None:
    world.model_classes.append("horse")
    world.predicted.append(("a.jpg", "horse", (0, 0, 5, 5), 0.9))
    scores = scored(world)
    assert scores["false_positives_per_image"] == pytest.approx(1 / 3)
    assert any("1 of 5 predicted boxes are of class 'horse'" in note for note in scores["notes"])


def test_a_run_without_model_is_scored_on_every_class(world: World) -> None:
    world.model_classes = None
    world.predicted = [row for row in world.predicted if row[1] == "cat"]
    scores = scored(world)
    assert scores["corloc"]["value"] == 0.5
    assert "The run has no model/model.json: every class of the truth is scored." in scores["notes"]


@pytest.mark.parametrize("bad", [(0, 0, 0, 5), (0, 0, math.nan, 5), (0, 0, 5, -1), (math.inf, 0, 5, 5)])
def test_predicted_boxes_without_area_are_left_out_and_counted(world: World, bad: tuple[float, ...]) -> None:
    world.predicted.append(("a.jpg", "cat", bad, 1.0))
    scores = scored(world)
    assert scores["corloc"]["value"] == 0.5
    assert "1 of 5 predicted boxes have no area or no finite score; left out." in scores["notes"]


def test_a_score_that_is_no_number_is_left_out(world: World) -> None:
    world.predicted.append(("a.jpg", "cat", (0, 0, 5, 5), math.nan))
    assert scored(world)["boxes"] == 4


def test_images_of_another_size_are_noted(world: World) -> None:
    coco = world.coco()
    coco["images"][1]["width"] = 200
    notes = score_run(*world.write(coco))["notes"]
    assert any("1 images have another size" in note and "200 x 100 against 100 x 100" in note for note in notes)


def test_the_size_comes_from_the_corpus_where_the_truth_lacks_it(world: World) -> None:
    coco = world.coco()
    for image in coco["images"]:
        del image["width"], image["height"]
    assert score_run(*world.write(coco))["baselines"]["whole_image"] == 0.25


def test_exchanged_sizes_are_noted_and_the_decoded_ones_decide_what_is_outside(world: World) -> None:
    """Some tools write the stored size of a photo that is shown turned, and boxes of the photo as shown."""
    coco = world.coco()
    for image in coco["images"]:
        image["width"], image["height"] = 100, 60
    for annotation in coco["annotations"]:
        annotation["bbox"] = [5, 65, 40, 30]
    run, truth = world.write(coco)
    corpus = pq.read_table(run / "corpus.parquet")
    sizes = {"width": pa.array([60] * 3, pa.int32()), "height": pa.array([100] * 3, pa.int32())}
    pq.write_table(
        pa.table({**{name: corpus[name] for name in ("image_id", "file_name")}, **sizes}), run / "corpus.parquet"
    )
    scores = score_run(run, truth)
    assert scores["truth"]["boxes"] == scores["corloc"]["pairs"] == 4
    assert (
        "3 images have width and height swapped in the truth, first 'a.jpg': the decoded images decide which boxes lie "
        "outside." in scores["notes"]
    )


def test_boxes_outside_of_the_decoded_image_are_left_out_and_counted(world: World) -> None:
    coco = world.coco()
    for image in coco["images"]:
        image["width"] = image["height"] = 200
    coco["annotations"][0]["bbox"] = [120, 10, 40, 40]
    scores = score_run(*world.write(coco))
    assert scores["truth"]["boxes"] == 3
    note = "1 of 4 true boxes lie wholly outside of their decoded image, first in 'a.jpg'; left out."
    assert note in scores["notes"]


def test_the_number_of_ignored_boxes_is_noted(world: World) -> None:
    world.truth[0] = (*world.truth[0][:3], {"difficult": 1})
    scores = scored(world)
    assert (scores["truth"]["boxes"], scores["truth"]["ignored"]) == (4, 1)
    note = "1 of 4 true boxes are marked difficult, ignore or crowd and count neither way."
    assert note in scores["notes"]


def test_class_names_meet_without_spaces_and_in_either_unicode_form(world: World) -> None:
    world.model_classes, names = ["Ko\u0308ter", "dog"], {"cat": " K\u00f6ter ", "dog": "dog\u00a0"}
    world.predicted = [(name, {"cat": "Ko\u0308ter"}.get(c, c), *rest) for name, c, *rest in world.predicted]
    coco = world.coco()
    for category in coco["categories"]:
        category["name"] = names[category["name"]]
    assert score_run(*world.write(coco))["corloc"]["value"] == 0.5


def test_a_class_in_other_letter_case_is_not_scored_and_a_hint_says_so(world: World) -> None:
    coco = world.coco()
    coco["categories"][0]["name"] = "Cat"
    scores = score_run(*world.write(coco))
    assert scores["corloc"]["pairs"] == 2
    hint = "Class names that differ only in upper and lower case: 'Cat' (the run has 'cat'); rename to score them."
    assert hint in scores["notes"]


def test_images_of_which_it_is_not_known_what_they_hold_are_not_scored(world: World) -> None:
    coco = world.coco()
    coco["annotations"][3]["image_id"] = 999
    scores = score_run(*world.write(coco))
    assert (scores["images"]["scored"], scores["corloc"]["pairs"]) == (2, 3)
    assert any("the labels of these images are taken as unknown" in note for note in scores["notes"])


@pytest.mark.parametrize("name", ["corpus.parquet", "annotations.parquet"])
def test_a_run_that_lacks_a_table_is_refused(world: World, name: str) -> None:
    run, truth = world.write()
    (run / name).unlink()
    with pytest.raises(RunError, match=f"has no {name}"):
        score_run(run, truth)


def test_a_table_that_is_cut_off_is_refused(world: World) -> None:
    run, truth = world.write()
    table = run / "annotations.parquet"
    table.write_bytes(table.read_bytes()[:50])
    with pytest.raises(RunError, match=r"annotations\.parquet is damaged"):
        score_run(run, truth)


def test_a_table_that_lacks_a_column_is_refused(world: World) -> None:
    run, truth = world.write()
    (run / "annotations.parquet").write_bytes((run / "corpus.parquet").read_bytes())
    with pytest.raises(RunError, match="has no column category, x, y, w, h, score"):
        score_run(run, truth)


def test_a_model_that_lists_no_classes_is_refused(world: World) -> None:
    run, truth = world.write()
    (run / "model" / "model.json").write_text('{"classes": 3}')
    with pytest.raises(RunError, match="lists no classes with their names"):
        score_run(run, truth)


@pytest.mark.parametrize("is_empty", [False, True])
def test_scores_json_is_strict_json_of_plain_values(world: World, is_empty: bool) -> None:
    if is_empty:
        world.truth, world.predicted = [], []
    scores = scored(world)
    text = write_scores(world.run, scores).read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse) == scores


def test_the_truth_is_named_and_fingerprinted(world: World) -> None:
    truth = scored(world)["truth"]
    assert (truth["file"], len(truth["sha256"])) == ("truth.json", 64)


def test_the_table_begins_with_corloc_and_its_interval(world: World) -> None:
    name, value, meaning = score_rows(scored(world))[0]
    assert name == "CorLoc"
    assert value.startswith("50.0 % (95 %: ")
    assert "of 4 (image, class) pairs" in meaning


def test_the_table_says_what_is_not_defined(world: World) -> None:
    world.truth, world.predicted = [], []
    values = {name: value for name, value, _ in score_rows(scored(world))}
    assert (values["CorLoc"], values["AP"], values["Boxes per pair"]) == ("not defined",) * 3


def test_the_import_is_light() -> None:
    heavy = "[m for m in ('torch', 'prefect', 'pandas', 'pyarrow', 'matplotlib') if m in sys.modules]"
    code = f"import sys, mining.evaluation; print({heavy})"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


# --- beside CorLoc ---------------------------------------------------------------------------------------------------


def with_rankings(world: World, rankings: dict[str, list[str]]) -> tuple[Path, Path]:
    run, truth = world.write()
    columns = [
        [100 + world.images.index(name) for name in rankings],
        [[(world.model_classes or []).index(one) for one in listed] for listed in rankings.values()],
        [[0.5] * len(listed) for listed in rankings.values()],
    ]
    pq.write_table(pa.table(columns, schema=RANKING_SCHEMA), run / "rankings.parquet")
    return run, truth


def test_localization_errors_use_the_classes_that_the_run_ranked(world: World) -> None:
    world.model_classes = ["dog", "horse", "cat"]
    rankings = {"a.jpg": ["dog", "cat"], "b.jpg": ["horse", "cat"], "c.jpg": ["cat", "horse"]}
    found = score_run(*with_rankings(world, rankings))["localization"]
    # a: of two classes the cat's box is right, and it is ranked second; b: right, second too; c: neither
    assert found["gt_known_loc"]["accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["top1_loc"]["accuracy"] == 0
    assert found["top5_loc"]["accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["top1_cls"]["accuracy"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert found["top5_cls"]["accuracy"] == pytest.approx((1 + 1 + 0) / 3)
    low, high = found["top5_cls"]["ci95"]
    assert low <= found["top5_cls"]["error"] <= high


def test_a_run_that_ranked_nothing_has_gt_known_alone(world: World) -> None:
    scores = scored(world)
    assert scores["localization"]["gt_known_loc"]["accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert scores["localization"]["top1_loc"] is None
    errors = [name for name, *_ in score_rows(scores) if name.endswith("error")]
    assert errors == ["GT-known loc. error"]


# --- another classifier's classes ------------------------------------------------------------------------------------


def test_classes_of_a_csv_replace_those_of_the_run(world: World, tmp_path: Path) -> None:
    world.model_classes = ["dog", "horse", "cat"]
    run, truth = with_rankings(world, {"a.jpg": ["dog"], "b.jpg": ["horse"], "c.jpg": ["horse"]})
    csv = tmp_path / "classes.csv"
    csv.write_text("file_name,labels\nsub/a.jpg,cat|zebra|dog\nb.jpg,cat\nelsewhere.jpg,dog\n")
    scores = score_run(run, truth, classes_from=csv)
    found = scores["localization"]
    assert found["classes_from"] == str(csv)
    assert found["gt_known_loc"] == score_run(run, truth)["localization"]["gt_known_loc"]
    assert found["top1_cls"]["accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)  # a has a cat and a dog
    assert found["top1_loc"]["accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["top5_cls"]["accuracy"] == pytest.approx((1 + 1 + 0) / 3)
    assert any("1 of 3 scored images have no class there" in note for note in scores["notes"])
    assert score_run(run, truth)["localization"]["classes_from"] is None


def test_classes_of_another_run_are_matched_by_name(world: World, tmp_path: Path) -> None:
    """The other model numbers its classes and images in another order."""
    run, truth = world.write()
    other = World(tmp_path / "other")
    other.images, other.model_classes = list(reversed(world.images)), ["cat", "dog"]
    other_run, _ = with_rankings(other, {"a.jpg": ["cat"], "b.jpg": ["cat", "dog"], "c.jpg": ["cat", "dog"]})
    found = score_run(run, truth, classes_from=other_run)["localization"]
    assert found["top1_cls"]["accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["top5_cls"]["accuracy"] == pytest.approx((1 / 2 + 1 + 1) / 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image,class\na.jpg,cat\n", r"its columns are image, class\); expected a run directory, or a CSV"),
        ("", "its columns are none"),
        ("file_name,labels\nz.jpg,cat\n", "predicts no class"),
        ("file_name,labels\na.jpg,cat\na.jpg,dog\n", r"it has a\.jpg twice"),
        ("file_name,labels\na.jpg,zebra\n", "predicts no class"),
    ],
)
def test_class_predictions_that_cannot_be_used_are_refused(
    text: str, reason: str, world: World, tmp_path: Path
) -> None:
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(ScoringError, match=reason):
        score_run(*world.write(), classes_from=tmp_path / "classes.csv")


def test_a_long_first_line_is_not_repeated_as_a_whole(world: World, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text('{"images": [' + "0, " * 1000 + "0]}")
    with pytest.raises(ScoringError, match="its columns are") as raised:
        score_run(*world.write(), classes_from=tmp_path / "truth.json")
    assert len(str(raised.value)) < 500 + len(str(tmp_path))


def test_a_folder_that_is_no_run_predicts_no_classes(world: World, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(RunError, match=r"photos cannot be read as class predictions \(it is not a finished run\)"):
        score_run(*world.write(), classes_from=tmp_path / "photos")


def test_a_run_without_rankings_predicts_no_classes(world: World, tmp_path: Path) -> None:
    other_run, _ = World(tmp_path / "other").write()
    with pytest.raises(RunError, match=r"has no rankings\.parquet"):
        score_run(*world.write(), classes_from=other_run)


def test_damaged_rankings_are_refused_by_name(world: World) -> None:
    run, truth = world.write()
    (run / "rankings.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"rankings\.parquet is damaged"):
        score_run(run, truth)


def test_charts_hold_what_they_say(world: World) -> None:
    charts = scored(world)["charts"]
    assert sum(charts["iou"]["pairs"]) == 4
    assert (charts["iou"]["pairs"][0], charts["iou"]["pairs"][-1]) == (2, 1)
    size = charts["size"]
    assert {round(place * size["step"], 1): (count, size["found"][place])
            for place, count in enumerate(size["objects"]) if count} == {0.4: (3, 1.0), 0.8: (1, 0.0)}  # fmt: skip
    precision = charts["precision"]["precision"]
    assert len(precision) == len(charts["precision"]["recall"]) == 101
    assert precision[0] == pytest.approx((1 + 1 / 2) / 2)
    assert precision[-1] == pytest.approx((1 + 0) / 2)


def test_every_interval_holds_its_value(world: World) -> None:
    corloc = scored(world)["corloc"]
    for name in ("at_0.3", "at_0.7", "any_box", "macro"):
        low, high = corloc[f"{name}_ci95"]
        assert low <= corloc[name] <= high
