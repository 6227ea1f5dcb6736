"""Gradient boosting on antecedent features, by scikit-learn: a rival from machine learning that is no network.

The trees learn what a regression on the last anomaly alone leaves of the target's anomaly. Held-out thirds of the days
that the fit learns from decided that: on complete and on gappy SMAP, from 30 days to 3 years, such trees were the best
or within 0.3 % of the best. Trees for the anomaly itself lost up to 13 %, and those for the change since the last
observation up to 4 %. The number of trees is chosen on held-out thirds at each fit: a month bears few of them.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from utils.common.ridge import BLOCKS
from utils.scores.fitting import CellDays

TREES = 64  # at most
TREE = {"learning_rate": 0.2, "max_leaf_nodes": 8, "min_samples_leaf": 200}


class Boosting:
    """slope · last anomaly + trees, m3 m-3. `last` is the last anomaly's number among the predictors.

    The slope is that of least squares, with as many more rows in which the cell's mean is wrong by `mean_error`
    (m3 m-3)² and persistence is right (utils/scores/baselines.py).

    Source: Friedman (2001), Annals of Statistics 29; with histograms as in LightGBM (Ke et al. 2017, NeurIPS 30).
    """

    def __init__(
        self,
        predictors: Float[np.ndarray, "row predictor"],
        target: Float[np.ndarray, "row"],
        *,
        last: int,
        mean_error: float,
        trees: int,
    ):
        from sklearn.ensemble import HistGradientBoostingRegressor  # takes a second, and few processes need it

        anomaly, from_mean = predictors[:, last], mean_error * len(target)
        power = anomaly @ anomaly + from_mean
        self.last, self.slope = last, float((anomaly @ target + from_mean) / power) if power > 0 else 0.0
        trees = HistGradientBoostingRegressor(max_iter=trees, early_stopping=False, random_state=0, **TREE)
        self.trees = trees.fit(predictors, target - self.slope * anomaly)

    @threadpool_limits.wrap(limits=1)
    def predict(self, predictors: Float[np.ndarray, "row predictor"]) -> Float[np.ndarray, "row"]:
        """The anomalies, m3 m-3."""
        return self.slope * predictors[:, self.last] + self.trees.predict(predictors)

    def errors(
        self, predictors: Float[np.ndarray, "row predictor"], target: Float[np.ndarray, "row"]
    ) -> Float[np.ndarray, "tree"]:
        """The sum of squared errors with the first tree alone, with the first two, and so on, (m3 m-3)²."""
        remainder = target - self.slope * predictors[:, self.last]
        return np.array([np.sum((part - remainder) ** 2) for part in self.trees.staged_predict(predictors)])


@lru_cache(maxsize=1)  # the blocks of a large map share a fit
@threadpool_limits.wrap(limits=1)  # the same sums on any machine; and a study has one process a core
def fit_boosting(cell_days: CellDays, used: tuple[int, ...], last: int, mean_error: float) -> Boosting:
    """Trees on the predictors of these numbers, as many as forecast held-out thirds of the days best."""
    order = cell_days.order
    predictors, target = cell_days.predictors[order][:, used], cell_days.target[order]
    part = cell_days.sample[order] * BLOCKS // cell_days.samples
    how = {"last": used.index(last), "mean_error": mean_error}
    errors = np.zeros(TREES)
    for held_out in [part == number for number in np.unique(part)]:
        if not held_out.all():
            fold = Boosting(predictors[~held_out], target[~held_out], trees=TREES, **how)
            errors += fold.errors(predictors[held_out], target[held_out])
    return Boosting(predictors, target, trees=int(errors.argmin()) + 1, **how)
