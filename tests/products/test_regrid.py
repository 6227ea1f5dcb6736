"""Conservative regridding: totals and means are kept, on latitude–longitude and on EASE-Grid 2.0 alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.common.cli import UserError
from utils.products.regrid import Regridder, ease_cells, latlon_cells, region_cells
from utils.products.smap.granules import CELL, X_FIRST, Y_FIRST


def area(cells):
    """Of every cell on the unit sphere per radian, computed apart from the code under test."""
    heights = np.abs(np.diff(np.sin(np.deg2rad(cells.lat_edges))))
    return np.outer(heights, np.deg2rad(np.abs(np.diff(cells.lon_edges))))


def fine_grid(low, high, step=0.1):
    return latlon_cells(np.arange(high - step / 2, low, -step), np.arange(70 + step / 2, 80, step))


def ease_box():
    """Whole rows and columns of EASE-Grid 2.0 between about 20 and 60 °N, 70 and 100 °E."""
    rows, columns = np.arange(100, 540), np.arange(2678, 3000)
    return ease_cells(X_FIRST + CELL * columns, Y_FIRST - CELL * rows)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.9))
def test_totals_over_land_are_kept_on_latitude_longitude(seed, sea):
    rng = np.random.default_rng(seed)
    source = fine_grid(30, 40)
    target = region_cells(30.5, 39.5, 70.5, 79.5, 1.0)  # the same area exactly
    values = rng.random((1, *source.shape)).astype(np.float32)
    values[0][rng.random(source.shape) < sea] = np.nan
    land = area(source) * np.isfinite(values[0])
    got = Regridder(source, target, 0.0)(values)[0].astype(float)
    weights = Regridder(source, target, 0.0)(np.isfinite(values).astype(np.float32))[0] * area(target)
    np.testing.assert_allclose(np.nansum(got * weights), np.nansum(values[0] * land), rtol=1e-6)
    np.testing.assert_allclose(weights.sum(), land.sum(), rtol=1e-6)


def test_totals_are_kept_from_ease_grid_rows_of_uneven_height():
    source = ease_box()
    assert np.ptp(np.diff(source.lat)) > 0.05  # uneven indeed
    # the target's outline is the source's own, its cells are not
    lat = np.linspace(source.lat_edges[0], source.lat_edges[-1], 31)
    lon = np.linspace(source.lon_edges[0], source.lon_edges[-1], 24)
    target = type(source)((lat[1:] + lat[:-1]) / 2, (lon[1:] + lon[:-1]) / 2, lat, lon)
    values = np.random.default_rng(0).random((1, *source.shape)).astype(np.float32)
    got = Regridder(source, target)(values)[0]
    np.testing.assert_allclose((got * area(target)).sum(), (values[0] * area(source)).sum(), rtol=1e-6)


@pytest.mark.parametrize("source", [fine_grid(20, 60), ease_box()], ids=["latitude-longitude", "ease"])
def test_a_cell_gets_the_mean_of_the_field_over_the_cell(source):
    target = region_cells(31, 49, 72, 78, 1.0)
    # linear in sin(latitude) and longitude: the exact mean over a cell is the value at its middle in those
    field = 2 * np.sin(np.deg2rad(source.lat))[:, None] + 0.01 * source.lon
    middle = np.sin(np.deg2rad([target.lat + 0.5, target.lat - 0.5])).mean(0)
    expected = 2 * middle[:, None] + 0.01 * target.lon
    got = Regridder(source, target)(field[None].astype(np.float32))[0]
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_a_source_cell_across_two_targets_is_shared_by_true_area():
    source = latlon_cells(np.array([40.0, 20.0, 0.0]), np.array([0.0, 30.0]))
    target = latlon_cells(np.array([45.0, 15.0]), np.array([0.0, 30.0]))  # the edge at 30° is the source's own
    values = np.array([[[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]], np.float32)
    sine = np.sin(np.deg2rad([30.0, 10.0, 0.0]))
    by_hand = (2 * (sine[0] - sine[1]) + 4 * (sine[1] - sine[2])) / (sine[0] - sine[2])
    np.testing.assert_allclose(Regridder(source, target)(values)[0][:, 0], [1.0, by_hand], rtol=1e-6)


@pytest.mark.parametrize(
    ("minimum", "kept"), [(0.5, [True, True, False]), (0.51, [True, False, False]), (0.0, [True] * 3)]
)
def test_cells_below_the_minimum_valid_fraction_are_missing(minimum, kept):
    source = latlon_cells(np.array([0.25, -0.25]), np.arange(0.25, 3, 0.5))
    values = np.ones((1, 2, 6), np.float32)
    values[0, :, 2] = np.nan  # half of the second cell
    values[0, :, 4], values[0, 0, 5] = np.nan, np.nan  # three quarters of the third
    target = latlon_cells(np.array([0.0, 1.0]), np.array([0.5, 1.5, 2.5]))
    got = Regridder(source, target, minimum)(values)[0, 0]
    np.testing.assert_array_equal(np.isfinite(got), kept)
    assert (got[np.isfinite(got)] == 1).all()


def test_cut_ease_grid_has_the_edges_of_the_whole_one():
    x, y = X_FIRST + CELL * np.arange(3856), Y_FIRST - CELL * np.arange(1624)
    whole, cut = ease_cells(x, y), ease_cells(x[2693:3391], y[149:777])
    np.testing.assert_allclose(cut.lat_edges, whole.lat_edges[149:778], atol=1e-9)
    np.testing.assert_allclose(cut.lon_edges, whole.lon_edges[2693:3392], atol=1e-9)
    np.testing.assert_allclose([whole.lat_edges[0], whole.lon_edges[0], whole.lon_edges[-1]], [85.0445664, -180, 180])


def test_default_cells_are_the_published_ones():
    cells = region_cells(3, 54, 72, 136, 1.0)
    assert cells.shape == (52, 65)
    assert (cells.lat[0], cells.lat[-1], cells.lon[0], cells.lon[-1]) == (54, 3, 72, 136)


def test_bounds_that_are_no_whole_number_of_cells_apart_are_refused():
    with pytest.raises(UserError, match="a whole number of cells of"):
        region_cells(3, 54, 72, 136, 0.7)
    with pytest.raises(UserError):
        region_cells(54, 3, 72, 136, 1.0)
