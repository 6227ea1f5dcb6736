"""Rain that is a day early, or far too much, is found out; right data is left alone."""

import numpy as np
import pytest
import xarray as xr
from conftest import tiny

from utils.dataset.rain_checks import describe_odd_amount, measure_timing


def moved(ds: xr.Dataset, days: int) -> xr.Dataset:
    """The data set with each day's rain stamped so many days later."""
    return ds.assign(precipitation=(ds.precipitation.dims, np.roll(ds.precipitation.values, days, axis=0)))


def test_the_correlations_are_those_of_all_pairs_of_days():
    ds = tiny(days=100).isel(time=np.r_[0:40, 45:100])  # with a gap that no change may cross
    ds["soil_moisture"].values[::7, 2, 3] = np.nan
    timing = measure_timing(ds)
    rain, moisture = ds.precipitation.values.astype(float), ds.soil_moisture.values.astype(float)
    days = ds.time.values.astype("datetime64[D]")
    for name, got in (("before", timing.before), ("after", timing.after)):
        pairs = []
        for day in range(len(days)):
            other = day - 1 if name == "before" else day + 1
            if 0 <= other < len(days) and abs((days[other] - days[day]).astype(int)) == 1:
                change = (moisture[day] - moisture[other]) * (1 if name == "before" else -1)
                pairs.append(np.stack([rain[day].ravel(), change.ravel()]))
        x, y = np.concatenate(pairs, axis=1)
        valid = np.isfinite(x) & np.isfinite(y)
        np.testing.assert_allclose(got, np.corrcoef(x[valid], y[valid])[0, 1], atol=1e-6)
    assert timing.rainy == (rain >= 1).sum()


def test_rain_a_day_early_is_found_out_and_right_rain_is_not():
    ds = tiny()
    right, wrong = measure_timing(ds), measure_timing(moved(ds, -1))
    assert right.before > 0.5 > right.after and not right.looks_shifted
    assert wrong.after > 0.5 > wrong.before and wrong.is_proof and wrong.chance < 1e-6
    assert "goes better with the change of soil moisture from D to D+1" in str(wrong)


def test_a_single_cell_and_little_rain_prove_nothing():
    early = moved(tiny(days=3000, shape=(4, 5)), -1)
    assert measure_timing(early).is_proof
    one = measure_timing(early.isel(lat=[0], lon=[0]))
    assert one.rainy > 1000 and one.looks_shifted and not one.is_proof
    assert not measure_timing(moved(tiny(days=60, shape=(4, 5)), -1)).looks_shifted
    assert measure_timing(tiny(days=8)) is None


def test_data_without_a_connection_is_called_shifted_no_more_often_than_chance():
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(100):
        ds = tiny(days=60, shape=(5, 5))
        ds["precipitation"].values[:] = rng.gamma(0.4, 8, ds.precipitation.shape).mean((1, 2), keepdims=True)
        called += measure_timing(ds).looks_shifted
    assert called <= 1


@pytest.mark.parametrize(("factor", "odd"), [(1, False), (12, True)])
@pytest.mark.parametrize("days", [3650, 365])
def test_rain_twelve_times_too_much_is_odd(factor, odd, days):
    mean = np.array([[0.4, 2.0, 3.1], [np.nan, 1.5, 2.2]]) * factor  # mm a day, 150 to 1130 mm a year
    said = describe_odd_amount(mean, days)
    assert (said is not None) == odd
    if odd:
        assert "the median cell has 8,766 mm of precipitation a year" in said or days == 365
        assert "the wettest" in said and "12,000 mm" in said


def test_a_wet_month_is_not_a_year():
    monsoon = np.full((4, 4), 40.0)  # 1.2 m in a July
    assert describe_odd_amount(monsoon, 31) is None
    assert "in 120 days" in describe_odd_amount(monsoon * 2, 120)
    assert describe_odd_amount(np.full((2, 2), np.nan), 31) is None
