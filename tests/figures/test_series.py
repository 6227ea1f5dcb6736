"""Time series stand in for the maps of a few cells."""

import numpy as np
import pytest
import xarray as xr
from conftest import tiny
from figure_checks import assert_tidy, saved_figures  # noqa: F401

from utils.common.cli import UserError
from utils.figures.series import all_days, cells_of, draw_run, has_few_cells, place_of
from utils.forecasts import figures


def run_of(rows: int, columns: int) -> xr.Dataset:
    moisture = tiny(days=40)["soil_moisture"].isel(lat=slice(rows), lon=slice(columns))
    return xr.Dataset({"observed": moisture, "predicted": moisture + 0.01})


def test_one_cell_and_two_by_three_are_few_and_a_row_of_seven_is_a_map():
    assert has_few_cells(run_of(1, 1)) and has_few_cells(run_of(2, 3)) and not has_few_cells(run_of(1, 7))


def test_every_cell_with_an_observation_has_a_panel_that_says_where_it_is(saved, tmp_path):
    run = run_of(2, 3)
    run["observed"][:, 1, 2] = np.nan
    draw_run(run.isel(time=[*range(10), *range(20, 40)]), "SYNTHETIC", tmp_path / "series.png")
    (figure,) = saved
    assert len(figure.axes) == 5
    assert_tidy(figure)
    assert figure.axes[0].get_title(loc="left").startswith("(a) 54° N 72° E")


def test_lines_break_where_days_are_missing():
    run = run_of(1, 1).isel(time=[0, 1, 5])
    assert np.isnan(all_days(run)["predicted"].values[2:5]).all() and all_days(run).sizes["time"] == 6


@pytest.mark.parametrize(("lat", "lon", "said"), [(40.7, 14.72, "40.7° N 14.72° E"), (-22.9, 312.9, "22.9° S 47.1° W")])
def test_a_place_in_either_convention(lat, lon, said):
    assert place_of(xr.Dataset(coords={"lat": lat, "lon": lon})) == said


def test_cells_without_an_observation_are_left_out():
    run = run_of(1, 2)
    run["observed"][:, 0, 0] = np.nan
    assert [float(cell["lon"]) for cell in cells_of(run)] == [float(run["lon"][1])]


def test_a_forecast_of_a_few_cells_is_points_with_intervals_behind_the_days_before():
    recent = tiny(days=60)["soil_moisture"].isel(lat=slice(2), lon=slice(1))
    valid = recent["time"].values[-1] + np.array([1, 5]) * np.timedelta64(1, "D")
    mean = np.array([0.2, 0.25])[:, None, None] + np.zeros((2, 2, 1))
    quantile = np.stack([mean - 0.03, mean, mean + 0.02], axis=1)
    forecast = xr.Dataset(
        {
            "soil_moisture": (("lead_time", "lat", "lon"), mean),
            "soil_moisture_quantile": (("lead_time", "quantile", "lat", "lon"), quantile),
        },
        {**recent.drop_vars("time").coords, "init_time": recent["time"].values[-1], "valid_time": ("lead_time", valid)},
        {"synthetic": "true"},
    )
    figure = figures.series_figure(forecast, recent)
    assert len(figure.axes) == 2 and "SYNTHETIC" in figure.get_suptitle()
    before, points = figure.axes[0].get_lines()
    np.testing.assert_array_equal(before.get_ydata(), recent.values[:, 0, 0])
    np.testing.assert_allclose(points.get_ydata(), [0.2, 0.25])
    bars = [segment[:, 1] for segment in figure.axes[0].collections[0].get_segments()]
    np.testing.assert_allclose(bars, [[0.17, 0.22], [0.22, 0.27]])
    assert_tidy(figure)
    with pytest.raises(UserError, match="no cell has a forecast"):
        figures.series_figure(forecast * np.nan, recent)
