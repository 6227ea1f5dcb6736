import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_nothing_piles_up, assert_tidy_plot, curve, drawn_texts, marks, offline, saved_figures  # noqa: F401
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import StepPatch

from utils.common.cli import UserError
from utils.figures import style
from utils.scores.baselines import BASELINES
from utils.study.questions.error_by_lead import _leads_figure, draw_leads
from utils.study.questions.maps_and_series import _series_figure, draw_series
from utils.study.questions.models import _study_figure, draw_study
from utils.study.questions.predictors_and_record_length import (
    _predictors_figure,
    _target_days_figure,
    draw_predictors,
    draw_target_days,
)
from utils.study.questions.transfer_gain import _transfer_gain_figure, draw_transfer_gain

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


def target_days(models=style.MODELS) -> pd.DataFrame:
    rows = [
        (experiment, model, days, days == 730, rmse + 0.001 * k, rmse + 0.001 * k - 0.003, rmse + 0.001 * k + 0.002)
        for k, model in enumerate(models)
        for days in (30, 90, 180, 365, 730)
        for experiment, rmse in (("SMAPtest", 0.04 + 0.3 / days), ("finetune-SMAPtest", 0.035 + 0.2 / days))
    ]
    rows += [
        (experiment, name, days, days == 730, rmse, np.nan, np.nan)
        for experiment in ("SMAPtest", "finetune-SMAPtest")
        for days in (30, 90, 180, 365, 730)
        for name, rmse in (("persistence", 0.035), ("ridge", 0.03 + 0.1 / days), ("climatology", 0.04 + 0.4 / days))
    ]
    return pd.DataFrame(rows, columns=["experiment", "model", "target_days", "whole", "rmse", "low", "high"])


def lead_scores(models=("convlstm",), leads=range(1, 11)) -> pd.DataFrame:
    rows = []
    for lead in leads:
        persistence = 0.012 * np.sqrt(lead)
        for k, name in enumerate((*BASELINES, *models)):
            rmse = 0.04 if name == "climatology" else persistence * (1 - 0.004 * k * lead)
            rows.append((name, lead, rmse, rmse - 0.001, rmse + 0.002, 1 - (rmse / persistence) ** 2))
    return pd.DataFrame(rows, columns=["model", "lead_days", "rmse", "low", "high", "skill"])


def gains(models=style.MODELS, leads=(3, 5, 7)) -> pd.DataFrame:
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


def pictures(title: str) -> dict[str, Figure]:
    return {
        "study": _study_figure(runs(), title),
        "target days": _target_days_figure(target_days(), title),
        "leads": _leads_figure(lead_scores(), title),
        "transfer gain": _transfer_gain_figure(gains(), title),
        "predictors": _predictors_figure(predictors(), title),
        "series": _series_figure(cells(), title),
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
        "study": ["RMSE (m³ m⁻³)", "R² (–)", "skill over persistence (–)", "lead 3 d"],
        "target days": ["SMAP training days (d)", "RMSE (m³ m⁻³)"],
        "leads": ["lead (d)", "RMSE (m³ m⁻³)", "skill over persistence (–)"],
        "transfer gain": ["change of RMSE by transfer (%)"],
        "predictors": ["change of RMSE (10⁻³ m³ m⁻³)"],
        "series": ["soil moisture\n(m³ m⁻³)", "RMSE (m³ m⁻³)"],
    }.items():
        assert all(label in said[name] for label in labels), name
    assert len([ax for ax in figures["leads"].axes if ax.get_xlabel() == "lead (d)"]) == 2


def test_the_study_shows_mean_interval_and_seeds_of_every_score_and_every_baseline():
    table = runs().sample(frac=1, random_state=0)
    figure = _study_figure(table, TITLE)
    assert [ax.get_title(loc="left").split("\n")[0][4:] for ax in figure.axes[:3]] == list(style.EXPERIMENTS)
    assert len(figure.axes) == 9
    for k, ax in enumerate(figure.axes):
        score, experiment = list(SCORES)[k // 3], list(style.EXPERIMENTS)[k % 3]
        here = table[table["experiment"] == experiment]
        names = style.MODELS
        if k >= 6:
            assert [label.get_text() for label in ax.get_xticklabels()] == list(names)
        seeds, *by_lead = ax.collections
        intervals, dots = by_lead[0::2], by_lead[1::2]
        columns = [score, f"{SCORES[score]}_low", f"{SCORES[score]}_high"]
        means = here.groupby(["model", "lead_days"])[columns].mean()
        assert len({len(dot.get_paths()[0].vertices) for dot in dots}) == 3, "markers tell the leads in grey"
        at = {}
        for lead, interval, dot in zip((3, 5, 7), intervals, dots, strict=True):
            order = np.argsort(dot.get_offsets()[:, 0])
            places = dot.get_offsets()[order]
            expected = means.xs(lead, level="lead_days").loc[list(names)].to_numpy()
            np.testing.assert_allclose(places[:, 1], expected[:, 0])
            np.testing.assert_allclose(np.array(interval.get_segments())[order][..., 1], expected[:, 1:])
            np.testing.assert_array_equal(np.round(places[:, 0]), range(5), "dots stand in the column of their model")
            at |= {(name, lead): x for name, x in zip(names, places[:, 0], strict=True)}
        each = here[here["model"].isin(names)]
        ticks = sorted((at[m, d], v) for m, d, v in zip(each["model"], each["lead_days"], each[score], strict=True))
        np.testing.assert_allclose(sorted(map(tuple, seeds.get_offsets())), ticks)
        stairs = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
        for i, baseline in enumerate(BASELINES):
            rows = here[here["model"] == baseline].sort_values("lead_days")
            for drawn in stairs[5 * i : 5 * i + 5]:
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
    figure = _study_figure(table, TITLE)
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
    figure = _study_figure(table, TITLE)
    assert all(ax.get_ylim()[0] > -1.2 for ax in figure.axes[6:])
    assert len(marks(figure.axes[6])) == 6
    assert "climatology\n(skill partly off the axis)" in {text for text, *_ in drawn_texts(figure)}


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


def test_training_days_show_scratch_and_transfer_of_every_model_beside_the_baselines():
    table = target_days().sample(frac=1, random_state=0)
    figure = _target_days_figure(table, TITLE)
    assert_tidy_plot(figure)
    assert [ax.get_title(loc="left")[4:] for ax in figure.axes] == list(style.MODELS)
    for ax, model in zip(figure.axes, style.MODELS, strict=True):
        assert ax.get_xscale() == "log"
        np.testing.assert_array_equal(ax.get_xticks(), [30, 90, 180, 365, 730])
        if model in style.MODELS[2:]:  # nothing stands below
            shown = [t.label1.get_text() for t in ax.xaxis.get_major_ticks() if t.label1.get_visible()]
            assert shown == ["30", "90", "180", "365", "730\n(all)"]
        for i, (experiment, label) in enumerate(
            {"SMAPtest": "from scratch", "finetune-SMAPtest": "with transfer"}.items()
        ):
            rows = table[(table["model"] == model) & (table["experiment"] == experiment)].sort_values("target_days")
            drawn = curve(ax, label)
            np.testing.assert_allclose(drawn[:, 1], rows["rmse"])
            np.testing.assert_allclose(drawn[:, 0], rows["target_days"], rtol=0.06)  # side by side
            ends = [segment[:, 1] for segment in ax.collections[i].get_segments()]
            np.testing.assert_allclose(ends, rows[["low", "high"]])
        for name in ("persistence", "ridge", "climatology"):
            rows = table[(table["model"] == name) & (table["experiment"] == "SMAPtest")].sort_values("target_days")
            np.testing.assert_allclose(curve(ax, name), rows[["target_days", "rmse"]])
        assert not marks(ax)
    said = {text for text, *_ in drawn_texts(figure)}
    assert {"persistence", "climatology", "ridge", "from scratch", "with transfer", "95 % interval"} <= said


def test_few_days_that_make_transfer_worse_stay_on_the_axis():
    """The result that matters most, a month of SMAP, is not hidden behind an arrow."""
    table = target_days(("convlstm",))
    worse = (table["experiment"] == "finetune-SMAPtest") & (table["target_days"] == 30) & (table["model"] == "convlstm")
    table.loc[worse, ["rmse", "low", "high"]] = 0.0705, 0.06, 0.08
    ax = _target_days_figure(table, TITLE).axes[0]
    assert not marks(ax) and ax.get_ylim()[1] > 0.0705


def test_an_rmse_far_too_high_is_an_arrow_with_its_value():
    table = target_days()
    bad = (table["model"] == "lstm") & (table["target_days"] == 30) & (table["experiment"] == "SMAPtest")
    table.loc[bad, ["rmse", "low", "high"]] = 0.743, 0.7, 0.8
    figure = _target_days_figure(table, TITLE)
    assert figure.axes[1].get_ylim()[1] < 0.1
    assert [(round(x), text) for x, _, text in marks(figure.axes[1])] == [(29, "0.743")]
    assert not any(marks(ax) for ax in figure.axes if ax is not figure.axes[1])
    assert_tidy_plot(figure)


@pytest.mark.parametrize("count", range(1, 6))
def test_training_days_are_tidy_for_any_number_of_models(count, tmp_path, saved):
    draw_target_days(target_days(style.MODELS[:count]), TITLE, tmp_path / "days.png")
    assert_tidy_plot(saved[0])
    assert len(saved[0].axes) == count and (tmp_path / "days.pdf").exists()


def test_leads_show_rmse_with_its_band_and_skill():
    table = lead_scores().sample(frac=1, random_state=0)
    figure = _leads_figure(table, TITLE)
    assert_tidy_plot(figure)
    for ax, score in zip(figure.axes, ("rmse", "skill"), strict=True):
        for name in ("convlstm", *BASELINES):
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
    figure = _transfer_gain_figure(table.sample(frac=1, random_state=0), TITLE)
    assert_tidy_plot(figure)
    (ax,) = figure.axes
    intervals, dots = ax.collections[0::2], ax.collections[1::2]
    for lead, interval, dot in zip((3, 5, 7), intervals, dots, strict=True):
        rows = table[table["lead_days"] == lead].set_index("model").loc[list(style.MODELS)]
        order = np.argsort(dot.get_offsets()[:, 0])
        np.testing.assert_array_equal(np.round(dot.get_offsets()[order, 0]), range(5))
        np.testing.assert_allclose(dot.get_offsets()[order, 1], rows["change"])
        np.testing.assert_allclose(np.array(interval.get_segments())[order][..., 1], rows[["low", "high"]])
        hollow = (dot.get_facecolor()[order] == 1).all(axis=1)
        np.testing.assert_array_equal(hollow, ~rows["significant"])
    assert len({len(dot.get_paths()[0].vertices) for dot in dots}) > 1, "markers tell the leads where hollow"
    table.loc[0, "change"] = 480.0
    ax = _transfer_gain_figure(table, TITLE).axes[0]
    assert ax.get_ylim()[1] < 30 and [text for *_, text in marks(ax)] == ["480."]


def test_predictors_show_their_worth_over_all_seasons_and_by_season():
    table = predictors().sample(frac=1, random_state=0)
    figure = _predictors_figure(table, TITLE)
    assert_tidy_plot(figure)
    left, *strips = figure.axes
    names = ["soil_moisture", "soil_temperature", "precipitation", "season"]
    assert [label.get_text() for label in left.get_yticklabels()] == [name.replace("_", "\n") for name in names]
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
    assert {"+12.00", "+24.00", "+0.80", "+1.60"} <= {text for text, *_ in drawn_texts(figure)}


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
    assert_tidy_plot(_series_figure([cell], TITLE))


def test_nothing_to_draw_is_one_sentence_and_no_file(tmp_path):
    attempts = [
        (draw_study, runs().assign(rmse=np.nan)),
        (draw_study, runs()[lambda t: t["model"].isin(BASELINES)]),
        (draw_target_days, target_days().assign(rmse=np.nan)),
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


def test_figures_and_settings_do_not_pile_up(tmp_path, monkeypatch):
    assert_nothing_piles_up(monkeypatch, lambda: draw_leads(lead_scores(), TITLE, tmp_path / "leads.png"), figures=1)
