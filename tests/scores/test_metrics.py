"""Metrics against xskillscore, scikit-learn, `scores`, pyproj and cases worked by hand."""

import json

import numpy as np
import pytest
import xarray as xr
import xskillscore
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from scores import continuous
from sklearn.metrics import mean_squared_error, r2_score

from utils.common.cli import UserError
from utils.common.grid import RADIUS, cell_area
from utils.scores.metrics import (
    METRICS,
    MIN_DAYS,
    SEASONS,
    by_cell,
    by_day,
    scores,
)
from utils.scores.sums import FORECASTS, REGIONS, region_of

GLOBE = 4 * np.pi * RADIUS**2


def dataset(fields: dict[str, np.ndarray], start: str = "2019-01-01") -> xr.Dataset:
    """The metrics' input from arrays [time, lat, lon]."""
    days, rows, columns = fields["observed"].shape
    lat, lon = np.linspace(54, 10, rows) if rows > 1 else np.array([30.0]), 72 + 2.0 * np.arange(columns)
    return xr.Dataset(
        {name: (("time", "lat", "lon"), values.astype(np.float32)) for name, values in fields.items()}
        | {
            "region": (("lat", "lon"), (np.arange(rows * columns).reshape(rows, columns) % 4 - 1).astype(np.int8)),
            "cell_area": (("lat", "lon"), cell_area(lat, lon)),
        },
        coords={"time": np.datetime64(start, "ns") + np.arange(days) * np.timedelta64(1, "D"), "lat": lat, "lon": lon},
    )


def random_predictions(days: int = 365, shape: tuple[int, int] = (5, 6), missing: float = 0.4, seed: int = 0):
    """Random forecasts of random observations; a column of sea, where the forecasts are NaN, and two rare cells."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.45, (days, *shape))
    spread = dict(zip(FORECASTS, (0.03, 0.04, 0.06), strict=True))
    fields = {name: truth + rng.normal(0.01, scale, truth.shape) for name, scale in spread.items()}
    truth[rng.random(truth.shape) < missing] = np.nan
    for row, count in ((2, MIN_DAYS - 1), (3, MIN_DAYS)):
        truth[:, row, 3] = np.where(np.arange(days) < count, 0.2 + 0.001 * np.arange(days), np.nan)
    for values in (truth, *fields.values()):
        values[:, :, 0] = np.nan
    return dataset(fields | {"observed": truth})


def by_hand(observed, predicted, persistence=None, climatology=None, **where) -> xr.Dataset:
    """A single cell's series."""
    observed, predicted = np.array(observed, float), np.array(predicted, float)
    others = {
        "persistence": np.zeros_like(observed) if persistence is None else np.array(persistence, float),
        "climatology": np.zeros_like(observed) if climatology is None else np.array(climatology, float),
    }
    fields = {"observed": observed, "predicted": predicted, **others}
    return dataset({name: values.reshape(-1, 1, 1) for name, values in fields.items()}, **where)


@pytest.fixture(scope="module")
def predictions() -> xr.Dataset:
    return random_predictions()


@pytest.fixture(scope="module")
def found(predictions) -> dict:
    return scores(predictions)


def references(
    predictions: xr.Dataset, dims: list[str], weights: xr.DataArray | None = None
) -> dict[str, xr.DataArray]:
    """What xskillscore, by other formulas, makes of the same dims."""
    fields = predictions[["observed", *FORECASTS]].astype(np.float64)
    truth, forecast, usual = fields["observed"], fields["predicted"], fields["climatology"]
    if weights is not None:
        weights = weights.broadcast_like(truth)
    options = {"dim": dims, "skipna": True, "weights": weights}
    error = xskillscore.mse(forecast, truth, **options)
    bias = xskillscore.me(forecast, truth, **options)
    return {
        "rmse": xskillscore.rmse(forecast, truth, **options),
        "mse": error,
        "r2": xskillscore.r2(truth, forecast, **options),
        "nse": xskillscore.r2(truth, forecast, **options),
        "bias": bias,
        "ubrmse": np.sqrt(error - bias**2),
        "pearson_r": xskillscore.pearson_r(forecast, truth, **options),
        "acc": xskillscore.pearson_r(forecast - usual, truth - usual, **options),
        "skill_over_persistence": 1 - error / xskillscore.mse(fields["persistence"], truth, **options),
        "skill_over_climatology": 1 - error / xskillscore.mse(usual, truth, **options),
    }


@pytest.mark.parametrize("weighted", [False, True])
def test_pooled_metrics_agree_with_xskillscore(predictions, found, weighted):
    own = found["area_weighted"] if weighted else found
    expected = references(predictions, ["time", "lat", "lon"], predictions["cell_area"] if weighted else None)
    for name, value in expected.items():
        assert own[name] == pytest.approx(value.item(), abs=1e-9), name


def test_pooled_r2_and_mse_are_those_of_scikit_learn(predictions, found):
    valid = np.isfinite(predictions["observed"].values)
    truth, forecast = (predictions[name].values[valid].astype(float) for name in ("observed", "predicted"))
    area = (
        predictions["cell_area"].broadcast_like(predictions["observed"]).transpose("time", "lat", "lon").values[valid]
    )
    assert list(found)[:4] == ["rmse", "mse", "r2", "n"]
    assert found["n"] == valid.sum()
    assert found["mse"] == pytest.approx(mean_squared_error(truth, forecast), rel=1e-12)
    assert found["r2"] == pytest.approx(r2_score(truth, forecast), rel=1e-12)
    assert found["area_weighted"]["mse"] == pytest.approx(mean_squared_error(truth, forecast, sample_weight=area))
    assert found["area_weighted"]["r2"] == pytest.approx(r2_score(truth, forecast, sample_weight=area))
    assert found["area_weighted"]["rmse"] != pytest.approx(found["rmse"], rel=1e-6)


def test_kge_and_nse_agree_with_the_scores_library(predictions, found):
    fields = predictions[["predicted", "observed"]].astype(np.float64)
    pair = fields["predicted"], fields["observed"]
    assert found["kge"] == pytest.approx(continuous.kge(*pair).item(), rel=1e-9)
    assert found["nse"] == pytest.approx(continuous.nse(*pair).item(), rel=1e-9)
    kge = continuous.kge(*pair, reduce_dims="time").where(fields["observed"].notnull().sum("time") >= MIN_DAYS)
    np.testing.assert_allclose(by_cell(predictions)["kge"], kge, rtol=1e-9)
    assert found["median_cell"]["kge"] == pytest.approx(np.nanmedian(kge))


def test_per_cell_metrics_agree_with_xskillscore_and_leave_rare_cells_out(predictions, found):
    cells = by_cell(predictions)
    days = np.isfinite(predictions["observed"]).sum("time")
    assert list(cells) == [row.name for row in METRICS.values() if row.by_cell] and cells["rmse"].dims == ("lat", "lon")
    np.testing.assert_array_equal(cells["n"], days)
    assert days[2, 3] == MIN_DAYS - 1 and np.isnan(cells["rmse"][2, 3])
    assert days[3, 3] == MIN_DAYS and np.isfinite(cells["rmse"][3, 3])
    for name, value in references(predictions, ["time"]).items():
        value = value.where(days >= MIN_DAYS)
        if name in cells:
            np.testing.assert_allclose(cells[name], value, rtol=1e-7, atol=1e-9, err_msg=name)
        if name in found["median_cell"]:
            assert found["median_cell"][name] == pytest.approx(np.nanmedian(value), abs=1e-9), name
    assert found["median_cell"]["cells"] == (days >= MIN_DAYS).sum() == 24


def test_daily_metrics_agree_with_xskillscore(predictions):
    daily = by_day(predictions)
    expected = references(predictions, ["lat", "lon"])
    np.testing.assert_array_equal(daily["n"], np.isfinite(predictions["observed"]).sum(("lat", "lon")))
    for name in ("rmse", "bias", "r2", "pearson_r"):
        np.testing.assert_allclose(daily[name], expected[name], rtol=1e-7, atol=1e-9, err_msg=name)


def test_maps_and_series_have_units_and_names(predictions):
    for found in (by_cell(predictions), by_day(predictions)):
        assert all({"units", "long_name"} == set(found[name].attrs) for name in found)
        assert found["rmse"].attrs["units"] == found["bias"].attrs["units"] == "m3 m-3"
        assert found["pearson_r"].attrs["units"] == "1"


def test_seasons_and_regions_are_the_scores_of_their_own_pairs(predictions, found):
    month = predictions["time"].dt.month
    for season, months in zip(SEASONS, ([12, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]), strict=True):
        alone = scores(predictions.isel(time=np.isin(month, months)))
        assert found["by_season"][season] == {name: pytest.approx(alone[name]) for name in METRICS}
    for index, region in enumerate(REGIONS):
        inside = predictions.assign(observed=predictions["observed"].where(predictions["region"] == index))
        alone = scores(inside)
        assert found["by_region"][region] == {name: pytest.approx(alone[name]) for name in METRICS}
    assert sum(part["n"] for part in found["by_season"].values()) == found["n"]
    assert sum(part["n"] for part in found["by_region"].values()) < found["n"]  # region -1 belongs to none


def test_a_series_by_hand():
    nan = np.nan
    found = scores(
        by_hand(
            observed=[0.1, nan, 0.2, 0.3, nan],
            predicted=[0.2, 0.9, 0.2, 0.5, nan],
            persistence=[0.2, nan, 0.1, 0.1, 0.1],
            climatology=[0.0, nan, 0.2, 0.2, 0.2],
            start="2019-02-27",  # the first two days are winter
        )
    )
    # errors 0.1, 0, 0.2; observed 0.2 ± 0.1; predicted 0.2, 0.2, 0.5; anomalies 0.2, 0, 0.3 and 0.1, 0, 0.1
    assert found["n"] == 3
    assert found["mse"] == pytest.approx(0.05 / 3, rel=1e-6)
    assert found["bias"] == pytest.approx(0.1, rel=1e-6)
    assert found["ubrmse"] == pytest.approx((0.02 / 3) ** 0.5, rel=1e-6)
    assert found["r2"] == found["nse"] == pytest.approx(1 - 0.05 / 0.02, rel=1e-6)
    assert found["pearson_r"] == pytest.approx(0.03 / (0.02 * 0.06) ** 0.5, rel=1e-6)
    r, alpha, beta = 0.75**0.5, 3**0.5, 1.5
    assert found["kge"] == pytest.approx(1 - ((r - 1) ** 2 + (alpha - 1) ** 2 + (beta - 1) ** 2) ** 0.5, abs=1e-6)
    assert found["acc"] == pytest.approx((0.05 / 3) / (0.14 / 3 * 0.02 / 3) ** 0.5, rel=1e-5)
    assert found["skill_over_persistence"] == pytest.approx(1 - 0.05 / 0.06, rel=1e-5)
    assert found["skill_over_climatology"] == pytest.approx(1 - 0.05 / 0.02, rel=1e-5)
    assert found["by_season"]["DJF"]["n"] == 1 and found["by_season"]["DJF"]["bias"] == pytest.approx(0.1, rel=1e-6)
    assert found["by_season"]["MAM"]["n"] == 2 and found["by_season"]["MAM"]["mse"] == pytest.approx(0.02, rel=1e-6)
    assert found["by_season"]["JJA"] == dict.fromkeys(METRICS) | {"n": 0}
    assert found["median_cell"]["cells"] == 0 and found["median_cell"]["rmse"] is None


def test_area_weights_by_hand():
    ones = np.ones((1, 1, 2))
    fields = {"observed": 0.2 * ones, "predicted": 0.2 * ones, "persistence": ones, "climatology": ones}
    fields["predicted"][..., 1] = 0.6
    predictions = dataset(fields)
    predictions["cell_area"].values[:] = [[3.0, 1.0]]
    found = scores(predictions)
    assert found["mse"] == pytest.approx(0.08) and found["bias"] == pytest.approx(0.2)
    assert found["area_weighted"]["mse"] == pytest.approx(0.04)
    assert found["area_weighted"]["bias"] == pytest.approx(0.1)
    assert found["area_weighted"]["ubrmse"] == pytest.approx((0.04 - 0.01) ** 0.5)
    assert found["area_weighted"]["n"] == 2


def test_area_weights_of_whole_numbers_are_repeated_cells():
    predictions = random_predictions(days=60)
    times = np.random.default_rng(1).integers(1, 4, predictions["cell_area"].shape)
    predictions["cell_area"].values[:] = times
    where = [np.repeat(axis.ravel(), times.ravel()) for axis in np.indices(times.shape)]
    repeated = {name: predictions[name].values[:, where[0], where[1]][:, None, :] for name in ("observed", *FORECASTS)}
    expected, weighted = scores(dataset(repeated)), scores(predictions)["area_weighted"]
    for name in set(METRICS) - {"n"}:
        assert weighted[name] == pytest.approx(expected[name], rel=1e-9), name


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.99))
def test_a_copy_of_a_reference_has_no_skill_over_it_whatever_is_missing(seed, missing):
    predictions = random_predictions(days=70, shape=(4, 4), missing=missing, seed=seed)
    for reference in ("persistence", "climatology"):
        found = scores(predictions.assign(predicted=predictions[reference]))
        parts = [found, found["area_weighted"], *found["by_season"].values(), *found["by_region"].values()]
        skills = [part[f"skill_over_{reference}"] for part in parts if part["n"]]
        assert skills == pytest.approx(np.zeros(len(skills)), abs=1e-9)
    cells = by_cell(predictions.assign(predicted=predictions["persistence"]))["skill_over_persistence"]
    assert np.nan_to_num(cells.values) == pytest.approx(np.zeros(cells.shape), abs=1e-9)


def test_what_changes_nothing():
    predictions = random_predictions(days=90)
    found = scores(predictions)
    nowhere = np.isnan(predictions["observed"])
    variants = {
        "forecasts where nothing is observed": predictions.assign(
            predicted=predictions["predicted"].where(~nowhere, 9)
        ),
        "order of cells": predictions.isel(lat=slice(None, None, -1), lon=[3, 1, 2, 0, 5, 4]),
        "order of dims": predictions.transpose("lon", "lat", "time"),
        "units of area": predictions.assign(cell_area=predictions["cell_area"] * 1e6),
        "infinite observations": predictions.assign(observed=predictions["observed"].fillna(np.inf)),
    }
    for name, variant in variants.items():
        assert flat(scores(variant)) == pytest.approx(flat(found), rel=1e-9, nan_ok=True), name


def test_what_a_bias_and_a_scale_change():
    predictions = random_predictions(days=90).astype(np.float64)
    found = scores(predictions)
    wetter = scores(predictions.assign(predicted=predictions["predicted"] + 0.1))
    assert wetter["bias"] == pytest.approx(found["bias"] + 0.1)
    for name in ("ubrmse", "pearson_r", "acc"):
        assert wetter[name] == pytest.approx(found[name]), name
    doubled = scores(predictions.assign({name: 2 * predictions[name] for name in ("observed", *FORECASTS)}))
    for name in set(METRICS) - {"n"}:
        factor = {"m3 m-3": 2, "m6 m-6": 4, "1": 1}[METRICS[name].unit]
        assert doubled[name] == pytest.approx(factor * found[name]), name


def test_a_perfect_forecast():
    predictions = random_predictions()
    found = scores(predictions.assign(predicted=predictions["observed"]))
    assert found["rmse"] == found["bias"] == found["ubrmse"] == 0
    for name in ("r2", "nse", "pearson_r", "kge", "acc", "skill_over_persistence", "skill_over_climatology"):
        assert found[name] == pytest.approx(1) == pytest.approx(found["median_cell"].get(name, 1)), name


@pytest.mark.filterwarnings("error")
def test_what_is_not_defined_is_none():
    one = scores(by_hand([0.2], [0.3], [0.2], [0.2]))
    assert one["mse"] == pytest.approx(0.01) and one["n"] == 1
    for name in ("r2", "nse", "pearson_r", "kge", "acc", "skill_over_persistence", "skill_over_climatology"):
        assert one[name] is None, name
    constant = scores(by_hand([0.1] * 40, np.linspace(0.1, 0.3, 40), [0.1] * 40, [0.1] * 40))
    for name in ("r2", "nse", "pearson_r", "kge", "acc", "skill_over_persistence"):
        assert constant[name] is constant["median_cell"][name] is None, name
    assert constant["median_cell"]["cells"] == 1 and constant["median_cell"]["rmse"] is not None
    rounded = scores(by_hand(x := np.linspace(0.1, 0.3, 40), x + 0.1, climatology=x + 0.05))
    assert rounded["acc"] is None and rounded["pearson_r"] == pytest.approx(1)  # anomalies differ by rounding alone
    flat_forecast = scores(by_hand(x, [0.2] * 40))
    assert flat_forecast["pearson_r"] is flat_forecast["kge"] is None and flat_forecast["r2"] is not None
    assert scores(by_hand([0.0, 0.2, -0.2], [0.1, 0.2, 0.3]))["kge"] is None  # mean observation 0


@pytest.mark.filterwarnings("error")
def test_metrics_are_plain_json(predictions, found):
    text = json.dumps([found, scores(by_hand([0.2, np.nan], [0.3, np.nan]))], allow_nan=False)
    assert json.loads(text)[0] == found
    assert {type(value) for value in flat(found).values()} == {float, int}


def test_refusals(predictions):
    nothing = predictions.assign(observed=predictions["observed"] * np.nan)
    for metric in (scores, by_cell, by_day):
        with pytest.raises(UserError, match="no valid soil moisture to score forecasts with"):
            metric(nothing)
        for name in FORECASTS:
            for bad in (np.nan, np.inf):
                spoiled = predictions.copy(deep=True)
                where = tuple(np.argwhere(np.isfinite(spoiled["observed"].values))[7])
                spoiled[name].values[where] = bad
                with pytest.raises(ValueError, match=f"{name} is not finite in 1 places"):
                    metric(spoiled)


def test_the_input_is_left_as_it_was(predictions):
    before = predictions.copy(deep=True)
    for metric in (scores, by_cell, by_day):
        metric(predictions)
    xr.testing.assert_identical(predictions, before)


def test_float32_is_accumulated_in_float64():
    days = 200_000
    rng = np.random.default_rng(0)
    observed = rng.uniform(0.3, 0.4, days).astype(np.float32)
    predicted = (observed + rng.normal(0, 1e-3, days)).astype(np.float32)
    exact = [float(p) - float(o) for p, o in zip(predicted, observed, strict=True)]
    found = scores(by_hand(observed, predicted))
    assert found["bias"] == pytest.approx(sum(exact) / days, rel=1e-9)
    assert found["mse"] == pytest.approx(sum(e * e for e in exact) / days, rel=1e-9)


def test_regions_of_yearly_precipitation():
    yearly = np.array([[0.0, 199.9, 200.1], [499.9, 500.1, np.nan]])
    found = region_of(yearly / 365.2425)
    assert found.dtype == np.int8
    assert found.tolist() == [[0, 0, 1], [1, 2, -1]]
    assert region_of((yearly / 365.2425).astype(np.float32)).tolist() == found.tolist()


def square(south: float, north: float, west: float, east: float) -> float:
    """Area by another formula: many thin trapezes of cos(latitude)."""
    steps = np.linspace(np.deg2rad(south), np.deg2rad(north), 20001)
    return RADIUS**2 * np.deg2rad(east - west) * np.trapezoid(np.cos(steps), steps)


def test_areas_of_a_regular_grid():
    lat, lon = 54.0 - np.arange(52), 72.0 + np.arange(65)
    area = cell_area(lat, lon)
    assert area.shape == (52, 65)
    for row in (0, 20, 51):
        assert area[row, 30] == pytest.approx(square(lat[row] - 0.5, lat[row] + 0.5, 0, 1), rel=1e-8)
    sphere = Geod(a=RADIUS * 1000, b=RADIUS * 1000)
    edges = np.linspace(0, 1, 2001)
    ring = np.concatenate([edges, edges[::-1]]) + 100, np.repeat([29.5, 30.5], 2001)
    assert area[24, 28] == pytest.approx(abs(sphere.polygon_area_perimeter(*ring)[0]) / 1e6, rel=1e-6)
    np.testing.assert_allclose(cell_area(lat[::-1].copy(), lon)[::-1], area, rtol=1e-12)
    np.testing.assert_allclose(cell_area(lat, lon[::-1].copy()), area, rtol=1e-12)
    np.testing.assert_allclose(cell_area(lat.astype(np.float32), lon.astype(int)), area, rtol=1e-5)


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (np.arange(-89.5, 90), np.arange(0.5, 360)),
        (np.arange(90, -90.5, -2.5), np.arange(-180, 180, 2.5)),  # rows at the poles themselves
        (np.array([-80.0, -30, 0, 10, 70]), np.arange(0.0, 360, 90)),
        (np.rad2deg(np.arcsin((np.arange(40) + 0.5) / 20 - 1)), np.arange(0.0, 360, 10)),
        (np.arange(-89.5, 90), np.array([0.0, 180.0])),
        (np.arange(-89.5, 90), np.arange(0.0, 361)),  # the first column again at the end
    ],
)
def test_areas_of_the_globe_add_up(lat, lon):
    assert cell_area(lat, lon).sum() == pytest.approx(GLOBE, rel=0.03 if len(lat) == 5 else 1e-12)


def test_uneven_spacing_by_hand():
    area = cell_area(np.array([0.0, 10.0, 30.0]), np.array([100.0, 101.0, 105.0]))
    rows, columns = ((-5, 5), (5, 20), (20, 40)), ((99.5, 100.5), (100.5, 103), (103, 107))
    expected = [[square(*row, *column) for column in columns] for row in rows]
    np.testing.assert_allclose(area, expected, rtol=1e-7)


@pytest.mark.parametrize("lon", [[358.0, 359, 0, 1], [178.0, 179, -180, -179], [1.0, 0, 359, 358]])
def test_longitudes_may_cross_the_seam(lon):
    lat = np.array([40.0, 39.0])
    np.testing.assert_allclose(cell_area(lat, np.array(lon)), cell_area(lat, np.arange(4.0)), rtol=1e-12)


def test_a_single_row_column_or_cell():
    lat, lon, one = np.array([40.0, 38.0, 36.0]), np.array([100.0, 100.5]), np.array([30.0])
    assert cell_area(one, lon)[0, 0] == pytest.approx(square(29.75, 30.25, 0, 0.5), rel=1e-7)
    assert cell_area(lat, one)[1, 0] == pytest.approx(square(37, 39, 0, 2), rel=1e-7)
    assert cell_area(one, one)[0, 0] == pytest.approx(square(29.5, 30.5, 0, 1), rel=1e-7)


def ease_rows(spacing: float, south: float, north: float) -> np.ndarray:
    """Real EASE-Grid 2.0 (EPSG:6933) row centres, descending, of cells of this many metres."""
    top = 7314540.83
    y = top - spacing * (np.arange(int(2 * top / spacing)) + 0.5)
    lat = Transformer.from_crs("EPSG:6933", "EPSG:4326", always_xy=True).transform(np.zeros_like(y), y)[1]
    return np.asarray(lat)[(lat > south) & (lat < north)]


@pytest.mark.parametrize(("spacing", "south", "north"), [(36032.22, 3, 54), (9008.055, 3, 54), (36032.22, -85, 85)])
def test_rows_of_the_ease_grid_have_equal_areas(spacing, south, north):
    lat, lon = ease_rows(spacing, south, north), 100 + 0.3735 * np.arange(5)
    area = cell_area(lat, lon)[:, 0]
    assert np.ptp(area) / area.mean() < 0.015  # equal on the ellipsoid; its flattening shows on a sphere
    width = 0.3735 * np.pi / 180 * 6378137 * np.cos(np.deg2rad(30)) / np.sqrt(1 - 0.00669438 * 0.25)
    assert area.mean() == pytest.approx(spacing * width / 1e6, rel=0.015)
    if north - south > 60:
        assert np.ptp(np.cos(np.deg2rad(lat))) > 0.8  # what cos(latitude) alone would say


def test_rows_even_in_the_sine_of_latitude_have_equal_areas():
    sine = np.linspace(0.8, 0.05, 30)
    area = cell_area(np.rad2deg(np.arcsin(sine)), 100 + np.arange(4.0))
    np.testing.assert_allclose(area, RADIUS**2 * (0.75 / 29) * np.pi / 180, rtol=1e-10)
    bounds = np.rad2deg(np.arcsin(sine))
    middle = (bounds[1:] + bounds[:-1]) / 2
    half_way_in_degrees = [square(south, north, 0, 1) for south, north in zip(middle[1:], middle[:-1], strict=True)]
    assert np.ptp(half_way_in_degrees) / area[0, 0] > 5e-4  # where bounds half-way in degrees would lie


def flat(found: dict) -> dict:
    """Nested metrics as one dict, None as NaN."""
    parts = {(): {k: v for k, v in found.items() if not isinstance(v, dict)}}
    for key, value in found.items():
        if isinstance(value, dict):
            nested = value if any(isinstance(v, dict) for v in value.values()) else {"": value}
            parts |= {(key, name): part for name, part in nested.items()}
    values = {(*path, name): value for path, part in parts.items() for name, value in part.items()}
    return {path: np.nan if value is None else value for path, value in values.items()}
