import errno
import gc
import weakref
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figures import assert_tidy, drawn_texts, offline  # noqa: F401
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import StepPatch
from scipy.stats import linregress

from utils import Drawcurves, Drawplot, drawing
from utils.console import UserError
from utils.Drawcurves import draw_leads, draw_predictors, draw_series, draw_target_days, draw_transfer_gain
from utils.Drawplot import draw_scatter, draw_scatters, draw_study

TITLE = "SYNTHETIC sample: convlstm, finetune-SMAPtest, lead 3 days"
LONGEST = "convlstm_conv_without_soil_temperature"
SCORES = {"rmse": "rmse", "r2": "r2", "skill_over_persistence": "skill"}


@pytest.fixture
def saved(monkeypatch) -> list[Figure]:
    """The figures that were written to a file."""
    figures, save = [], drawing.save
    for module in (Drawplot, Drawcurves):
        monkeypatch.setattr(
            module, "save", lambda figure, *to, **how: (figures.append(figure), save(figure, *to, **how))
        )
    return figures


def marks(ax: Axes) -> list[tuple[float, float, str]]:
    """The clipped values: where the triangle stands, and what is written beside it."""
    triangles = [line for line in ax.get_lines() if line.get_gid() == "clipped"]
    places = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in triangles]
    assert {place for _, place in places} <= set(ax.get_ylim()), "a triangle stands on the edge"
    written = {
        tuple(map(float, text.xy)): text.get_text().replace("−", "-") for text in ax.texts if hasattr(text, "xy")
    }
    return [(*place, written[place]) for place in places]


def curve(ax: Axes, label: str) -> np.ndarray:
    (line,) = [line for line in ax.get_lines() if line.get_label() == label]
    x, y = line.get_data()
    return np.column_stack([date2num(x) if np.asarray(x).dtype.kind == "M" else x, np.asarray(y, float)])


def runs(
    models=drawing.MODELS, leads=(3, 5, 7), seeds=(0, 1, 2), experiments=tuple(drawing.EXPERIMENTS)
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (experiment, model, lead, seed, rng.uniform(0.02, 0.05), rng.uniform(0.8, 0.95), rng.uniform(-0.4, 0.4))
        for experiment in experiments
        for lead in leads
        for model in (*models, *drawing.BASELINES)
        for seed in (seeds if model in models else (0,))
    ]
    table = pd.DataFrame(rows, columns=["experiment", "model", "lead_days", "seed", *SCORES])
    table.loc[table["model"] == "persistence", "skill_over_persistence"] = 0.0
    for score, stem in SCORES.items():
        width = {"rmse": 0.001, "r2": 0.01, "skill": 0.05}[stem]
        table[f"{stem}_low"], table[f"{stem}_high"] = table[score] - width, table[score] + 1.5 * width
    return table


def target_days(models=drawing.MODELS) -> pd.DataFrame:
    rows = [
        (experiment, model, days, days == 730, skill + 0.02 * k, skill + 0.02 * k - 0.05, skill + 0.02 * k + 0.04)
        for k, model in enumerate(models)
        for days in (30, 90, 180, 365, 730)
        for experiment, skill in (("SMAPtest", 0.1 - 12 / days), ("finetune-SMAPtest", 0.2 - 6 / days))
    ]
    rows += [
        (experiment, name, days, days == 730, skill, np.nan, np.nan)
        for experiment in ("SMAPtest", "finetune-SMAPtest")
        for days in (30, 90, 180, 365, 730)
        for name, skill in (("persistence", 0.0), ("ridge", 0.2 - 3 / days), ("climatology", -0.2 - 60 / days))
    ]
    return pd.DataFrame(rows, columns=["experiment", "model", "target_days", "whole", "skill", "low", "high"])


def lead_scores(models=("convlstm",), leads=range(1, 11)) -> pd.DataFrame:
    rows = []
    for lead in leads:
        persistence = 0.012 * np.sqrt(lead)
        for k, name in enumerate((*drawing.BASELINES, *models)):
            rmse = 0.04 if name == "climatology" else persistence * (1 - 0.004 * k * lead)
            rows.append((name, lead, rmse, rmse - 0.001, rmse + 0.002, 1 - (rmse / persistence) ** 2))
    return pd.DataFrame(rows, columns=["model", "lead_days", "rmse", "low", "high", "skill"])


def gains(models=drawing.MODELS, leads=(3, 5, 7)) -> pd.DataFrame:
    rows = [
        (model, lead, c := 2.0 * k - 8 + lead, c - 3.0, c + 2.5, not c - 3 < 0 < c + 2.5)
        for k, model in enumerate(models)
        for lead in leads
    ]
    return pd.DataFrame(rows, columns=["model", "lead_days", "change", "low", "high", "significant"])


def predictors() -> pd.DataFrame:
    worth = {"soil_moisture": 0.012, "soil_temperature": 0.0008, "precipitation": 0.002, "season": -0.0001}
    rows = [
        (how, name, season, change * f * g, change * f * g - 0.0004, change * f * g + 0.0005)
        for name, change in worth.items()
        for how, f in (("retrained without", 1), ("permuted", 2), ("added", -0.5))
        if how != "added" or name == "season"
        for season, g in (("all", 1), ("DJF", 0.5), ("MAM", 0.8), ("JJA", 1.5), ("SON", 1.2))
    ]
    return pd.DataFrame(rows, columns=["how", "predictor", "season", "rmse_change", "low", "high"])


def cells(names=("humid cell, 27° N 113° E", "semi-arid cell, 40° N 108° E", "arid cell, 39° N 83° E")) -> list[dict]:
    rng, shown = np.random.default_rng(2), []
    time = np.arange("2017-04-01", "2018-04-01", dtype="datetime64[D]").astype("datetime64[ns]")
    time = np.delete(time, slice(100, 110))
    for name in names:
        observed = 0.2 + 0.05 * np.sin(np.arange(len(time)) / 60) + rng.normal(0, 0.01, len(time))
        observed[rng.random(len(time)) < 0.2] = np.nan
        forecasts = {"persistence": observed + 0.01, "convlstm with transfer": np.nan_to_num(observed, nan=0.2)}
        rmse = {"persistence": 0.01, "convlstm with transfer": 0.0213}
        shown.append({"name": name, "time": time, "observed": observed, "forecasts": forecasts, "rmse": rmse})
    return shown


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


def panels(rows=("SMAPtest", "finetune-SMAPtest"), columns=drawing.MODELS):
    keys = [(row, column) for row in rows for column in columns]
    return {key: some_pairs(i, 0.5 + 0.04 * i) for i, key in enumerate(keys)}


def pictures(title: str) -> dict[str, Figure]:
    return {
        "scatter": Drawplot._scatter_figure(*some_pairs(), title),
        "scatters": Drawplot._scatters_figure(panels(), title),
        "study": Drawplot._study_figure(runs(), title),
        "target days": Drawcurves._target_days_figure(target_days(), title),
        "leads": Drawcurves._leads_figure(lead_scores(), title),
        "transfer gain": Drawcurves._transfer_gain_figure(gains(), title),
        "predictors": Drawcurves._predictors_figure(predictors(), title),
        "series": Drawcurves._series_figure(cells(), title),
    }


def assert_tidy_plot(figure: Figure) -> None:
    """Tidy, and slanting names and panels stay clear of the legends."""
    assert_tidy(figure)
    page, texts = figure.bbox.padded(0.5), drawn_texts(figure)
    legends = [legend.get_window_extent() for legend in figure.legends]
    assert all(page.containsx(legend.x0) and page.containsx(legend.x1) for legend in legends), "a legend is cut off"
    slanted = [box for _, box, rotation in texts if rotation % 90]
    assert not any(box.overlaps(legend) for box in slanted for legend in legends)
    axes = [ax.get_window_extent() for ax in figure.axes]
    assert not any(box.overlaps(legend) for box in axes for legend in legends), "a legend covers a panel"


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
        "target days": ["SMAP training days (d)", "skill over persistence (–)"],
        "leads": ["lead (d)", "RMSE (m³ m⁻³)", "skill over persistence (–)"],
        "transfer gain": ["change of RMSE by transfer (%)"],
        "predictors": ["change of RMSE (10⁻³ m³ m⁻³)"],
        "series": ["soil moisture\n(m³ m⁻³)", "RMSE (m³ m⁻³)"],
    }.items():
        assert all(label in said[name] for label in labels), name
    assert len([ax for ax in figures["leads"].axes if ax.get_xlabel() == "lead (d)"]) == 2


def test_baselines_and_forecasts_differ_in_grey():
    def look(color, style="solid"):
        return round(float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))), 2), style

    looks = [look(*how) for how in drawing.BASELINES.values()]
    for (grey, style), (other, line) in combinations(looks, 2):
        assert style != line or abs(grey - other) > 0.25
    assert abs(look(drawing.FORECASTS[0])[0] - look(drawing.FORECASTS[1])[0]) > 0.2


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
    ax = Drawplot._scatters_figure({("SMAPtest", "cnn"): (observed, predicted)}, TITLE).axes[0]
    assert ax.get_xlim()[0] > -1 and "7 outside" in ax.texts[0].get_text() and "R² −" in ax.texts[0].get_text()


@pytest.mark.parametrize("value", [0.0, 0.2])
def test_a_scatter_of_one_observed_value_has_no_fit(value):
    data = np.full(50, value), np.linspace(0.1, 0.3, 50)
    for figure in (Drawplot._scatter_figure(*data, TITLE), Drawplot._scatters_figure({("a", "b"): data}, TITLE)):
        assert len(figure.axes[0].get_lines()) == 1
        assert "R² not defined" in figure.axes[0].texts[0].get_text()
        assert_tidy_plot(figure)


def test_the_scatters_share_axes_and_colours_and_say_slope_r2_and_rmse():
    data = panels()
    figure = Drawplot._scatters_figure(data, TITLE)
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
    figure = Drawplot._study_figure(table, TITLE)
    assert [ax.get_title(loc="left").split("\n")[0][4:] for ax in figure.axes[:3]] == list(drawing.EXPERIMENTS)
    assert len(figure.axes) == 9
    for k, ax in enumerate(figure.axes):
        score, experiment = list(SCORES)[k // 3], list(drawing.EXPERIMENTS)[k % 3]
        here = table[table["experiment"] == experiment]
        names = drawing.MODELS
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
        for i, baseline in enumerate(drawing.BASELINES):
            rows = here[here["model"] == baseline].sort_values("lead_days")
            for drawn in stairs[i :: len(drawing.BASELINES)]:
                np.testing.assert_allclose(drawn.get_data().values, rows[score])
                assert drawn.get_edgecolor() == to_rgba(drawing.BASELINES[baseline][0])
        assert not marks(ax)
    for row in range(3):
        assert len({ax.get_ylim() for ax in figure.axes[3 * row : 3 * row + 3]}) == 1


def test_one_bad_model_does_not_ruin_the_study_and_is_marked_with_its_value():
    table = runs(seeds=(0,))
    bad = (table["model"] == "lstm") & (table["experiment"] == "SMAPtest")
    table.loc[bad, ["rmse", "rmse_low", "rmse_high"]] = 0.4321
    table.loc[bad, ["r2", "r2_low", "r2_high"]] = -5.0
    table.loc[bad, ["skill_over_persistence", "skill_low", "skill_high"]] = -40.0
    figure = Drawplot._study_figure(table, TITLE)
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
    figure = Drawplot._study_figure(table, TITLE)
    assert all(ax.get_ylim()[0] > -1.2 for ax in figure.axes[6:])
    assert len(marks(figure.axes[6])) == 6
    assert "partly off the axis: skill of climatology" in {text for text, *_ in drawn_texts(figure)}


@pytest.mark.parametrize(
    "table",
    [
        runs(),
        runs(seeds=(0,)),
        runs((*drawing.MODELS, "simvp", LONGEST), leads=(1, 3, 5, 7, 10)),
        runs(models=("cnn",), leads=(3,), experiments=("SMAPtest",)),
        runs(experiments=("SMAPtest", "finetune-SMAPtest")),
        runs()[lambda t: ~t["model"].isin(drawing.BASELINES)],
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


def test_training_days_show_scratch_and_transfer_of_every_model_beside_the_baselines():
    table = target_days().sample(frac=1, random_state=0)
    figure = Drawcurves._target_days_figure(table, TITLE)
    assert [ax.get_title(loc="left")[4:] for ax in figure.axes] == list(drawing.MODELS)
    for ax, model in zip(figure.axes, drawing.MODELS, strict=True):
        assert ax.get_xscale() == "log"
        np.testing.assert_array_equal(ax.get_xticks(), [30, 90, 180, 365, 730])
        if model in drawing.MODELS[2:]:  # nothing stands below
            assert [t.get_text() for t in ax.get_xticklabels()] == ["30", "90", "180", "365", "730\n(all)"]
        for i, (experiment, label) in enumerate(
            {"SMAPtest": "from scratch", "finetune-SMAPtest": "with transfer"}.items()
        ):
            rows = table[(table["model"] == model) & (table["experiment"] == experiment)].sort_values("target_days")
            drawn = curve(ax, label)
            np.testing.assert_allclose(drawn[:, 1], rows["skill"])
            np.testing.assert_allclose(drawn[:, 0], rows["target_days"], rtol=0.06)  # side by side
            ends = [segment[:, 1] for segment in ax.collections[i].get_segments()]
            np.testing.assert_allclose(ends, rows[["low", "high"]])
        ridge = table[(table["model"] == "ridge") & (table["experiment"] == "SMAPtest")].sort_values("target_days")
        np.testing.assert_allclose(curve(ax, "ridge"), ridge[["target_days", "skill"]])
        zero = [line for line in ax.get_lines() if line.get_color() == drawing.BASELINES["persistence"][0]]
        assert [list(line.get_ydata()) for line in zero] == [[0, 0]]
    said = {text for text, *_ in drawn_texts(figure)}
    assert {"persistence (skill 0)", "climatology (partly off the axis)", "ridge", "95 % interval"} <= said


def test_a_skill_far_too_low_is_an_arrow_with_its_value():
    table = target_days()
    bad = (table["model"] == "lstm") & (table["target_days"] == 30) & (table["experiment"] == "SMAPtest")
    table.loc[bad, ["skill", "low", "high"]] = -7.43, -8.0, -7.0
    figure = Drawcurves._target_days_figure(table, TITLE)
    assert figure.axes[1].get_ylim()[0] > -1.2
    assert [(round(x), text) for x, _, text in marks(figure.axes[1])] == [(28, "-7.43")]
    assert not any(marks(ax) for ax in figure.axes if ax is not figure.axes[1])
    assert_tidy_plot(figure)


@pytest.mark.parametrize("count", range(1, 6))
def test_training_days_are_tidy_for_any_number_of_models(count, tmp_path, saved):
    draw_target_days(target_days(drawing.MODELS[:count]), TITLE, tmp_path / "days.png")
    assert_tidy_plot(saved[0])
    assert len(saved[0].axes) == count and (tmp_path / "days.pdf").exists()


def test_leads_show_rmse_with_its_band_and_skill():
    table = lead_scores().sample(frac=1, random_state=0)
    figure = Drawcurves._leads_figure(table, TITLE)
    assert_tidy_plot(figure)
    for ax, score in zip(figure.axes, ("rmse", "skill"), strict=True):
        for name in ("convlstm", *drawing.BASELINES):
            rows = table[table["model"] == name].sort_values("lead_days")
            np.testing.assert_allclose(curve(ax, name), rows[["lead_days", score]])
        np.testing.assert_array_equal(ax.get_xticks(), range(1, 11))
        widths = {line.get_label(): line.get_linewidth() for line in ax.get_lines() if line.get_gid() != "clipped"}
        assert max(widths, key=widths.get) == "convlstm", "the best model is drawn strongest"
    (band,) = figure.axes[0].collections
    ours = table[table["model"] == "convlstm"]
    corners = {(round(x), round(y, 9)) for x, y in band.get_paths()[0].vertices}
    for end in ("low", "high"):
        assert set(zip(ours["lead_days"], ours[end].round(9), strict=True)) <= corners
    wrong = table[(table["model"] == "climatology") & (table["skill"] < figure.axes[1].get_ylim()[0])]
    assert len(wrong) and sorted((x, text) for x, _, text in marks(figure.axes[1])) == sorted(
        (lead, f"{skill:#.3g}") for lead, skill in zip(wrong["lead_days"], wrong["skill"], strict=True)
    )


@pytest.mark.parametrize("models", [(), ("convlstm", "simvp", LONGEST)], ids=["baselines alone", "three models"])
def test_leads_are_tidy_whatever_has_run(models, tmp_path, saved):
    draw_leads(lead_scores(models, (1, 3, 5)).assign(low=np.nan), TITLE, tmp_path / "leads.png")
    assert_tidy_plot(saved[0])
    assert "95 % interval" in {text for text, *_ in drawn_texts(saved[0])} or not models


def test_the_gain_by_transfer_is_filled_where_significant_and_hollow_where_not():
    table = gains()
    figure = Drawcurves._transfer_gain_figure(table.sample(frac=1, random_state=0), TITLE)
    assert_tidy_plot(figure)
    (ax,) = figure.axes
    intervals, dots = ax.collections[0::2], ax.collections[1::2]
    for lead, interval, dot in zip((3, 5, 7), intervals, dots, strict=True):
        rows = table[table["lead_days"] == lead].set_index("model").loc[list(drawing.MODELS)]
        order = np.argsort(dot.get_offsets()[:, 0])
        np.testing.assert_array_equal(np.round(dot.get_offsets()[order, 0]), range(5))
        np.testing.assert_allclose(dot.get_offsets()[order, 1], rows["change"])
        np.testing.assert_allclose(np.array(interval.get_segments())[order][..., 1], rows[["low", "high"]])
        hollow = (dot.get_facecolor()[order] == 1).all(axis=1)
        np.testing.assert_array_equal(hollow, ~rows["significant"])
    assert len({len(dot.get_paths()[0].vertices) for dot in dots}) > 1, "markers tell the leads where hollow"
    table.loc[0, "change"] = 480.0
    ax = Drawcurves._transfer_gain_figure(table, TITLE).axes[0]
    assert ax.get_ylim()[1] < 30 and [text for *_, text in marks(ax)] == ["480."]


def test_predictors_show_their_worth_over_all_seasons_and_by_season():
    table = predictors().sample(frac=1, random_state=0)
    figure = Drawcurves._predictors_figure(table, TITLE)
    assert_tidy_plot(figure)
    left, *strips = figure.axes
    names = ["soil_moisture", "soil_temperature", "precipitation", "season"]
    assert [label.get_text() for label in left.get_yticklabels()] == [name.replace("_", " ") for name in names]
    assert left.get_ylim()[0] > left.get_ylim()[1], "from top to bottom"

    def drawn(ax: Axes, upright: bool) -> set[tuple]:
        """(predictor or season, change, filled) of every marker."""
        found = set()
        for dots in (c for c in ax.collections if len(c.get_offsets()) and not hasattr(c, "get_segments")):
            faces = np.broadcast_to(dots.get_facecolor(), (len(dots.get_offsets()), 4))
            for (x, y), face in zip(dots.get_offsets(), faces, strict=True):
                place, change = (x, y) if upright else (y, x)
                found.add((round(place), round(change, 6), bool((face[:3] < 1).any())))
        return found

    def expected(rows: pd.DataFrame, key: str, order: list[str]) -> set[tuple]:
        sure = (rows["low"] > 0) | (rows["high"] < 0)
        return {
            (order.index(k), round(1000 * c, 6), bool(s))
            for k, c, s in zip(rows[key], rows["rmse_change"], sure, strict=True)
        }

    assert drawn(left, False) == expected(table[table["season"] == "all"], "predictor", names)
    for ax, name in zip(strips, names, strict=True):
        rows = table[(table["predictor"] == name) & (table["season"] != "all")]
        assert drawn(ax, True) == expected(rows, "season", ["DJF", "MAM", "JJA", "SON"])
    assert {"+12", "+24", "+0.8", "+1.6"} <= {text for text, *_ in drawn_texts(figure)}


@pytest.mark.parametrize(
    "table",
    [
        predictors()[lambda t: t["season"] == "all"],
        predictors()[lambda t: t["how"] == "permuted"],
        predictors()[lambda t: t["predictor"] == "precipitation"],
        predictors().assign(low=np.nan, high=np.nan),
    ],
    ids=["no seasons", "permuted alone", "one predictor", "no intervals"],
)
def test_predictors_are_tidy_whatever_was_tried(table, tmp_path, saved):
    draw_predictors(table, TITLE, tmp_path / "predictors.png")
    assert_tidy_plot(saved[0])


def test_series_show_observed_and_forecasts_and_cross_no_gap(tmp_path, saved):
    shown = cells()
    draw_series(shown, TITLE, tmp_path / "series.png")
    assert_tidy_plot(saved[0])
    assert len(saved[0].axes) == 3 and len(saved[0].legends) == 1
    for ax, cell in zip(saved[0].axes, shown, strict=True):
        name, rmse = ax.get_title(loc="left").split("\n")
        assert name.endswith(cell["name"])
        assert rmse == "RMSE (m³ m⁻³): persistence 0.0100, convlstm with transfer 0.0213"
        for label, values in ({"observed": cell["observed"]} | cell["forecasts"]).items():
            drawn = curve(ax, label)
            there = np.isin(drawn[:, 0], date2num(cell["time"]))
            np.testing.assert_allclose(drawn[there, 1], values)
            assert (~there).sum() == 10 and np.isnan(drawn[~there, 1]).all(), "missing days are a gap"
    assert len({ax.get_xlim() for ax in saved[0].axes}) == 1


def test_series_of_one_cell_with_five_forecasts_are_tidy():
    (cell,) = cells(["humid cell"])
    names = ["persistence", "ridge_memory", "convlstm with transfer", "convlstm from scratch", "conv3d_lstm"]
    cell |= {"forecasts": dict.fromkeys(names, cell["observed"]), "rmse": dict.fromkeys(names, 0.0123)}
    assert_tidy_plot(Drawcurves._series_figure([cell], TITLE))


def test_nothing_to_draw_is_one_sentence_and_no_file(tmp_path):
    observed = np.linspace(0.1, 0.4, 9)
    nothing = np.full(9, np.nan)
    attempts = [
        (draw_scatter, nothing, observed),
        (draw_scatter, np.array([0.1]), np.array([0.2])),
        (draw_scatters, {}),
        (draw_scatters, {("SMAPtest", "cnn"): (nothing, observed)}),
        (draw_study, runs().assign(rmse=np.nan)),
        (draw_study, runs()[lambda t: t["model"].isin(drawing.BASELINES)]),
        (draw_target_days, target_days().assign(skill=np.nan)),
        (draw_target_days, target_days(())),
        (draw_leads, lead_scores().assign(rmse=np.nan)),
        (draw_transfer_gain, gains().iloc[:0]),
        (draw_predictors, predictors()[lambda t: t["season"] != "all"]),
        (draw_series, []),
        (draw_series, [cell | {"observed": cell["observed"] * np.nan} for cell in cells()]),
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
    class Counted(Figure):
        alive, drawn = weakref.WeakSet(), 0

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            Counted.alive.add(self)
            Counted.drawn += 1

    monkeypatch.setattr(drawing, "Figure", Counted)
    settings = dict(plt.rcParams)
    for _ in range(2):
        draw_scatter(*pairs, TITLE, tmp_path / "scatter.png")
        draw_study(runs(), TITLE, tmp_path / "study.png")
        draw_leads(lead_scores(), TITLE, tmp_path / "leads.png")
    gc.collect()
    assert Counted.drawn == 6 and not Counted.alive
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == settings
