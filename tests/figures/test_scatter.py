import errno
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from figure_checks import assert_nothing_piles_up, assert_tidy_plot, curve, drawn_texts, marks, offline, saved_figures  # noqa: F401
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.stats import linregress

from utils.common.cli import UserError
from utils.figures import scatter, style
from utils.figures.scatter import draw_scatter, draw_scatters
from utils.scores.baselines import BASELINES

pytestmark = pytest.mark.usefixtures("real_pictures")
TITLE = "SYNTHETIC sample: convlstm, finetune-SMAPtest, lead 3 days"


@pytest.fixture
def pairs():
    """Observed and predicted [day, lat, lon] with a fifth of the values missing in each."""
    return some_pairs()


def some_pairs(seed=1, slope=0.8):
    rng = np.random.default_rng(seed)
    observed = rng.gamma(4, 0.06, (40, 10, 12)).clip(0, 0.6)
    predicted = slope * observed + 0.05 + rng.normal(0, 0.02, observed.shape)
    for values in (observed, predicted):
        values[rng.random(values.shape) < 0.2] = np.nan
    return observed, predicted


NAMES = ("compact, from scratch", "convlstm, from scratch", "ridge_memory")
NAMES += ("compact, with transfer", "convlstm, with transfer", "persistence")


def panels(names=NAMES):
    return {name: some_pairs(i, 0.5 + 0.04 * i) for i, name in enumerate(names)}


def pictures(title: str) -> dict[str, Figure]:
    return {
        "scatter": scatter._scatter_figure(*some_pairs(), title),
        "scatters": scatter._scatters_figure(panels(), title),
    }


@pytest.mark.parametrize("title", ["", "/a/path/without/spaces" * 20, "costs $5 and $PATH\nline 2"])
def test_the_whole_title_stands_on_the_page(title):
    for figure in pictures(title).values():
        assert_tidy_plot(figure)
        assert "".join(figure.texts[0].get_text().split()) == "".join(title.split())


def test_every_axis_says_its_unit():
    figures = pictures(TITLE)
    said = {name: " | ".join(text for text, *_ in drawn_texts(figure)) for name, figure in figures.items()}
    for name, labels in {
        "scatter": ["observed soil moisture (m³ m⁻³)", "predicted soil moisture (m³ m⁻³)", "number of cell-days"],
        "scatters": ["observed (m³ m⁻³)", "predicted (m³ m⁻³)", "number of cell-days"],
    }.items():
        assert all(label in said[name] for label in labels), name


def test_baselines_and_forecasts_differ_in_grey():
    def look(color, style="solid"):
        return round(float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))), 2), style

    looks = [look(row.colour, row.line) for row in BASELINES.values()]
    for (grey, dashes), (other, line) in combinations(looks, 2):
        assert dashes != line or abs(grey - other) > 0.25
    assert abs(look(style.FORECASTS[0])[0] - look(style.FORECASTS[1])[0]) > 0.2


def test_the_fitted_line_is_ordinary_least_squares_of_predicted_on_observed(pairs):
    figure = scatter._scatter_figure(*pairs, TITLE)
    identity, fit = figure.axes[0].get_lines()
    both = np.isfinite(pairs[0]) & np.isfinite(pairs[1])
    expected = linregress(pairs[0][both], pairs[1][both])
    x, y = fit.get_data()
    np.testing.assert_allclose(y, expected.slope * np.array(x) + expected.intercept)
    assert fit.get_label() == f"fit: y = {expected.slope:.3f} x + {expected.intercept:.4f}"
    np.testing.assert_array_equal(*identity.get_data())


def test_the_scatter_says_r2_rmse_and_n_of_the_pairs_without_missing_values(pairs):
    figure = scatter._scatter_figure(*pairs, TITLE)
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
    ax = scatter._scatter_figure(observed, predicted, TITLE).axes[0]
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlim()[0] > -1
    assert "(7 outside)" in ax.texts[0].get_text()
    assert "R² = −" in ax.texts[0].get_text(), "the wild forecasts count in the scores"
    ax = scatter._scatters_figure({"cnn": (observed, predicted)}, TITLE).axes[0]
    assert ax.get_xlim()[0] > -1 and "7 outside" in ax.texts[0].get_text() and "R² −" in ax.texts[0].get_text()


@pytest.mark.parametrize("value", [0.0, 0.2])
def test_a_scatter_of_one_observed_value_has_no_fit(value):
    data = np.full(50, value), np.linspace(0.1, 0.3, 50)
    for figure in (scatter._scatter_figure(*data, TITLE), scatter._scatters_figure({"a": data}, TITLE)):
        assert len(figure.axes[0].get_lines()) == 1
        assert "R² not defined" in figure.axes[0].texts[0].get_text()
        assert_tidy_plot(figure)


def test_the_scatters_share_axes_and_colours_and_say_slope_r2_and_rmse():
    data = panels()
    figure = scatter._scatters_figure(data, TITLE)
    *grid, bar = figure.axes
    assert len(grid) == 6 and bar.get_label() == "colour bar"
    assert len({(ax.get_xlim(), ax.get_ylim(), ax.collections[0].get_clim()) for ax in grid}) == 1
    for ax, (observed, predicted) in zip(grid, data.values(), strict=True):
        both = np.isfinite(observed) & np.isfinite(predicted)
        o, p = observed[both], predicted[both]
        fit = linregress(o, p)
        r2 = 1 - ((p - o) ** 2).sum() / ((o - o.mean()) ** 2).sum()
        rmse = np.sqrt(((p - o) ** 2).mean())
        assert ax.texts[0].get_text() == f"slope {fit.slope:.2f}\nR² {r2:.3f}\nRMSE {rmse:.4f}"
        line = curve(ax, "fitted line")
        np.testing.assert_allclose(line[:, 1], fit.slope * line[:, 0] + fit.intercept)
        assert ax.collections[0].get_array().sum() == both.sum()
        assert ax.collections[0].get_rasterized(), "a vector file of every cell is too heavy"
    assert [ax.get_title(loc="left")[4:] for ax in grid] == list(NAMES)


@pytest.mark.parametrize(
    "data",
    [
        panels(),
        panels(NAMES[:1]),
        panels(NAMES[:5]),
        panels() | {NAMES[1]: (np.full(9, np.nan), np.full(9, 0.2))},
    ],
    ids=["all", "one", "one place free", "one without values"],
)
def test_the_scatters_are_tidy_whatever_has_run(data, tmp_path, saved):
    draw_scatters(data, TITLE, tmp_path / "scatters.png")
    assert_tidy_plot(saved[0])
    assert (tmp_path / "scatters.pdf").stat().st_size < 300_000
    assert len(saved[0].axes) == 1 + sum(np.isfinite(observed).any() for observed, _ in data.values())


def test_nothing_to_draw_is_one_sentence_and_no_file(tmp_path):
    observed = np.linspace(0.1, 0.4, 9)
    nothing = np.full(9, np.nan)
    attempts = [
        (draw_scatter, nothing, observed),
        (draw_scatter, np.array([0.1]), np.array([0.2])),
        (draw_scatters, {}),
        (draw_scatters, {"cnn": (nothing, observed)}),
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

    draw_scatters(panels(), "the earlier one", tmp_path / "scatters.png")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(UserError, match="full"):
        draw_scatters(panels(), "the later one", tmp_path / "scatters.png")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_figures_and_settings_do_not_pile_up(tmp_path, pairs, monkeypatch):
    def draw():
        draw_scatter(*pairs, TITLE, tmp_path / "scatter.png")
        draw_scatters(panels(NAMES[:1]), TITLE, tmp_path / "scatters.png")

    assert_nothing_piles_up(monkeypatch, draw, figures=2)
