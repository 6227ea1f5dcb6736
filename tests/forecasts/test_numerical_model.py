"""The numerical model's soil moisture as a rival: rescaled by days that are known, and scored on common pairs."""

import numpy as np
import pytest

from utils.forecasts.numerical_model import FEWEST_PAIRS, rescale_to_past

LEAD = 3
DAYS = np.arange("2016-01-01", "2016-04-01", dtype="datetime64[D]")


@pytest.fixture
def pairs():
    """Forecasts and the observations of their days, with gaps in both and in the days of issue."""
    rng = np.random.default_rng(0)
    issued = np.delete(DAYS, [10, 11, 40])
    observed = 0.25 + 0.05 * rng.standard_normal((len(issued), 2, 3))
    forecasts = 0.4 + 0.02 * rng.standard_normal(observed.shape) + 0.3 * (observed - 0.25)
    observed[rng.random(observed.shape) < 0.3] = np.nan
    forecasts[rng.random(observed.shape) < 0.05] = np.nan
    forecasts[:, 1, 2] = 0.3  # a cell that does not vary
    return forecasts, observed, issued


def test_each_forecast_has_the_mean_and_deviation_of_what_was_observed_up_to_its_initial_day(pairs):
    forecasts, observed, issued = pairs
    rescaled = rescale_to_past(forecasts, observed, issued, LEAD)
    compared = 0
    for row, i, j in np.ndindex(rescaled.shape):
        known = issued + LEAD <= issued[row]
        both = known & np.isfinite(forecasts[:, i, j]) & np.isfinite(observed[:, i, j])
        if both.sum() < FEWEST_PAIRS or (i, j) == (1, 2):
            assert np.isnan(rescaled[row, i, j])
            continue
        f, o = forecasts[both, i, j], observed[both, i, j]
        wanted = o.mean() + o.std() / f.std() * (forecasts[row, i, j] - f.mean())
        np.testing.assert_allclose(rescaled[row, i, j], wanted, rtol=1e-9)
        compared += np.isfinite(wanted)
    assert compared > 100


def test_no_later_observation_changes_a_rescaled_forecast(pairs):
    forecasts, observed, issued = pairs
    before = rescale_to_past(forecasts, observed, issued, LEAD)
    row = 70
    later = observed.copy()
    later[issued + LEAD > issued[row]] += 0.1
    after = rescale_to_past(forecasts, later, issued, LEAD)
    np.testing.assert_array_equal(after[: row + 1], before[: row + 1])
    assert not np.array_equal(after[row + LEAD :], before[row + LEAD :], equal_nan=True)
