"""Calibration on generated boxes whose probabilities are known."""

import json

import numpy as np
import pytest

from mining.errors import InputError
from mining.quality.calibration import FOLDS, Calibration, calibrate, folds_of
from mining.quality.reliability import calibration_error
from mining.quality.table import read_boxes_with_quality
from tests.unit.quality.small_run import generated_run


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """240 boxes, whether each is correct, and its image."""
    run, correct = generated_run(tmp_path_factory.mktemp("runs") / "run")
    table = read_boxes_with_quality(run.write())
    return table, correct, table["file_name"].to_pylist()


def test_probabilities_are_calibrated_and_rank_better_than_the_score(boxes) -> None:
    table, correct, images = boxes
    figures = calibrate(table, correct, correct * 0.7, images).figures
    assert figures is not None
    assert figures["ece"] < 0.08
    assert figures["auroc"] > figures["auroc_of_score"] + 0.05
    assert figures["boxes"] == 240
    assert figures["images"] == 120


def test_a_box_is_not_predicted_by_its_own_verdict(boxes) -> None:
    table, correct, images = boxes
    flipped = correct.copy()
    flipped[images.index("0003.jpg")] ^= True
    before, after = (
        calibrate(table, some, None, images).predict(table, images).p_correct for some in (correct, flipped)
    )
    is_in_fold = folds_of(images) == folds_of(["0003.jpg"])[0]
    assert np.array_equal(before[is_in_fold], after[is_in_fold])
    assert not np.isclose(before[~is_in_fold], after[~is_in_fold], rtol=1e-9).any()


def test_verdicts_that_are_noise_are_not_learnt_by_heart(boxes) -> None:
    table, _, images = boxes
    noise = np.random.default_rng(1).random(len(images)) < 0.5
    figures = calibrate(table, noise, None, images).figures
    assert figures is not None
    assert figures["auroc"] < 0.6


def test_the_boxes_of_an_image_share_a_fold_that_its_name_decides() -> None:
    names = [f"{number // 2}.jpg" for number in range(2000)]
    fold = folds_of(names)
    assert (fold[::2] == fold[1::2]).all()
    assert np.array_equal(folds_of(names[::-1]), fold[::-1])
    assert np.bincount(fold, minlength=FOLDS).min() > 140
    assert (folds_of(names, seed=1) != fold).mean() > 0.8


def test_expected_iou_follows_the_iou(boxes) -> None:
    table, correct, images = boxes
    iou = np.where(correct, 0.8, 0.1)
    predicted = calibrate(table, correct, iou, images).predict(table, images)
    assert np.mean(predicted.expected_iou) == pytest.approx(np.mean(iou), abs=0.03)
    assert np.corrcoef(predicted.expected_iou, predicted.p_correct)[0, 1] > 0.99
    assert calibration_error(predicted.expected_iou, iou) < 0.08


@pytest.mark.parametrize(("judged", "is_enough"), [(49, False), (50, True)])
def test_fewer_than_50_judged_boxes_calibrate_nothing(boxes, judged, is_enough) -> None:
    table, correct, images = boxes
    verdicts = np.where(np.arange(len(images)) < judged, correct, np.nan)
    calibration = calibrate(table, verdicts, None, images)
    predicted = calibration.predict(table, images)
    assert calibration.is_calibrated is is_enough
    assert np.isfinite(predicted.p_correct).all() == is_enough
    assert np.isnan(predicted.expected_iou).all()  # no IoU was given
    assert (calibration.figures is not None) == is_enough


def test_boxes_of_fewer_than_10_images_calibrate_nothing(boxes) -> None:
    table, correct, _ = boxes
    assert not calibrate(table, correct, None, ["one.jpg", "two.jpg"] * 120).is_calibrated


def test_boxes_that_are_all_correct_have_high_finite_probabilities(boxes) -> None:
    table, correct, images = boxes
    p = calibrate(table, np.ones(len(correct)), None, images).predict(table, images).p_correct
    assert ((p > 0.97) & (p < 1)).all()


def test_a_class_has_its_own_calibration_where_it_has_enough_verdicts_and_the_common_one_where_not(boxes) -> None:
    table, _, images = boxes
    is_dog = np.array(table["category"].to_pylist()) == "dog"
    right = np.random.default_rng(0).random(len(images)) < np.where(is_dog, 0.2, 0.9)
    p = calibrate(table, right, None, images).predict(table, images).p_correct
    assert p[is_dog].mean() == pytest.approx(0.2, abs=0.06)
    assert p[~is_dog].mean() == pytest.approx(0.9, abs=0.06)
    few = np.where(is_dog & (np.cumsum(is_dog) > 2), np.nan, right)  # two dogs
    shrunk = calibrate(table, few, None, images).predict(table, images).p_correct
    assert p[is_dog].mean() + 0.2 < shrunk[is_dog].mean() < p[~is_dog].mean() + 0.05


def test_weights_undo_a_biased_draw(boxes) -> None:
    table, correct, images = boxes
    keep = correct | (
        np.random.default_rng(2).random(len(images)) < 0.25
    )  # every right box, and a quarter of the wrong ones
    verdicts = np.where(keep, correct, np.nan)
    weights = np.where(correct, 1.0, 4.0)
    plain = calibrate(table, verdicts, None, images).predict(table, images).p_correct.mean()
    weighted = calibrate(table, verdicts, None, images, weights=weights).predict(table, images).p_correct.mean()
    assert plain > correct.mean() + 0.1
    assert weighted == pytest.approx(correct.mean(), abs=0.05)


def test_a_saved_calibration_predicts_the_same(boxes, tmp_path) -> None:
    table, correct, images = boxes
    calibration = calibrate(table, correct, correct * 0.7, images, seed=3)
    calibration.save(tmp_path / "calibration.json")
    loaded = Calibration.load(tmp_path / "calibration.json")
    for name in ("p_correct", "expected_iou"):
        assert np.array_equal(
            getattr(loaded.predict(table, images), name), getattr(calibration.predict(table, images), name)
        )
    assert loaded.figures == calibration.figures


def test_an_image_that_was_not_calibrated_on_is_predicted_by_all_models(boxes) -> None:
    table, correct, images = boxes
    calibration = calibrate(table, correct, None, images)
    by_fold = [calibration.predict(table, [name] * len(images)).p_correct for name in _one_image_per_fold()]
    assert calibration.predict(table).p_correct == pytest.approx(np.mean(by_fold, axis=0))


def _one_image_per_fold() -> list[str]:
    names = [str(number) for number in range(200)]
    fold = folds_of(names)
    return [names[int(np.flatnonzero(fold == one)[0])] for one in range(FOLDS)]


def test_a_changed_or_foreign_file_is_refused(boxes, tmp_path) -> None:
    table, correct, images = boxes
    path = tmp_path / "calibration.json"
    calibrate(table, correct, None, images).save(path)
    content = json.loads(path.read_text())
    content["correct_models"][0]["intercept"] += 1
    for text, reason in ((json.dumps(content), "not what was written"), ("[]", "calibration"), ("{}", "this version")):
        path.write_text(text)
        with pytest.raises(InputError, match=reason):
            Calibration.load(path)
    with pytest.raises(InputError, match="There is no calibration"):
        Calibration.load(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_correct": [1.0]}, "rows"),
        ({"is_correct": 0.5}, "must be 0, 1"),
        ({"iou": 1.5}, "must be in"),
        ({"weights": 0.0}, "positive"),
    ],
)
def test_labels_out_of_range_are_refused(boxes, change, message) -> None:
    table, correct, images = boxes
    values = {"is_correct": correct, "iou": None, "weights": None, **change}
    values = {
        name: np.full(len(images), value) if isinstance(value, float) else value for name, value in values.items()
    }
    with pytest.raises(ValueError, match=message):
        calibrate(table, values["is_correct"], values["iou"], images, weights=values["weights"])


def test_a_table_without_signals_is_refused(boxes) -> None:
    table, correct, images = boxes
    with pytest.raises(InputError, match="no column 'threshold_stability'"):
        calibrate(table.drop_columns(["threshold_stability"]), correct, None, images)


def test_a_calibration_is_carried_only_to_boxes_with_the_same_distribution(boxes, tmp_path) -> None:
    table, correct, images = boxes
    calibration = calibrate(table, correct, None, images)
    alike = read_boxes_with_quality(generated_run(tmp_path / "alike", seed=5)[0].write())
    assert calibration.check_distribution(alike) is None
    lifted = read_boxes_with_quality(generated_run(tmp_path / "lifted", seed=5, lift=0.3)[0].write())
    assert "class_score" in (calibration.check_distribution(lifted) or "")
    run = generated_run(tmp_path / "other", seed=5, lift=0.3)[0]
    for _, _, _, values in run.boxes:
        values.update(cut_agreement=None, map_agreement=None, mean_probability=None)
    with pytest.raises(InputError, match="does not fit"):
        calibration.check_distribution(read_boxes_with_quality(run.write()))
