"""boosting: which cell-days it learns from, and that it is scikit-learn's, its trees chosen on held-out days."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from test_baselines import gappy, prepared

import utils.scores.fitting
from utils.common.grid import Tile
from utils.dataset.antecedent_features import AntecedentFeatures
from utils.scores.baselines import boosting
from utils.scores.boosting import TREE, Boosting, fit_boosting
from utils.scores.fitting import FEATURES, CellDays, Fitting

LEFT_OUT = ("season_cosine", "season_sine", "soil_temperature_anomaly", "mean_soil_temperature")  # in part of a year


def naive_boosting(training, test):
    """Without the rows that stand for the error of the mean."""
    used = [i for i, name in enumerate(FEATURES) if name not in LEFT_OUT]
    last = [FEATURES[i] for i in used].index("last_anomaly")
    mean = training.record.statistics.cell_mean[1]

    def rows(windows, sample, row, column):
        maps = AntecedentFeatures(windows.record, FEATURES).at(windows.target_index - windows.lead_days)
        return maps[sample, :, row, column][:, used].astype(float)

    def fit(x, y, trees):
        slope = x[:, last] @ y / (x[:, last] @ x[:, last])
        model = HistGradientBoostingRegressor(max_iter=trees, early_stopping=False, random_state=0, **TREE)
        model.fit(x, y - slope * x[:, last])
        return lambda other: slope * other[:, last] + model.predict(other)

    target = training.observed - mean
    where = np.nonzero(np.isfinite(target))
    x, y = rows(training, *where), target[where]
    third = where[0] * 3 // len(training)
    errors = [
        sum(np.sum((fit(x[third != i], y[third != i], n)(x[third == i]) - y[third == i]) ** 2) for i in range(3))
        for n in range(1, 7)
    ]
    best = 1 + int(np.argmin(errors))
    where = np.nonzero(np.broadcast_to(test.record.statistics.scored, test.observed.shape))
    found = np.full(test.observed.shape, np.nan)
    found[where] = fit(x, y, best)(rows(test, *where))
    return found + mean, best


def test_it_is_boosting_of_what_the_last_anomaly_leaves_with_trees_chosen_on_held_out_thirds(monkeypatch):
    monkeypatch.setattr(utils.scores.fitting, "CORRELATED_DAYS", 0)
    monkeypatch.setattr("utils.scores.boosting.TREES", 6)
    training, test, days = prepared(gappy(gap=slice(20, 23)), lead=4)
    expected, best = naive_boosting(training, test)
    np.testing.assert_allclose(boosting(Fitting(training, test, days)), expected, atol=1e-6)
    assert 1 < best < 6


def test_it_finds_what_no_line_can_say():
    rng = np.random.default_rng(0)
    last, rain = rng.normal(0, 0.03, 6000), rng.random(6000)
    target = 0.5 * last + np.where((rain > 0.3) & (rain < 0.6), 0.04, -0.01)
    rows = CellDays(100, np.arange(6000) // 60, np.zeros((6000, 2), int), np.column_stack([last, rain]), target)
    fitted = fit_boosting(rows, (0, 1), 0, 0.0)
    forecast = fitted.predict(np.array([[0.02, 0.1], [0.02, 0.45], [0.02, 0.9]]))
    np.testing.assert_allclose(forecast, [0.0, 0.05, 0.0], atol=2e-3)
    assert fitted.trees.n_iter_ > 8


@pytest.mark.parametrize("mean_error", [0.0, 4e-4, 1.0])
def test_where_the_mean_is_uncertain_it_begins_at_persistence(mean_error):
    x = np.array([[0.02], [-0.02], [0.02], [-0.02]])
    slope = Boosting(x, 0.5 * x[:, 0], last=0, mean_error=mean_error, trees=1).slope
    assert slope == pytest.approx((0.5 * 4e-4 + mean_error) / (4e-4 + mean_error))


def test_blocks_of_a_map_draw_the_cell_days_of_the_map(monkeypatch):
    monkeypatch.setattr(utils.scores.fitting, "CELL_DAYS", 900)
    training, _, _ = prepared(gappy())
    record = training.record
    whole = CellDays.draw(training, AntecedentFeatures(record, FEATURES))
    scored = record.statistics.scored.sum() * len(training)
    share = np.isfinite(training.observed).sum() / scored
    assert len(whole.target) == pytest.approx(900 * share, rel=0.15) and len(np.unique(whole.sample)) > 50

    def part(columns: slice) -> CellDays:
        found = prepared(gappy().isel(lon=columns))[0]
        found.blocks = [Tile(slice(0, 7), columns, slice(0, 7), columns)]
        monkeypatch.setattr(utils.scores.fitting, "CELL_DAYS", 900 * found.statistics.scored.sum() / scored_cells)
        return CellDays.draw(found, AntecedentFeatures(found.record, FEATURES))

    scored_cells = record.statistics.scored.sum()
    both = part(slice(5, 8)) + part(slice(0, 5))
    assert not np.array_equal(both.sample, whole.sample)
    for name in ("sample", "cell", "target"):
        np.testing.assert_array_equal(getattr(both, name)[both.order], getattr(whole, name)[whole.order])
