import errno
import gc
import socket
import weakref
from itertools import combinations
from pathlib import Path

import frykit.shp as fshp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.stats import linregress

from utils import Drawmap, Drawplot, drawing
from utils.console import UserError
from utils.Drawmap import draw_maps
from utils.Drawplot import draw_scatter, draw_study
from utils.prepared_data import read_prepared

REAL = Path(__file__).parents[2] / "shared" / "realdata" / "conus" / "smap_l3_conus.nc"
TITLE = "SYNTHETIC sample: convlstm, finetune-SMAPtest, lead 3 days, 2018-07-14"
UNEVEN = np.array(
    [49.9, 48.2, 46.5, 44.9, 43.3, 41.8, 40.2, 38.8, 37.3, 35.9, 34.5, 33.1, 31.8, 30.5, 28.0, 26.8, 25.5]
)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Any attempt to reach the network fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a figure reached for the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture
def saved(monkeypatch) -> list[Figure]:
    """The figures that were written to a file."""
    figures, save = [], drawing.save
    for module in (Drawmap, Drawplot):
        monkeypatch.setattr(
            module, "save", lambda figure, *to, **how: (figures.append(figure), save(figure, *to, **how))
        )
    return figures


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
    "one cell": day(np.array([30.0]), np.array([100.0])),
}


def runs(
    models=drawing.MODELS, leads=(3, 5, 7), seeds=(0, 1, 2), experiments=tuple(drawing.EXPERIMENTS)
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (experiment, model, lead, seed, rng.uniform(0.02, 0.05), 0.9)
        for experiment in experiments
        for lead in leads
        for model in (*models, "persistence", "climatology", "ridge")
        for seed in (seeds if model in models else (0,))
    ]
    return pd.DataFrame(rows, columns=["experiment", "model", "lead_days", "seed", "rmse", "r2"])


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox, float]]:
    """Every text a reader sees: what it says, where (pixels), its rotation."""
    figure.draw_without_rendering()
    unseen = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            unseen |= {label for t in ticks if not low <= t.get_loc() <= high for label in (t.label1, t.label2)}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in unseen]
    return [(t.get_text(), t.get_window_extent(), t.get_rotation()) for t in texts]


def assert_tidy(figure: Figure) -> None:
    """No text leaves the page or touches another one."""
    page = figure.bbox.padded(0.5)
    texts = drawn_texts(figure)
    for text, box, _ in texts:
        assert page.containsx(box.x0) and page.containsx(box.x1), f"{text!r} is cut off"
        assert page.containsy(box.y0) and page.containsy(box.y1), f"{text!r} is cut off"
    upright = [(text, box) for text, box, rotation in texts if rotation % 90 == 0]
    for (text, box), (other, place) in combinations(upright, 2):
        assert not box.overlaps(place), f"{text!r} touches {other!r}"


def colour_bars(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_label() == "colour bar"]


def maps(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_title(loc="left")]


@pytest.mark.parametrize("region", REGIONS)
def test_maps_of_any_region_appear_offline_and_tidy(region, tmp_path, saved):
    draw_maps(*REGIONS[region], TITLE, tmp_path / "new" / "map.png")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["map.png"]
    height, width, _ = imread(tmp_path / "new" / "map.png").shape
    assert width == pytest.approx(17 / 2.54 * 200, abs=1) and height > 250
    assert_tidy(saved[0])


@pytest.mark.skipif(not REAL.exists(), reason="the real data set is not here")
def test_maps_of_real_smap_data_over_the_united_states(tmp_path, saved):
    moisture = read_prepared(REAL)["soil_moisture"]
    observed, predicted = moisture.isel(time=100), moisture.isel(time=slice(90, 100)).mean("time")
    draw_maps(observed, predicted, "SMAP L3, 2015-07-10", tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 20_000
    assert_tidy(saved[0])
    shown = maps(saved[0])[0].collections[0].get_array()
    assert np.ma.count(shown) == np.isfinite(observed).sum()


def test_china_has_its_border_the_nine_dash_line_and_the_inset_in_each_map():
    figure = Drawmap._maps_figure(*REGIONS["China at 2°"], TITLE)
    figure.draw_without_rendering()
    insets = [ax for ax in figure.axes if ax not in maps(figure) + colour_bars(figure)]
    assert len(insets) == 3
    for ax, inset in zip(maps(figure), insets, strict=True):
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
    figure = Drawmap._maps_figure(*REGIONS[region], TITLE)
    assert len(figure.axes) == len(maps(figure)) + len(colour_bars(figure)) == 5
    drawn = [id(g) for c in maps(figure)[0].collections for g in getattr(c, "geometries", ())]
    assert {id(country) for country in fshp.get_countries()} <= set(drawn)


def test_a_map_hides_no_cell_of_a_grid_wider_than_china():
    figure = Drawmap._maps_figure(*REGIONS["China and its neighbours"], TITLE)
    assert maps(figure)[0].get_xlim() == (71.5, 136.5)
    assert maps(figure)[0].get_ylim() == (2.5, 54.5)


def test_observed_and_predicted_share_limits_and_the_difference_is_centred_on_zero():
    observed, predicted = REGIONS["China at 1°"]
    left, middle, right = (ax.collections[0] for ax in maps(Drawmap._maps_figure(observed, predicted, TITLE)))
    assert left.get_clim() == middle.get_clim()
    assert left.get_cmap() == middle.get_cmap()
    low, high = right.get_clim()
    assert low == -high < 0
    expected = (predicted - observed).sortby("lat").values
    np.testing.assert_allclose(right.get_array().filled(np.nan), expected, atol=1e-7)


@pytest.mark.parametrize("flip", ["as it is", "lat", "lon", "0…360", "transposed"])
def test_a_cell_is_drawn_where_it_is_whatever_the_order_of_the_file(flip):
    lat, lon = UNEVEN, np.array([-123.0, -121.5, -119.0, -116.0])
    observed, predicted = day(lat, lon)
    turned = {
        "as it is": lambda a: a,
        "lat": lambda a: a.isel(lat=slice(None, None, -1)),
        "lon": lambda a: a.isel(lon=slice(None, None, -1)),
        "0…360": lambda a: a.assign_coords(lon=a.lon + 360),
        "transposed": lambda a: a.T,
    }[flip]
    mesh = maps(Drawmap._maps_figure(turned(observed), turned(predicted), TITLE))[0].collections[0]
    corners = mesh.get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], [-123.75, -122.25, -120.25, -117.5, -114.5])
    assert corners[-2, 0, 1] == pytest.approx((lat[0] + lat[1]) / 2), "edges lie half way between centres"
    np.testing.assert_allclose(mesh.get_array(), observed.sortby("lat").values, atol=1e-7)


@pytest.mark.parametrize("title", ["", "short", TITLE * 4, "/a/path/without/spaces" * 20, "costs $5 and $PATH\nline 2"])
def test_the_whole_title_stands_on_the_page(title):
    pictures = (
        Drawmap._maps_figure(*REGIONS["uneven, descending"], title),
        Drawplot._scatter_figure(np.linspace(0, 0.5, 9), np.linspace(0.1, 0.4, 9), title),
        Drawplot._study_figure(runs(), title),
    )
    for figure in pictures:
        assert_tidy(figure)
        assert "".join(figure.texts[0].get_text().split()) == "".join(title.split())


def test_every_axis_and_colour_bar_says_its_unit():
    figure = Drawmap._maps_figure(*REGIONS["China at 1°"], TITLE)
    assert [ax.get_xlabel() for ax in colour_bars(figure)] == [
        "soil moisture (m³ m⁻³)",
        "predicted − observed (m³ m⁻³)",
    ]
    texts = [text for text, *_ in drawn_texts(figure)]
    assert {"80°E", "100°E", "120°E", "20°N", "30°N", "40°N", "50°N"} <= set(texts)
    scatter = Drawplot._scatter_figure(np.linspace(0, 0.5, 9), np.linspace(0.1, 0.4, 9), TITLE)
    assert scatter.axes[0].get_xlabel() == "observed soil moisture (m³ m⁻³)"
    assert scatter.axes[0].get_ylabel() == "predicted soil moisture (m³ m⁻³)"
    assert [ax.get_ylabel() for ax in colour_bars(scatter)] == ["number of cell-days"]
    assert "m³ m⁻³" in Drawplot._study_figure(runs(), TITLE).axes[0].get_ylabel()


@pytest.fixture
def pairs():
    """Observed and predicted [day, lat, lon] with a fifth of the values missing in each."""
    rng = np.random.default_rng(1)
    observed = rng.gamma(4, 0.06, (40, 10, 12)).clip(0, 0.6)
    predicted = 0.8 * observed + 0.05 + rng.normal(0, 0.02, observed.shape)
    for values in (observed, predicted):
        values[rng.random(values.shape) < 0.2] = np.nan
    return observed, predicted


def test_the_fitted_line_is_ordinary_least_squares_of_predicted_on_observed(pairs):
    figure = Drawplot._scatter_figure(*pairs, TITLE)
    identity, fit = figure.axes[0].get_lines()
    both = np.isfinite(pairs[0]) & np.isfinite(pairs[1])
    expected = linregress(pairs[0][both], pairs[1][both])
    x, y = fit.get_data()
    np.testing.assert_allclose(y, expected.slope * np.array(x) + expected.intercept)
    assert fit.get_label() == f"fit: y = {expected.slope:.3f} x + {expected.intercept:.4f}"
    np.testing.assert_array_equal(*identity.get_data())


def test_the_scatter_says_r2_rmse_and_n_of_the_pairs_without_missing_values(pairs):
    figure = Drawplot._scatter_figure(*pairs, TITLE)
    both = np.isfinite(pairs[0]) & np.isfinite(pairs[1])
    o, p = pairs[0][both], pairs[1][both]
    r2 = 1 - ((p - o) ** 2).sum() / ((o - o.mean()) ** 2).sum()
    rmse = np.sqrt(((p - o) ** 2).mean())
    assert figure.axes[0].texts[0].get_text() == f"R² = {r2:.3f}\nRMSE = {rmse:.4f} m³ m⁻³\nn = {both.sum():,}"
    mesh = figure.axes[0].collections[0]
    edges = mesh.get_coordinates()[0, :, 0]
    expected, *_ = np.histogram2d(p, o, bins=(edges, edges))  # rows are the y axis: predicted
    np.testing.assert_array_equal(mesh.get_array().filled(0), expected)
    assert expected.sum() == both.sum(), "every pair is in the density"


def test_the_scatter_has_equal_axes_and_counts_the_wild_forecasts_it_does_not_show(pairs):
    observed, predicted = pairs
    predicted.flat[np.flatnonzero(np.isfinite(observed) & np.isfinite(predicted))[:7]] = -30.0
    ax = Drawplot._scatter_figure(observed, predicted, TITLE).axes[0]
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlim()[0] > -1
    assert "(7 outside)" in ax.texts[0].get_text()
    assert "R² = −" in ax.texts[0].get_text(), "the wild forecasts count in the scores"


@pytest.mark.parametrize("value", [0.0, 0.2])
def test_a_scatter_of_one_observed_value_has_no_fit(value):
    figure = Drawplot._scatter_figure(np.full(50, value), np.linspace(0.1, 0.3, 50), TITLE)
    assert len(figure.axes[0].get_lines()) == 1
    assert "R² not defined" in figure.axes[0].texts[0].get_text()
    assert_tidy(figure)


def test_the_study_shows_the_mean_and_the_range_of_the_seeds_and_every_baseline():
    table = runs().sample(frac=1, random_state=0)
    figure = Drawplot._study_figure(table, TITLE)
    assert [ax.get_title(loc="left").split("\n")[0][4:] for ax in figure.axes] == list(drawing.EXPERIMENTS)
    for ax, experiment in zip(figure.axes, drawing.EXPERIMENTS, strict=True):
        names = [label.get_text() for label in ax.get_xticklabels()]
        assert names == list(drawing.MODELS)
        whiskers, dots = ax.collections[0::2], ax.collections[1::2]
        stairs = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
        for x, name in enumerate(names):
            rows = table[(table.experiment == experiment) & (table.model == name)]
            expected = rows.groupby("lead_days")["rmse"].agg(["mean", "min", "max"])
            np.testing.assert_allclose(dots[x].get_offsets()[:, 1], expected["mean"])
            assert np.all(np.abs(dots[x].get_offsets()[:, 0] - x) < 0.5), "dots stand in the column of their model"
            ends = np.array([segment[:, 1] for segment in whiskers[x].get_segments()])
            np.testing.assert_allclose(ends, expected[["min", "max"]])
            for i, baseline in enumerate(("persistence", "climatology", "ridge")):
                rows = table[(table.experiment == experiment) & (table.model == baseline)].sort_values("lead_days")
                np.testing.assert_allclose(stairs[3 * x + i].get_data().values, rows["rmse"])
                assert stairs[3 * x + i].get_edgecolor() == to_rgba(drawing.BASELINES[baseline][0])
    assert len({ax.get_ylim() for ax in figure.axes}) == 1


@pytest.mark.parametrize(
    "table",
    [
        runs(),
        runs(seeds=(0,)),
        runs((*drawing.MODELS, "simvp", "tau", "graph"), leads=(1, 3, 5, 7, 10)),
        runs(models=("cnn",), leads=(3,), experiments=("SMAPtest",)),
        runs(experiments=("SMAPtest", "finetune-SMAPtest")),
        runs()[lambda t: ~t["model"].isin(drawing.BASELINES)],
        runs()[lambda t: (t["model"] != "cnn") | (t["lead_days"] == 3)],
        runs().assign(rmse=lambda t: t["rmse"].where(t["model"] != "lstm")),
    ],
    ids=["all", "one seed", "8 models, 5 leads", "one run", "two experiments", "no baseline", "gaps", "a NaN model"],
)
def test_the_study_is_tidy_whatever_has_run(table, tmp_path, saved):
    draw_study(table, TITLE, tmp_path / "study.png")
    assert imread(tmp_path / "study.png").shape[1] == pytest.approx(17 / 2.54 * 200, abs=1)
    figure = saved[0]
    assert_tidy(figure)
    assert len(figure.axes) == table["experiment"].nunique()
    legends = [legend.get_window_extent() for legend in figure.legends]
    slanted = [box for _, box, rotation in drawn_texts(figure) if rotation % 90]
    assert slanted and not any(box.overlaps(legend) for box in slanted for legend in legends)


def test_nothing_to_draw_is_one_sentence_and_no_file(tmp_path):
    observed, predicted = REGIONS["China at 2°"]
    nothing = xr.full_like(observed, np.nan)
    apart = observed.where(observed.lat > 40), predicted.where(predicted.lat < 30)
    attempts = [
        (draw_maps, nothing, predicted),
        (draw_maps, observed, nothing),
        (draw_maps, *apart),
        (draw_scatter, nothing.values, predicted.values),
        (draw_scatter, np.array([0.1]), np.array([0.2])),
        (draw_study, runs().assign(rmse=np.nan)),
        (draw_study, runs()[lambda t: t["model"].isin(drawing.BASELINES)]),
    ]
    for draw, *data in attempts:
        with pytest.raises(UserError) as error:
            draw(*data, TITLE, tmp_path / "figure.png")
        assert str(error.value).endswith(".") and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_figure_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def full_disk(self, path, **kwargs):
        Path(path).write_bytes(b"\x89PNG")
        raise OSError(errno.ENOSPC, "No space left on device")

    draw_study(runs(), "the earlier one", tmp_path / "study.png")
    before = (tmp_path / "study.png").read_bytes()
    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(UserError, match="full"):
        draw_study(runs(), "the later one", tmp_path / "study.png")
    assert [file.name for file in tmp_path.iterdir()] == ["study.png"]
    assert (tmp_path / "study.png").read_bytes() == before


def test_figures_and_settings_do_not_pile_up(tmp_path, pairs, monkeypatch):
    class Counted(Figure):
        alive, drawn = weakref.WeakSet(), 0

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            Counted.alive.add(self)
            Counted.drawn += 1

    monkeypatch.setattr(drawing, "Figure", Counted)
    settings = dict(plt.rcParams)
    for _ in range(2):
        draw_maps(*REGIONS["China at 2°"], TITLE, tmp_path / "map.png")
        draw_scatter(*pairs, TITLE, tmp_path / "scatter.png")
        draw_study(runs(), TITLE, tmp_path / "study.png")
    gc.collect()
    assert Counted.drawn == 6 and not Counted.alive
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == settings
