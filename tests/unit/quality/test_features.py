"""Features of the calibration, by hand."""

import numpy as np
import pytest

from mining.quality.features import FEATURES, SCORE_WEIGHT, Scaling, raw_features
from mining.quality.table import read_boxes_with_quality
from tests.unit.quality.small_run import generated_run

NAMES = [feature.name for feature in FEATURES]
SPLIT = [feature.name for feature in FEATURES if feature.is_split]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> np.ndarray:
    return raw_features(read_boxes_with_quality(generated_run(tmp_path_factory.mktemp("runs") / "run")[0].write()))


def test_features_are_standardised_and_the_score_weighs_more(raw) -> None:
    design = Scaling.fit(raw).apply(raw)
    for name, weight in (("cut_agreement", 1.0), ("score", SCORE_WEIGHT)):
        column = design[:, NAMES.index(name)] / weight
        assert np.median(column) == pytest.approx(0, abs=1e-9)
        assert column.std() == pytest.approx(1, abs=0.05)


def test_split_features_have_a_second_column_below_their_quartile_alone(raw) -> None:
    design = Scaling.fit(raw).apply(raw)
    assert design.shape == (len(raw), len(NAMES) + len(SPLIT))
    below = design[:, len(NAMES) + SPLIT.index("cut_agreement")]
    values = raw[:, NAMES.index("cut_agreement")]
    assert (below < 0).mean() == pytest.approx(0.25, abs=0.01)
    assert (below[values > np.quantile(values, 0.26)] == 0).all()


def test_a_null_counts_as_the_usual_value(raw) -> None:
    changed = raw.copy()
    place = NAMES.index("cut_agreement")
    changed[0, place] = np.nan
    usual = raw.copy()
    usual[0, place] = np.median(raw[:, place])
    scaling = Scaling.fit(raw)
    assert np.array_equal(scaling.apply(changed)[0], scaling.apply(usual)[0])


def test_a_signal_that_no_box_has_is_constant(raw) -> None:
    place = NAMES.index("run_agreement")
    assert np.isnan(raw[:, place]).all()
    assert (Scaling.fit(raw).apply(raw)[:, place] == 0).all()


def test_an_extreme_value_is_clipped(raw) -> None:
    changed = raw.copy()
    changed[0, NAMES.index("contrast")] = 1e9
    assert np.abs(Scaling.fit(raw).apply(changed)[0]).max() <= 4 * SCORE_WEIGHT
