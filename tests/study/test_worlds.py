"""Other worlds and control sources: what they are made of, and how worlds are averaged."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import tiny
from figure_checks import assert_tidy_plot, forest_arrows
from scipy.stats import ttest_1samp

from utils.dataset.prepared import is_synthetic, read_prepared, write_prepared
from utils.products.synthetic import world
from utils.scores.significance import Estimate
from utils.settings import EXPERIMENTS
from utils.study import worlds
from utils.study.controls import make_controls, shuffle_soil_moisture
from utils.study.plan import CONTROLS, Plan, plan_controls
from utils.study.questions.controls import _controls_figure, why_transfer_helps
from utils.study.questions.worlds import _worlds_figure
from utils.study.results import Comparison, Results

PRETRAINING, SCRATCH, TRANSFERRED = EXPERIMENTS
PERIODS = {
    "train": ("2015-04-10", "2015-05-31"),
    "val": ("2015-06-01", "2015-06-30"),
    "test": ("2015-07-01", "2015-07-28"),
}


# --- controls


def test_shuffling_changes_the_order_of_soil_moisture_within_each_period_and_nothing_else():
    ds = tiny()
    shuffled = shuffle_soil_moisture(ds, PERIODS, np.random.default_rng(0))
    for name in ("precipitation", "soil_temperature"):
        np.testing.assert_array_equal(shuffled[name], ds[name])
    before = slice("2015-03-31", "2015-04-09")
    xr.testing.assert_identical(shuffled.sel(time=before), ds.sel(time=before))
    for first, last in PERIODS.values():
        old, new = (d["soil_moisture"].sel(time=slice(first, last)).values[:, 0] for d in (ds, shuffled))
        assert (old != new).any(axis=1).mean() > 0.9  # nearly every day has another day's map
        np.testing.assert_array_equal(old[np.lexsort(old.T)], new[np.lexsort(new.T)])  # whole maps, each once


def test_the_parts_of_a_period_are_shuffled_together_and_what_lies_between_stays():
    ds = tiny(days=120)
    both = PERIODS | {"train": ("2015-04-10", "2015-04-30", "2015-05-11", "2015-05-31")}
    shuffled = shuffle_soil_moisture(ds, both, np.random.default_rng(0))
    between = slice("2015-05-01", "2015-05-10")
    xr.testing.assert_identical(shuffled.sel(time=between), ds.sel(time=between))
    train = np.concatenate([np.arange(start, end) for start, end in ((10, 31), (41, 62))])  # days of the record
    old, new = (d["soil_moisture"].isel(time=train).values[:, 0] for d in (ds, shuffled))
    np.testing.assert_array_equal(old[np.lexsort(old.T)], new[np.lexsort(new.T)])
    first = new[:21]
    assert any(not (day == old[:21]).all(axis=1).any() for day in first)  # some come from the other part


def test_a_control_is_labelled_made_once_and_made_again_for_another_source(tmp_path):
    source, folder = tmp_path / "era5.nc", tmp_path / "controls"
    write_prepared(tiny(), source)
    controls = make_controls(source, PERIODS, folder)
    assert list(controls) == ["shuffled_source"]  # this file is none of the sample's: there is no other weather
    ds = read_prepared(controls["shuffled_source"])
    assert ds.title.startswith("CONTROL, soil moisture shuffled in time: SYNTHETIC") and is_synthetic(ds)
    made = controls["shuffled_source"].stat().st_mtime_ns
    assert make_controls(source, PERIODS, folder)["shuffled_source"].stat().st_mtime_ns == made
    write_prepared(tiny(seed=1), source)
    assert make_controls(source, PERIODS, folder)["shuffled_source"].stat().st_mtime_ns > made


def test_other_weather_is_the_rain_of_the_other_seed_over_the_same_soils(monkeypatch):
    monkeypatch.setattr(world, "weather_days", lambda: np.arange("2018-11-01", "2019-03-31", dtype="datetime64[D]"))
    land = world.china(10.0)
    own, other, control = (list(world.make_products(land, *seeds))[-1][1] for seeds in ((1,), (2,), (1, 2)))
    np.testing.assert_array_equal(control["precipitation"], other["precipitation"])
    assert not np.array_equal(control["precipitation"], own["precipitation"], equal_nan=True)
    means = [ds["soil_moisture"].mean("time").values[land.mask] for ds in (own, other, control)]
    assert np.abs(means[2] - means[0]).mean() < 0.5 * np.abs(means[2] - means[1]).mean()


def test_a_control_run_differs_in_its_source_alone(tmp_path):
    plan = Plan(
        data=dict.fromkeys(EXPERIMENTS, tmp_path / "own.nc"),
        periods=dict.fromkeys(EXPERIMENTS, PERIODS),
        full=False,
        runs=tmp_path,
        controls={name: tmp_path / f"{name}.nc" for name in CONTROLS},
    )
    tasks = plan_controls("compact", lead=3, seeds=(0,), controls=plan.controls)
    assert [task.folder.parts[:2] for task in tasks] == [
        (experiment, f"compact_{control}") for control in CONTROLS for experiment in (PRETRAINING, TRANSFERRED)
    ]
    for source, tuned in zip(tasks[::2], tasks[1::2], strict=True):
        assert plan.configure(source).settings.data == tmp_path / f"{source.control}.nc"
        settings = plan.configure(tuned).settings
        assert (settings.data, settings.init_from) == (tmp_path / "own.nc", tmp_path / source.folder)
        assert tuned.needs == (source.folder.as_posix(),) and tuned.note == CONTROLS[tuned.control].note


def test_the_answer_compares_each_control_with_no_transfer_and_with_the_own_source(tmp_path, monkeypatch):
    changes = {"convlstm": -0.16, "convlstm_other_world": -0.12, "convlstm_shuffled_source": 0.01}

    def compare(comparisons: list[Comparison]) -> list[Estimate]:
        values = [changes[c.model] - changes.get(c.rival[1], 0) * (c.rival[0] == TRANSFERRED) for c in comparisons]
        return [Estimate(value, low=value - 0.02, high=value + 0.02, p=0.01) for value in values]

    results = Results.__new__(Results)  # without files
    results.lead, results.models = 3, ["convlstm", "compact"]
    results.has, results.compare = (lambda experiment, model, lead: model in changes), compare
    monkeypatch.setattr(Results, "title", lambda self, text: text)
    section = why_transfer_helps(results, tmp_path)
    assert [point[: point.index(" %")].split(": ")[-1] for point in section.points] == [
        "−16.0",
        "−12.0",
        "+1.0",
        "+4.0",
        "+17.0",
    ]
    assert not any("compact" in point for point in section.points)
    assert (tmp_path / "controls.png").exists()
    del changes["convlstm_other_world"], changes["convlstm_shuffled_source"]
    assert why_transfer_helps(results, tmp_path) is None


def test_the_figure_of_controls_has_a_point_for_each_model_and_source():
    sources = ("own source", "other weather", "shuffled source")
    rows = [
        (m, s, -5.0 * k, -5.0 * k - 2, -5.0 * k + 2) for m in ("convlstm", "compact") for k, s in enumerate(sources)
    ]
    table = pd.DataFrame(rows, columns=["model", "row", "value", "low", "high"])
    figure = _controls_figure(table, "Change of RMSE by transfer from the study's own source and from controls")
    assert_tidy_plot(figure)
    assert sum(line.get_gid() == "point" for line in figure.axes[0].lines) == 6


def test_a_change_off_the_axis_has_its_key_in_the_figures_of_controls_and_worlds():
    changes = pd.DataFrame({"value": [-5.0, -6.0, -7.0, -4.0, 900.0]}, dtype=float)
    table = changes.assign(low=changes["value"] - 1, high=changes["value"] + 1)
    controls = table.assign(model=list("abcde"), row="own source")
    of_world = {"world": list("23456"), "experiment": SCRATCH, "model": "cnn", "against": "persistence"}
    drawn = (
        _controls_figure(controls, "Change of RMSE"),
        _worlds_figure(table.rename(columns={"value": "rmse_change"}).assign(**of_world), "Change of RMSE"),
    )
    for figure in drawn:
        assert forest_arrows(figure.axes[0]) == [(0, "900 (899 to 901)")]
        assert "off the axis" in [text.get_text() for text in figure.legends[0].get_texts()]


# --- worlds


def test_the_mean_over_worlds_has_students_interval():
    values = np.array([-0.1, -0.04, -0.07, 0.02, -0.05])
    estimate, peer = worlds.estimate_mean(values), ttest_1samp(values, 0)
    interval = peer.confidence_interval(0.95)
    found = (estimate.value, estimate.low, estimate.high, estimate.p)
    np.testing.assert_allclose(found, (values.mean(), interval.low, interval.high, peer.pvalue))


def changes_of(values, half: float, **names) -> pd.DataFrame:
    """Rows of one comparison, a world each, whose intervals are symmetric in the logarithm."""
    ratios = np.array(values)
    numbers = {"rmse_change": ratios, "low": ratios - half, "high": ratios + half}
    rows = pd.DataFrame({name: 100 * np.expm1(value) for name, value in numbers.items()})
    worlds_ = [str(seed) for seed in range(2, 2 + len(ratios))]
    verdict = np.where(ratios + half < 0, "better", "not significant")
    return rows.assign(world=worlds_, verdict=verdict, p=0.01, lead_days=3, **names)


def test_a_mean_row_sets_the_spread_between_worlds_beside_that_within_one():
    row = worlds.average_worlds(changes_of([-0.03, -0.01, -0.08], half=0.0196))
    assert row["rmse_change"] == pytest.approx(100 * np.expm1(-0.04))
    assert (row["worlds"], row["better"], row["world"]) == (3, 2, "mean")
    assert row["between"] == pytest.approx(100 * np.sqrt((0.01**2 + 0.03**2 + 0.04**2) / 2))
    assert row["within"] == pytest.approx(1.0, rel=1e-3)  # a half-width of 1.96 deviations
    assert row["verdict"] == "not significant" and row["low"] < 0 < row["high"]


class Stub(Results):
    """A study whose changes of RMSE are those of its world."""

    def __init__(self, folder):
        self.models, self.leads, self.out = ["compact"], [3], folder
        self.study = {"worlds": [2, 3]} if folder.name == "study" else {}
        self.change = {"seed2": -0.02, "seed3": -0.04}.get(folder.name, -0.1)

    def has(self, experiment: str, model: str, lead: int) -> bool:
        return False

    def rmse_change(self, comparison: Comparison) -> Estimate:
        return Estimate(self.change, low=self.change - 0.01, high=self.change + 0.01, p=0.001)


def test_worlds_are_averaged_without_the_studys_own(monkeypatch, tmp_path):
    monkeypatch.setattr(worlds, "Results", Stub)
    table = worlds.compare_worlds(Stub(tmp_path / "study")).set_index("world")
    assert set(table.index) == {"2", "3", worlds.MEAN, worlds.THIS}
    assert list(table.loc["2", "against"]) == [
        "persistence",  # of ridge_memory
        *["persistence", "ridge_memory", "boosting"] * 2,
        "no transfer",
    ]
    mean = 100 * (np.sqrt(0.98 * 0.96) - 1)
    np.testing.assert_allclose(table.loc[worlds.MEAN, "rmse_change"].astype(float), mean)
    np.testing.assert_allclose(table.loc[worlds.THIS, "rmse_change"].astype(float), -10)
    assert worlds.compare_worlds(Stub(tmp_path / "seed2")) is None


def test_the_figure_has_a_point_a_world_and_a_mean_in_each_row():
    cases = [(SCRATCH, "ridge_memory", "persistence")]
    for model in ("convlstm", "compact"):
        cases += [(way, model, rival) for way in (SCRATCH, TRANSFERRED) for rival in worlds.RIVALS]
        cases.append((TRANSFERRED, model, worlds.NO_TRANSFER))
    tables = []
    for experiment, model, against in cases:
        rows = changes_of([-0.03, -0.01, -0.08, -0.05, 0.02], 0.02, experiment=experiment, model=model, against=against)
        named = {"experiment": experiment, "model": model, "against": against, "lead_days": 3}
        mean, here = named | worlds.average_worlds(rows), rows.iloc[:1].assign(world=worlds.THIS)
        tables += [rows, pd.DataFrame([mean]), here]
    figure = _worlds_figure(pd.concat(tables), "Change of RMSE in each world, 3 days ahead (SYNTHETIC sample)")
    assert_tidy_plot(figure)
    points = [sum(line.get_gid() == "point" for line in ax.lines) for ax in figure.axes]
    assert points == [7 * 5, 7 * 4, 7 * 2]  # five worlds, the study's own and the mean, by forecast


@pytest.mark.parametrize("arguments", [("--worlds", 1), ("--worlds", 5, "--smap", "smap.nc", "--era5-land", "era5.nc")])
def test_worlds_that_mean_nothing_are_refused(script, arguments):
    assert "--worlds" in script("reproduce.py", *arguments).sentence()
