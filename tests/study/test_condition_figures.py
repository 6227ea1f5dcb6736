"""Learning curves, scores by condition, and the composite of wettings: what they find and what they draw."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from figure_checks import assert_tidy_plot, curve, forest_points, offline  # noqa: F401

from utils.common.cli import UserError
from utils.scores import significance
from utils.study.questions.forecasts_shown import Forecast
from utils.study.questions.learning_curves import _curves_figure, _list_missing, read_logs
from utils.study.questions.skill_by_condition import _change, _conditions_figure, _groups
from utils.study.questions.wetting_and_drying import _events_figure, find_events, mean_around
from utils.study.results import Results

SHOWN = [
    Forecast("compact with transfer", "finetune-SMAPtest", "compact", "#0072b2", "o"),
    Forecast("ridge_memory", "SMAPtest", "ridge_memory", "#9e86c8", "^"),
]


def some_logs() -> pd.DataFrame:
    rows = [
        (
            experiment,
            model,
            epoch,
            0.1 / epoch,
            0.05 - 0.002 * epoch + 0.004 * max(epoch - turn, 0),
            "cap" if model == "cnn" else "validation",
        )
        for experiment in ("ERA5test", "SMAPtest")
        for turn, model in enumerate(("cnn", "lstm"), start=5)
        for epoch in range(1, 9)
    ]
    return pd.DataFrame(rows, columns=["experiment", "model", "epoch", "train_loss", "val_rmse", "stopped"])


def test_learning_curves_mark_the_epoch_that_is_kept_and_how_the_run_ended():
    more = [some_logs().replace("cnn", name) for name in ("convlstm_conv", "conv3d_lstm", "convlstm_no_relu")]
    assert_tidy_plot(_curves_figure(pd.concat([some_logs(), *more]), "SYNTHETIC sample"))
    figure = _curves_figure(some_logs(), "SYNTHETIC sample")
    losses, errors = figure.axes[:2], figure.axes[2:]
    assert losses[0].get_yscale() == "log" and errors[0].get_ylabel() == "validation RMSE (m³ m⁻³)"
    for ax in errors:
        best = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines() if line.get_gid() == "best"]
        assert best == [(5, pytest.approx(0.04)), (6, pytest.approx(0.038))]
        ends = [(line.get_xdata()[0], line.get_marker()) for line in ax.get_lines() if line.get_gid() == "end"]
        assert ends == [(8, "x"), (8, "|")]
        assert len(curve(ax, "lstm")) == 8


def test_epochs_that_are_kept_are_on_the_axis_whatever_the_source_is():
    logs = some_logs()
    source = logs["experiment"] == "ERA5test"
    far = logs.assign(val_rmse=logs["val_rmse"].where(~source, logs["val_rmse"] / 10))
    far = pd.concat([far, *[far[~source]] * 9])  # so that the source is an outlier
    ax = _curves_figure(far, "SYNTHETIC sample").axes[2]
    assert ax.get_ylim()[0] < far["val_rmse"].min()


def test_first_epochs_off_the_axis_are_arrowheads_without_numbers():
    logs = some_logs()
    logs.loc[logs["epoch"] == 1, "val_rmse"] = 0.3
    ax = _curves_figure(logs, "SYNTHETIC sample").axes[2]
    cut = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines() if line.get_gid() == "cut"]
    assert cut == [(1, ax.get_ylim()[1])] * 2 and ax.get_ylim()[1] < 0.3
    assert not ax.texts


def test_a_run_of_one_epoch_has_no_curve_and_metrics_say_how_the_others_stopped(tmp_path):
    for model, epochs, stopped in (("cnn", 3, "cap"), ("lstm", 3, "validation"), ("compact", 1, "planned")):
        folder = tmp_path / "runs" / "SMAPtest" / model / "lead3" / "seed0"
        folder.mkdir(parents=True)
        log = pd.DataFrame({"epoch": range(1, epochs + 1), "train_loss": 0.1, "val_loss": 0.1, "val_rmse": 0.03})
        log.to_csv(folder / "log.csv", index=False)
        (folder / "metrics.json").write_text(f'{{"stopped": "{stopped}"}}')
    results = OneRun(a_run())
    results.out, results.models = tmp_path, ["cnn", "lstm", "compact"]
    logs = read_logs(results)
    assert logs.groupby("model")["stopped"].first().to_dict() == {"cnn": "cap", "lstm": "validation"}
    results.has = lambda experiment, model, lead: experiment == "SMAPtest" or model == "lstm"
    assert _list_missing(results, logs) == ["lstm (ERA5test)", "lstm (finetune-SMAPtest)", "compact"]


def test_a_wetting_is_a_rise_without_another_one_near_it():
    time = np.arange("2018-01-01", "2018-03-02", dtype="datetime64[D]")
    observed = np.full((60, 1, 4), 0.2)
    observed[20:, 0, 0] += 0.05  # an event
    observed[20:, 0, 1] += 0.05
    observed[24:, 0, 1] += 0.05  # four days behind: neither is one
    observed[3:, 0, 2] += 0.05  # too near the start
    observed[30:, 0, 3] += 0.05
    observed[26:30, 0, 3] = np.nan  # the last observation is five days old
    assert find_events(observed, time).tolist() == [[20, 0, 0]]
    observed[26, 0, 3] = observed[27, 0, 3] = 0.2  # three days old
    assert find_events(observed, time).tolist() == [[20, 0, 0], [30, 0, 3]]


def test_the_composite_is_the_mean_over_events_where_there_is_an_observation():
    time = np.arange("2018-01-01", "2018-02-10", dtype="datetime64[D]")
    observed = np.zeros((40, 1, 2))
    observed[:, 0, 0], observed[:, 0, 1] = np.arange(40), 2 * np.arange(40)
    observed[21, 0, 1] = np.nan
    found = np.array([[10, 0, 0], [20, 0, 1]])
    means = mean_around(observed + 1, observed, time, found)
    expected = [((10 + day + 1) + (40 + 2 * day + 1)) / 2 for day in range(-5, 11)]
    level = np.array([780 / 40, (2 * 780 - 42) / 39])  # the mean observation of each cell
    expected[6] = 12.0 - level[0] + level.mean()  # the first event alone, as far from its cell's mean
    np.testing.assert_allclose(means, expected)
    assert np.flatnonzero(np.isnan(mean_around(observed + 1, observed, time, found, fewest=2))).tolist() == [6]
    gap = np.delete(np.arange(40), 21)
    level[0] = (780 - 21) / 39
    expected[6] = 12.0 - level[0] + level.mean()
    np.testing.assert_allclose(mean_around(observed[gap] + 1, observed[gap], time[gap], found), expected)


def test_events_are_drawn_a_panel_a_lead():
    rows = [
        (lead, day, name, 0.2 + 0.01 * lead + 0.001 * day, 652)
        for lead in (3, 5, 7)
        for name in ("observed", *(one.name for one in SHOWN))
        for day in range(-5, 11)
    ]
    table = pd.DataFrame(rows, columns=["lead_days", "day", "forecast", "value", "events"])
    figure = _events_figure(table, SHOWN, "SYNTHETIC sample")
    assert_tidy_plot(figure)
    assert [ax.get_title(loc="left") for ax in figure.axes][1] == "(b) 5 days ahead, 652 events"
    np.testing.assert_allclose(curve(figure.axes[2], "ridge_memory")[:, 1], 0.27 + 0.001 * np.arange(-5, 11))


def a_run(ages: bool = True) -> xr.Dataset:
    rng = np.random.default_rng(0)
    time = np.arange("2018-01-01", "2019-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    observed = rng.normal(0.2, 0.05, (365, 2, 3))
    maps = {"observed": observed, "predicted": observed + rng.normal(0, 0.02, observed.shape)}
    maps["persistence"] = observed + rng.normal(0, 0.03, observed.shape)
    run = xr.Dataset({name: (("time", "lat", "lon"), values) for name, values in maps.items()}, {"time": time})
    if ages:
        run["input_age"] = ("time", "lat", "lon"), rng.integers(0, 4, observed.shape)
    return run.assign(region=(("lat", "lon"), [[0, 1, 2], [0, 1, 1]]))


class OneRun(Results):
    """A study whose only run this is."""

    def __init__(self, run: xr.Dataset):
        self.lead, self.seeds = 3, [0]
        self.predictions = lambda *names: run

    def seeds_of(self, experiment: str, model: str, lead: int) -> list[int]:
        return self.seeds


def test_a_change_is_that_of_the_chosen_cell_days_alone():
    run = a_run()
    groups = _groups()
    summer = run["time"].dt.month.isin([6, 7, 8]).values
    old = (run["input_age"] >= 2).values
    humid = np.array([[False, False, True], [False, False, False]])
    cases = [
        ("season", "JJA", np.broadcast_to(summer[:, None, None], old.shape)),
        ("age", "2 or 3 days", old),
        ("region", "humid", np.broadcast_to(humid, old.shape)),
    ]
    for group, name, chosen in cases:
        one, other = (
            float(np.sqrt(((run[forecast].values - run["observed"].values)[chosen] ** 2).mean()))
            for forecast in ("predicted", "persistence")
        )
        change = _change(OneRun(run), SHOWN[0], groups[group][name])
        assert change["value"] == pytest.approx(100 * (one / other - 1))
        assert change["low"] < change["value"] < change["high"] < 0
    assert np.isnan(_change(OneRun(run), SHOWN[0], groups["age"]["8 days or more"])["value"])
    assert np.isnan(_change(OneRun(a_run(ages=False)), SHOWN[0], groups["age"]["1 day"])["value"])


def test_conditions_are_a_panel_a_group_with_a_row_a_class():
    rows = [
        (group, name, one.name, value := k - 6.0 + 3 * turn, value - 2, value + 2)
        for group, choices in _groups().items()
        for k, name in enumerate(choices)
        for turn, one in enumerate(SHOWN)
    ]
    table = pd.DataFrame(rows, columns=["group", "row", "forecast", "value", "low", "high"])
    figure = _conditions_figure(table, SHOWN, "SYNTHETIC sample")
    assert_tidy_plot(figure)
    assert [len(ax.get_yticklabels()) for ax in figure.axes] == [4, 3, 5]
    assert forest_points(figure.axes[1]) == {
        (k, k - 6.0 + 3 * turn, abs(k - 6 + 3 * turn) > 2, one.marker)
        for k in range(3)
        for turn, one in enumerate(SHOWN)
    }


def test_nothing_to_draw_is_one_sentence():
    nothing = pd.DataFrame(columns=["group", "row", "forecast", "value", "low", "high"])
    for draw in (
        lambda: _curves_figure(some_logs().iloc[:0], ""),
        lambda: _conditions_figure(nothing, SHOWN, ""),
        lambda: _events_figure(nothing, SHOWN, ""),
    ):
        with pytest.raises(UserError, match=r"cannot be drawn.*\.$"):
            draw()


def test_the_change_has_the_interval_of_the_single_statistic():
    run = a_run()
    fields = (run[name].values for name in ("observed", "predicted", "persistence"))
    sums = significance.daily_sums(*fields, days=run["time"].values)
    expected = significance.estimate([sums], significance.rmse_change)
    change = _change(OneRun(run), SHOWN[0], lambda run: run["observed"].notnull())
    assert (change["low"], change["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))
