"""How often the interval of an average precision covers the figure of all images, by simulation; percent.

    python tests/benchmarks/interval_coverage.py [--classes 20] [--images 140] [--samples 400]

Images with one to three objects of one or two classes are drawn from a simulated population, in which some images are
harder than others: their objects are missed more often, and score lower. The figure of the population is that of 20,000
images. Of each sample of images both intervals are computed: plain percentiles of the resamples, and these moved by twice
the estimated bias, as boxmine does. A minute per hundred samples.
"""

import numpy as np
from cyclopts import App

from mining.arrays import Floats
from mining.evaluation.bootstrap import bias_corrected_interval, percentile_interval, resample_image_counts
from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.metrics.voc import average_precision, rank_matches, resampled_average_precision

POPULATION, RESAMPLES = 20_000, 400
SIDE, APART, BELOW = 50, 100, 500  # px of boxes, between objects, from objects to false boxes

app = App(help="Say how often intervals of average precision cover the figure of all images.")


@app.default
def main(*, classes: int = 20, images: int = 140, samples: int = 400) -> None:
    """Print bias and coverage."""
    rng = np.random.default_rng(1)
    target = _ap50(*drawn(rng, POPULATION, classes))
    values, intervals = [], {"percentiles": [], "moved by twice the bias": []}  # type: ignore[var-annotated]
    for seed in range(samples):
        truth, predicted = drawn(rng, images, classes)
        value = _ap50(truth, predicted)
        counts = (times for block in resample_image_counts(images, seed=seed, resamples=RESAMPLES) for times in block)
        resampled = np.array(resampled_average_precision(counts, truth, predicted, rank_matches(truth, predicted)))
        values.append(value)
        intervals["percentiles"].append(percentile_interval(resampled))
        intervals["moved by twice the bias"].append(bias_corrected_interval(resampled, value))
    print(f"{classes} classes, {images} images: {100 * target:.1f}, samples {100 * (np.mean(values) - target):+.1f}")
    for name, found in intervals.items():
        low, high = np.array(found).T
        covers, above = (low <= target) & (target <= high), low > target
        print(f"{name}: {100 * covers.mean():.1f} % cover it, {100 * above.mean():.1f} % lie above")


def drawn(rng: np.random.Generator, images: int, classes: int) -> tuple[TruthBoxes, Detections]:
    """Draw images, their true boxes and the boxes of a detector."""
    truth: list[tuple[int, int, int, int]] = []  # image, class, x, y
    found: list[tuple[int, int, int, int]] = []
    scores: list[float] = []
    for image in range(images):
        difficulty = rng.normal()
        shown = rng.integers(0, classes, 1 if rng.random() < 0.7 else 2)
        for place in range(rng.integers(1, 4)):
            one = (image, int(rng.choice(shown)), APART * place, 0)
            truth.append(one)
            if rng.random() < _logistic(1.2 - difficulty):
                found.append(one)
                scores.append(_logistic(rng.normal(0.6, 1.2) - 0.5 * difficulty))
        for place in range(rng.poisson(2)):
            category = rng.choice(shown) if rng.random() < 0.6 else rng.integers(classes)
            found.append((image, int(category), APART * place, BELOW))
            scores.append(_logistic(rng.normal(-0.9, 1.2) + 0.3 * difficulty))
    rows, others = np.array(truth), np.array(found)
    return (
        TruthBoxes(rows[:, 0], rows[:, 1], _boxes(rows)),
        Detections(others[:, 0], others[:, 1], _boxes(others), np.array(scores)),
    )


def _boxes(rows: Floats) -> Floats:
    return np.concatenate([rows[:, 2:], np.full((len(rows), 2), SIDE)], axis=1).astype(np.float64)


def _logistic(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def _ap50(truth: TruthBoxes, predicted: Detections) -> float:
    return average_precision(truth, predicted)["AP_all_point"] or 0.0


if __name__ == "__main__":
    app()
