import errno
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_nothing_piles_up, assert_tidy_plot, curve, drawn_texts, marks, offline, saved_figures  # noqa: F401
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import StepPatch
from scipy.stats import linregress

from utils.common.cli import UserError
from utils.figures import scatter, style
from utils.figures.scatter import draw_scatter, draw_scatters, draw_study
from utils.scores.baselines import BASELINES

TITLE = "SYNTHETIC sample: convlstm, finetune-SMAPtest, lead 3 days"
LONGEST = "convlstm_conv_without_soil_temperature"
SCORES = {"rmse": "rmse", "r2": "r2", "skill_over_persistence": "skill"}


def runs(models=style.MODELS, leads=(3, 5, 7), seeds=(0, 1, 2), experiments=tuple(style.EXPERIMENTS)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (experiment, model, lead, seed, rng.uniform(0.02, 0.05), rng.uniform(0.8, 0.95), rng.uniform(-0.4, 0.4))
        for experiment in experiments
        for lead in leads
        for model in (*models, *BASELINES)
        for seed in (seeds if model in models else (0,))
    ]
    table = pd.DataFrame(rows, columns=["experiment", "model", "lead_days", "seed", *SCORES])
    table.loc[table["model"] == "persistence", "skill_over_persistence"] = 0.0
    for score, stem in SCORES.items():
        width = {"rmse": 0.001, "r2": 0.01, "skill": 0.05}[stem]
        table[f"{stem}_low"], table[f"{stem}_high"] = table[score] - width, table[score] + 1.5 * width
    return table


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


def panels(rows=("SMAPtest", "finetune-SMAPtest"), columns=style.MODELS):
    keys = [(row, column) for row in rows for column in columns]
    return {key: some_pairs(i, 0.5 + 0.04 * i) for i, key in enumerate(keys)}


def pictures(title: str) -> dict[str, Figure]:
    return {
        "scatter": scatter._scatter_figure(*some_pairs(), title),
        "scatters": scatter._scatters_figure(panels(), title),
        "study": scatter._study_figure(runs(), title),
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
        "scatters": ["observed soil moisture (m³ m⁻³)", "predicted (m³ m⁻³)", "number of cell-days"],
        "study": ["RMSE (m³ m⁻³)", "R² (–)", "skill over persistence (–)", "lead 3 d"],
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
    ax = scatter._scatters_figure({("SMAPtest", "cnn"): (observed, predicted)}, TITLE).axes[0]
    assert ax.get_xlim()[0] > -1 and "7 outside" in ax.texts[0].get_text() and "R² −" in ax.texts[0].get_text()


@pytest.mark.parametrize("value", [0.0, 0.2])
def test_a_scatter_of_one_observed_value_has_no_fit(value):
    data = np.full(50, value), np.linspace(0.1, 0.3, 50)
    for figure in (scatter._scatter_figure(*data, TITLE), scatter._scatters_figure({("a", "b"): data}, TITLE)):
        assert len(figure.axes[0].get_lines()) == 1
        assert "R² not defined" in figure.axes[0].texts[0].get_text()
        assert_tidy_plot(figure)


def test_the_scatters_share_axes_and_colours_and_say_slope_r2_and_rmse():
    data = panels()
    figure = scatter._scatters_figure(data, TITLE)
    *grid, bar = figure.axes
    assert len(grid) == 10 and bar.get_label() == "colour bar"
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
    assert [ax.get_ylabel().split("\n")[0] for ax in grid[::5]] == ["SMAPtest", "finetune-SMAPtest"]


@pytest.mark.parametrize(
    "data",
    [
        panels(),
        panels(("SMAPtest",), ("cnn",)),
        panels(columns=("cnn", "convlstm")),
        {key: values for key, values in panels().items() if key != ("SMAPtest", "cnn")},
        panels() | {("finetune-SMAPtest", "lstm"): (np.full(9, np.nan), np.full(9, 0.2))},
    ],
    ids=["all", "one", "two columns", "one missing", "one without values"],
)
def test_the_scatters_are_tidy_whatever_has_run(data, tmp_path, saved):
    draw_scatters(data, TITLE, tmp_path / "scatters.png")
    assert_tidy_plot(saved[0])
    assert (tmp_path / "scatters.pdf").stat().st_size < 300_000
    assert len(saved[0].axes) == 1 + sum(np.isfinite(observed).any() for observed, _ in data.values())


def test_the_study_shows_mean_interval_and_seeds_of_every_score_and_every_baseline():
    table = runs().sample(frac=1, random_state=0)
    figure = scatter._study_figure(table, TITLE)
    assert [ax.get_title(loc="left").split("\n")[0][4:] for ax in figure.axes[:3]] == list(style.EXPERIMENTS)
    assert len(figure.axes) == 9
    for k, ax in enumerate(figure.axes):
        score, experiment = list(SCORES)[k // 3], list(style.EXPERIMENTS)[k % 3]
        here = table[table["experiment"] == experiment]
        names = style.MODELS
        if k >= 6:
            assert [label.get_text() for label in ax.get_xticklabels()] == list(names)
        intervals, seeds, dots = ax.collections
        columns = [score, f"{SCORES[score]}_low", f"{SCORES[score]}_high"]
        means = here.groupby(["model", "lead_days"])[columns].mean()
        expected = np.concatenate([means.loc[name] for name in names])
        np.testing.assert_allclose(dots.get_offsets()[:, 1], expected[:, 0])
        np.testing.assert_allclose([segment[:, 1] for segment in intervals.get_segments()], expected[:, 1:])
        owner = np.round(dots.get_offsets()[:, 0]).astype(int)
        np.testing.assert_array_equal(owner, np.repeat(np.arange(5), 3), "dots stand in the column of their model")
        at = {
            (name, lead): dots.get_offsets()[3 * i + j, 0]
            for i, name in enumerate(names)
            for j, lead in enumerate((3, 5, 7))
        }
        each = here[here["model"].isin(names)]
        ticks = sorted((at[m, d], v) for m, d, v in zip(each["model"], each["lead_days"], each[score], strict=True))
        np.testing.assert_allclose(sorted(map(tuple, seeds.get_offsets())), ticks)
        stairs = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
        for i, baseline in enumerate(BASELINES):
            rows = here[here["model"] == baseline].sort_values("lead_days")
            for drawn in stairs[i :: len(BASELINES)]:
                np.testing.assert_allclose(drawn.get_data().values, rows[score])
                assert drawn.get_edgecolor() == to_rgba(BASELINES[baseline].colour)
        assert not marks(ax)
    for row in range(3):
        assert len({ax.get_ylim() for ax in figure.axes[3 * row : 3 * row + 3]}) == 1


def test_one_bad_model_does_not_ruin_the_study_and_is_marked_with_its_value():
    table = runs(seeds=(0,))
    bad = (table["model"] == "lstm") & (table["experiment"] == "SMAPtest")
    table.loc[bad, ["rmse", "rmse_low", "rmse_high"]] = 0.4321
    table.loc[bad, ["r2", "r2_low", "r2_high"]] = -5.0
    table.loc[bad, ["skill_over_persistence", "skill_low", "skill_high"]] = -40.0
    figure = scatter._study_figure(table, TITLE)
    assert_tidy_plot(figure)
    for row, (high, text) in enumerate([(0.06, "0.432"), (1, "-5.00"), (0.6, "-40.0")]):
        left, ax, right = figure.axes[3 * row : 3 * row + 3]
        assert ax.get_ylim()[1] < high and ax.get_ylim()[0] > (-0.01, 0.7, -1.1)[row]
        assert [written for *_, written in marks(ax)] == [text] * 3
        assert all(round(x) == 1 for x, *_ in marks(ax))
        assert not marks(left) + marks(right)
    assert "off the axis" in {text for text, *_ in drawn_texts(figure)}


def test_skill_far_below_persistence_does_not_stretch_the_axis_even_where_it_is_the_rule():
    table = runs(seeds=(0,))
    table.loc[table["model"] == "climatology", "skill_over_persistence"] = -2.5
    table.loc[table["model"].isin(["cnn", "lstm"]), "skill_over_persistence"] = -1.4
    figure = scatter._study_figure(table, TITLE)
    assert all(ax.get_ylim()[0] > -1.2 for ax in figure.axes[6:])
    assert len(marks(figure.axes[6])) == 6
    assert "partly off the axis: skill of climatology" in {text for text, *_ in drawn_texts(figure)}


@pytest.mark.parametrize(
    "table",
    [
        runs(),
        runs(seeds=(0,)),
        runs((*style.MODELS, "simvp", LONGEST), leads=(1, 3, 5, 7, 10)),
        runs(models=("cnn",), leads=(3,), experiments=("SMAPtest",)),
        runs(experiments=("SMAPtest", "finetune-SMAPtest")),
        runs()[lambda t: ~t["model"].isin(BASELINES)],
        runs()[lambda t: (t["model"] != "cnn") | (t["lead_days"] == 3)],
        runs().assign(rmse=lambda t: t["rmse"].where(t["model"] != "lstm")),
        runs()[["experiment", "model", "lead_days", "seed", "rmse"]],
        runs().assign(rmse_low=np.nan, r2_high=np.nan),
    ],
    ids="all,one seed,7 models 5 leads,one run,two experiments,no baseline,gaps,a NaN model,RMSE alone,NaN".split(","),
)
def test_the_study_is_tidy_whatever_has_run(table, tmp_path, saved):
    draw_study(table, TITLE, tmp_path / "study.png")
    assert imread(tmp_path / "study.png").shape[1] == pytest.approx(17 / 2.54 * 300, abs=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["study.pdf", "study.png"]
    assert_tidy_plot(saved[0])
    assert len(saved[0].axes) == table["experiment"].nunique() * len(table.columns.intersection(list(SCORES)))
    said = {text for text, *_ in drawn_texts(saved[0])}
    assert ("95 % interval" in said) == ("rmse_low" in table)
    assert ("one seed" in said) == (table["seed"].nunique() > 1)


def test_nothing_to_draw_is_one_sentence_and_no_file(tmp_path):
    observed = np.linspace(0.1, 0.4, 9)
    nothing = np.full(9, np.nan)
    attempts = [
        (draw_scatter, nothing, observed),
        (draw_scatter, np.array([0.1]), np.array([0.2])),
        (draw_scatters, {}),
        (draw_scatters, {("SMAPtest", "cnn"): (nothing, observed)}),
        (draw_study, runs().assign(rmse=np.nan)),
        (draw_study, runs()[lambda t: t["model"].isin(BASELINES)]),
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
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(UserError, match="full"):
        draw_study(runs(), "the later one", tmp_path / "study.png")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_figures_and_settings_do_not_pile_up(tmp_path, pairs, monkeypatch):
    def draw():
        draw_scatter(*pairs, TITLE, tmp_path / "scatter.png")
        draw_study(runs(), TITLE, tmp_path / "study.png")

    assert_nothing_piles_up(monkeypatch, draw, figures=2)
