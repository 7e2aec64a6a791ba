"""Logistic regression with a Gaussian prior on its weights, of outcomes in [0, 1]."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.arrays import Floats

PRIOR_VARIANCE = 0.05
_PSEUDO_WEIGHT = 0.5  # of one right and one wrong usual box, which keep the intercept finite


@dataclass(frozen=True)
class LogisticModel:
    """Weights (D,) and intercept of a logistic regression."""

    weights: Floats
    intercept: float

    def predict(self, design: Floats) -> Floats:
        """Return the (n,) probabilities of (n, D) rows."""
        logits = design @ self.weights + self.intercept
        return np.asarray(1 / (1 + np.exp(-logits)), np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return weights and intercept as numbers."""
        return {"weights": self.weights.tolist(), "intercept": self.intercept}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "LogisticModel":
        """Read what `to_json` returned; ValueError for values that are not finite."""
        model = cls(np.array(content["weights"], np.float64), float(content["intercept"]))
        if not np.isfinite(model.weights).all() or not np.isfinite(model.intercept):
            raise ValueError("a weight is not finite")
        return model


def fit_logistic(design: Floats, target: Floats, weights: Floats) -> LogisticModel:
    """Fit a logistic regression; the intercept is free, each weight has a Gaussian prior.

    Args:
        design: (n, D) features of a similar scale.
        target: (n,) outcomes in [0, 1]; one between counts as that share of a right and the rest of a wrong box.
        weights: (n,) weight of each row.

    Returns:
        The model; with n = 0 one that predicts 0.5.
    """
    from sklearn.linear_model import LogisticRegression

    usual = np.zeros((1, design.shape[1]))
    rows = np.concatenate([design, design, usual, usual])
    counts = np.concatenate([weights * target, weights * (1 - target), [_PSEUDO_WEIGHT, _PSEUDO_WEIGHT]])
    outcome = np.concatenate([np.ones(len(design)), np.zeros(len(design)), [1.0, 0.0]])
    use = counts > 0
    model = LogisticRegression(C=PRIOR_VARIANCE, solver="newton-cholesky", max_iter=100)
    model.fit(rows[use], outcome[use], sample_weight=counts[use])
    return LogisticModel(model.coef_[0].astype(np.float64), float(model.intercept_[0]))
