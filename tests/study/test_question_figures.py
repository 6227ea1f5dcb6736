import numpy as np
import pandas as pd
import pytest
from figure_checks import (
    assert_nothing_piles_up,
    assert_tidy_plot,
    curve,
    drawn_texts,
    forest_arrows,
    forest_points,
    marks,
    offline,  # noqa: F401
    saved_figures,  # noqa: F401
)
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.image import imread

from utils.common.cli import UserError
from utils.figures import style
from utils.figures.series import _series_figure, draw_series
from utils.scores.baselines import BASELINES
from utils.study.questions.error_by_lead import _leads_figure, draw_leads
from utils.study.questions.models import _study_figure, draw_study
from utils.study.questions.predictors import _predictors_figure, draw_predictors
from utils.study.questions.record_length import _target_days_figure, draw_target_days
from utils.study.questions.transfer_gain import _transfer_gain_figure, draw_transfer_gain

TITLE = "SYNTHETIC sample: convlstm, finetune-SMAPtest, lead 3 days"
LONGEST = "convlstm_conv_without_soil_temperature"
RIVALS = ("persistence", "ridge_memory")


def runs(models=style.MODELS, leads=(3, 5, 7), experiments=("SMAPtest", "finetune-SMAPtest")) -> pd.DataFrame:
    """Changes of RMSE against each rival, per cent."""
    rng = np.random.default_rng(0)
    cases = [("SMAPtest", name) for name in BASELINES] + [(way, model) for model in models for way in experiments]
    rows = [
        (experiment, model, lead, rival, change := rng.uniform(-20, 30), change - 5, change + 6)
        for experiment, model in cases
        for lead in leads
        for rival in RIVALS
        if model != rival
    ]
    return pd.DataFrame(rows, columns=["experiment", "model", "lead_days", "rival", "value", "low", "high"])


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


def lead_scores(models=("compact", "convlstm"), leads=range(1, 11)) -> pd.DataFrame:
    rows = []
    for lead in leads:
        for k, name in enumerate((*models, *BASELINES)):
            change = np.nan if name in ("persistence", "climatology") else k - lead
            rows.append((name, lead, 0.012 * np.sqrt(lead) + 0.0001 * k, change, change - 2, change + 3))
    return pd.DataFrame(rows, columns=["model", "lead_days", "rmse", "change", "low", "high"])


def gains(models=style.MODELS, leads=(3, 5, 7)) -> pd.DataFrame:
    rows = [
        (model, lead, c := 2.0 * k - 8 + lead, c - 3.0, c + 2.5) for k, model in enumerate(models) for lead in leads
    ]
    return pd.DataFrame(rows, columns=["model", "lead_days", "change", "low", "high"])


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
        forecasts = {"convlstm": np.nan_to_num(observed, nan=0.2) - 0.02, "ridge_memory": observed + 0.01}
        lines = {"convlstm": {"color": "#0072b2"}, "ridge_memory": {"color": "#9e86c8"}}
        band = (forecasts["convlstm"] - 0.05, forecasts["convlstm"] + 0.04)
        cell = {"name": name, "time": time, "observed": observed, "forecasts": forecasts, "lines": lines}
        shown.append(cell | {"band": band})
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
        "study": ["change of RMSE (%)", "lead 3 d", "against ridge_memory"],
        "target days": ["SMAP training days (d)", "RMSE (m³ m⁻³)"],
        "leads": ["lead (d)", "RMSE (m³ m⁻³)", "change of RMSE (%)"],
        "transfer gain": ["change of RMSE by transfer (%)"],
        "predictors": ["change of RMSE (10⁻³ m³ m⁻³)"],
        "series": ["soil moisture\n(m³ m⁻³)", "RMSE, bias (m³ m⁻³)"],
    }.items():
        assert all(label in said[name] for label in labels), name
    assert len([ax for ax in figures["leads"].axes if ax.get_xlabel() == "lead (d)"]) == 2


def test_the_study_shows_the_change_of_every_forecast_against_both_rivals():
    table = runs()
    figure = _study_figure(table.sample(frac=1, random_state=0), TITLE)
    assert [ax.get_title(loc="left")[4:] for ax in figure.axes] == ["against persistence", "against ridge_memory"]
    order = [("SMAPtest", name) for name in BASELINES]
    order += [(way, model) for model in style.MODELS for way in ("SMAPtest", "finetune-SMAPtest")]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[len(BASELINES) :][:2] == ["cnn, from scratch", "cnn, with transfer"] and len(labels) == len(order)
    for ax, rival in zip(figure.axes, RIVALS, strict=True):
        here = table[table["rival"] == rival]
        expected = {
            (order.index((e, m)), round(v, 6), bool(low > 0 or high < 0))
            for e, m, v, low, high in here[["experiment", "model", "value", "low", "high"]].itertuples(index=False)
        }
        assert {(row, value, filled) for row, value, filled, _ in forest_points(ax)} == expected
        ends = {tuple(np.round(line.get_xdata(), 6)) for line in ax.get_lines() if line.get_linestyle() == "-"}
        assert {tuple(pair) for pair in here[["low", "high"]].round(6).to_numpy()} <= ends
        assert len({marker for *_, marker in forest_points(ax)}) == 3, "markers tell the leads in grey"
        assert not forest_arrows(ax)
    said = {text for text, *_ in drawn_texts(figure)}
    assert {"filled: the interval excludes 0", "hollow: it does not", "95 % interval"} <= said


def test_one_bad_model_does_not_ruin_the_study_and_is_an_arrow_with_its_numbers():
    table = runs()
    bad = (table["model"] == "lstm") & (table["experiment"] == "SMAPtest") & (table["lead_days"] == 3)
    table.loc[bad, ["value", "low", "high"]] = 432.1, 300.0, 600.0
    figure = _study_figure(table, TITLE)
    assert_tidy_plot(figure)
    for ax in figure.axes:
        assert ax.get_xlim()[1] < 60
        assert forest_arrows(ax) == [(len(BASELINES) + 2, "432 (300 to 600)")]
    assert "off the axis" in {text for text, *_ in drawn_texts(figure)}


def test_an_interval_that_leaves_the_axis_ends_in_an_arrowhead():
    table = runs()
    table.loc[0, ["value", "low", "high"]] = 10.0, -900.0, 900.0
    ax = _study_figure(table, TITLE).axes[int(table.loc[0, "rival"] == "ridge_memory")]
    heads = [line.get_xdata()[0] for line in ax.get_lines() if line.get_gid() == "cut"]
    assert sorted(heads) == sorted(ax.get_xlim()) and not forest_arrows(ax)


def test_scratch_with_as_many_steps_stands_between_scratch_and_transfer():
    matched = runs(("cnn_matched",), experiments=("SMAPtest",))[lambda t: t["model"] == "cnn_matched"]
    figure = _study_figure(pd.concat([runs(("cnn", "lstm")), matched]), TITLE)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()][len(BASELINES) :]
    assert labels[:3] == ["cnn, from scratch", "cnn, scratch, equal steps", "cnn, with transfer"] and len(labels) == 5


@pytest.mark.parametrize(
    "table",
    [
        runs((*style.MODELS, "simvp", LONGEST), leads=(1, 3, 5, 7, 10)),
        runs(models=("cnn",), leads=(3,), experiments=("SMAPtest",)),
        runs()[lambda t: ~t["model"].isin(BASELINES)],
        runs()[lambda t: (t["model"] != "cnn") | (t["lead_days"] == 3)],
        runs().assign(low=np.nan, high=np.nan),
    ],
    ids="7 models 5 leads,one run,no baseline,gaps,no intervals".split(","),
)
@pytest.mark.usefixtures("real_pictures")
def test_the_study_is_tidy_whatever_has_run(table, tmp_path, saved):
    draw_study(table, TITLE, tmp_path / "study.png")
    assert imread(tmp_path / "study.png").shape[1] == pytest.approx(17 / 2.54 * 300, abs=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["study.pdf", "study.png"]
    assert_tidy_plot(saved[0])
    assert ("95 % interval" in {text for text, *_ in drawn_texts(saved[0])}) == bool(table["low"].notna().any())


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


def test_the_axis_of_training_days_has_the_name_it_is_given(tmp_path, saved):
    for axis in ("SMAP training days (d)", "GLEAM training days (d)"):
        draw_target_days(target_days(style.MODELS[:1]), TITLE, tmp_path / "days.png", axis)
    assert [figure.axes[0].get_xlabel() for figure in saved] == ["SMAP training days (d)", "GLEAM training days (d)"]


def test_leads_show_rmse_and_its_change_against_persistence():
    table = lead_scores().sample(frac=1, random_state=0)
    figure = _leads_figure(table, TITLE)
    assert_tidy_plot(figure)
    error, change = figure.axes
    for name in ("compact", "convlstm", *BASELINES):
        rows = table[table["model"] == name].sort_values("lead_days")
        np.testing.assert_allclose(curve(error, name), rows[["lead_days", "rmse"]])
        if name in ("persistence", "climatology"):
            continue
        drawn = curve(change, "_" + name)
        np.testing.assert_allclose(drawn[:, 1], rows["change"])
        np.testing.assert_allclose(drawn[:, 0], rows["lead_days"], atol=0.4)  # side by side
    hollow = [line.get_ydata()[0] for line in change.get_lines() if line.get_markerfacecolor() == "white"]
    unsure = table[(table["low"] <= 0) & (table["high"] >= 0)]
    assert sorted(hollow) == sorted(unsure["change"])


@pytest.mark.parametrize("models", [(), ("convlstm", "simvp", LONGEST)], ids=["baselines alone", "three models"])
def test_leads_are_tidy_whatever_has_run(models, tmp_path, saved):
    draw_leads(lead_scores(models, (1, 3, 5)).assign(low=np.nan, high=np.nan), TITLE, tmp_path / "leads.png")
    assert_tidy_plot(saved[0])


def test_the_gain_by_transfer_is_filled_where_its_interval_excludes_zero():
    table = gains()
    figure = _transfer_gain_figure(table.sample(frac=1, random_state=0), TITLE)
    assert_tidy_plot(figure)
    (ax,) = figure.axes
    assert {(row, value, filled) for row, value, filled, _ in forest_points(ax)} == {
        (style.MODELS.index(model), change, bool(low > 0 or high < 0))
        for model, change, low, high in table[["model", "change", "low", "high"]].itertuples(index=False)
    }
    table.loc[0, "change"] = 480.0
    ax = _transfer_gain_figure(table, TITLE).axes[0]
    assert ax.get_xlim()[1] < 30 and [text for _, text in forest_arrows(ax)] == ["480 (−8 to −2.5)"]


def test_predictors_show_their_worth_over_all_seasons_and_by_season():
    table = predictors()
    figure = _predictors_figure(table.sample(frac=1, random_state=0), TITLE)
    assert_tidy_plot(figure)
    names = ["soil_moisture", "soil_temperature", "precipitation", "season"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [n.replace("_", " ") for n in names]
    assert len({ax.get_xlim() for ax in figure.axes}) == 1, "one axis for all"
    for ax, season in zip(figure.axes, ("all", "DJF", "MAM", "JJA", "SON"), strict=True):
        rows = table[table["season"] == season]
        off = {(row, text.split(" ")[0]) for row, text in forest_arrows(ax)}
        drawn = {(row, value, filled) for row, value, filled, _ in forest_points(ax)}
        assert len(drawn) + len(off) == len(rows)
        assert drawn <= {
            (names.index(name), round(1000 * change, 6), bool(low > 0 or high < 0))
            for name, change, low, high in rows[["predictor", "rmse_change", "low", "high"]].itertuples(index=False)
        }
    (season,) = (row for row, *_, marker in forest_points(figure.axes[0]) if marker == "D")
    assert season == 3, "a single point stands in the middle of its row"


@pytest.mark.parametrize(
    "table",
    [
        predictors()[lambda t: t["season"] == "all"],
        predictors()[lambda t: t["predictor"] == "precipitation"],
        predictors().assign(low=np.nan, high=np.nan),
    ],
    ids=["no seasons", "one predictor", "no intervals"],
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
        assert rmse == "RMSE, bias (m³ m⁻³): convlstm 0.020, −0.020; ridge_memory 0.010, +0.010"
        for label, values in ({"observed": cell["observed"]} | cell["forecasts"]).items():
            drawn = curve(ax, label)
            there = np.isin(drawn[:, 0], date2num(cell["time"]))
            np.testing.assert_allclose(drawn[there, 1], values)
            assert (~there).sum() == 10 and np.isnan(drawn[~there, 1]).all(), "missing days are a gap"
        (band,) = ax.collections
        tops = np.concatenate([path.vertices[:, 1] for path in band.get_paths()])
        assert np.isin(np.round(cell["band"][1], 9), np.round(tops, 9)).all()
    assert len({ax.get_xlim() for ax in saved[0].axes}) == 1


def test_series_of_one_cell_with_five_forecasts_are_tidy():
    (cell,) = cells(["humid cell"])
    names = ["persistence", "ridge_memory", "convlstm", "convlstm from scratch", "conv3d_lstm"]
    cell |= {"forecasts": dict.fromkeys(names, cell["observed"]), "lines": {name: {"color": "red"} for name in names}}
    assert_tidy_plot(_series_figure([cell], TITLE))


def test_nothing_to_draw_is_one_sentence_and_no_file(tmp_path):
    attempts = [
        (draw_study, runs().assign(value=np.nan)),
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


@pytest.mark.usefixtures("real_pictures")
def test_figures_and_settings_do_not_pile_up(tmp_path, monkeypatch):
    assert_nothing_piles_up(monkeypatch, lambda: draw_leads(lead_scores(), TITLE, tmp_path / "leads.png"), figures=1)
