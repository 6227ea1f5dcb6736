"""Rain that is a day early, or far too much, is found out; right data is left alone."""

import shutil

import numpy as np
import pytest
import xarray as xr
from conftest import PERIODS, REAL, tiny

import reproduce
from utils.common.parallel import Job
from utils.dataset import blocks
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import read_prepared, write_prepared
from utils.dataset.rain_checks import DAY_IS_CERTAIN, describe_odd_amount, list_doubts, measure_timing


def moved(ds: xr.Dataset, days: int) -> xr.Dataset:
    """The data set with each day's rain stamped so many days later."""
    return ds.assign(precipitation=(ds.precipitation.dims, np.roll(ds.precipitation.values, days, axis=0)))


def test_the_correlations_are_those_of_all_pairs_of_days():
    ds = tiny(days=100).isel(time=np.r_[0:40, 45:100])  # with a gap that no change may cross
    ds["soil_moisture"].values[::7, 2, 3] = np.nan
    timing = measure_timing(ds)
    rain, moisture = ds.precipitation.values.astype(float), ds.soil_moisture.values.astype(float)
    days = ds.time.values.astype("datetime64[D]")
    for name, got in (("before", timing.before), ("after", timing.after)):
        pairs = []
        for day in range(len(days)):
            other = day - 1 if name == "before" else day + 1
            if 0 <= other < len(days) and abs((days[other] - days[day]).astype(int)) == 1:
                change = (moisture[day] - moisture[other]) * (1 if name == "before" else -1)
                pairs.append(np.stack([rain[day].ravel(), change.ravel()]))
        x, y = np.concatenate(pairs, axis=1)
        valid = np.isfinite(x) & np.isfinite(y)
        np.testing.assert_allclose(got, np.corrcoef(x[valid], y[valid])[0, 1], atol=1e-6)
    assert timing.rainy == (rain >= 1).sum()


def test_rain_a_day_early_is_found_out_and_right_rain_is_not():
    ds = tiny()
    right, wrong = measure_timing(ds), measure_timing(moved(ds, -1))
    assert right.before > 0.5 > right.after and not right.looks_shifted
    assert wrong.after > 0.5 > wrong.before and wrong.is_proof and wrong.chance < 1e-6
    assert "goes better with the change of soil moisture from D to D+1" in str(wrong)


def test_a_single_cell_and_little_rain_prove_nothing():
    early = moved(tiny(days=3000, shape=(4, 5)), -1)
    assert measure_timing(early).is_proof
    one = measure_timing(early.isel(lat=[0], lon=[0]))
    assert one.rainy > 1000 and one.looks_shifted and not one.is_proof
    assert not measure_timing(moved(tiny(days=60, shape=(4, 5)), -1)).looks_shifted
    assert measure_timing(tiny(days=8)) is None


def test_data_without_a_connection_is_called_shifted_no_more_often_than_chance():
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(100):
        ds = tiny(days=60, shape=(5, 5))
        ds["precipitation"].values[:] = rng.gamma(0.4, 8, ds.precipitation.shape).mean((1, 2), keepdims=True)
        called += measure_timing(ds).looks_shifted
    assert called <= 1


@pytest.mark.parametrize(("factor", "odd"), [(1, False), (12, True)])
@pytest.mark.parametrize("days", [3650, 365])
def test_rain_twelve_times_too_much_is_odd(factor, odd, days):
    mean = np.array([[0.4, 2.0, 3.1], [np.nan, 1.5, 2.2]]) * factor  # mm a day, 150 to 1130 mm a year
    said = describe_odd_amount(mean, days)
    assert (said is not None) == odd
    if odd:
        assert "the median cell has 8,766 mm of precipitation a year" in said or days == 365
        assert "the wettest" in said and "12,000 mm" in said


def test_a_wet_month_is_not_a_year():
    monsoon = np.full((4, 4), 40.0)  # 1.2 m in a July
    assert describe_odd_amount(monsoon, 31) is None
    assert "in 120 days" in describe_odd_amount(monsoon * 2, 120)
    assert describe_odd_amount(np.full((2, 2), np.nan), 31) is None


TOMORROW, TOO_MUCH = "a model sees tomorrow's rain", "the median cell has"


def doubts(ds: xr.Dataset) -> list[str]:
    return list_doubts(ds, ds["precipitation"].mean("time").values)


def test_both_doubts_are_told_and_rain_that_came_by_the_hour_is_believed_to_be_of_its_day():
    right, early = tiny(), moved(tiny(), -1)
    assert doubts(right) == []
    assert [TOMORROW in doubt for doubt in doubts(early)] == [True]
    assert doubts(early.assign_attrs({DAY_IS_CERTAIN: "true"})) == []
    much = early.assign(precipitation=early["precipitation"] * 30)
    assert [kind in doubt for kind, doubt in zip((TOO_MUCH, TOMORROW), doubts(much), strict=True)] == [True, True]


def test_of_a_large_map_one_block_is_read_that_with_most_cells(tmp_path, monkeypatch):
    path = tmp_path / "early.nc"
    ds = moved(tiny(shape=(8, 8)), -1)
    write_prepared(ds.assign(soil_moisture=ds["soil_moisture"].where(ds["lat"] < 47)), path)
    monkeypatch.setattr(blocks, "MEMORY", 1000)
    monkeypatch.setattr(blocks, "BLOCK", blocks.BYTES * 3 * 120 * 16)  # 4 × 4 cells
    data, read = DataSet(path), []
    monkeypatch.setattr(data, "_read", lambda window: read.append(window) or read_prepared(path, window=window))
    (doubt,) = data.list_doubts_of_rain(np.isfinite(read_prepared(path)["soil_moisture"]).any("time").values)
    assert read == [(slice(4, 8), slice(4, 8))]
    assert doubt.startswith(f"{path}: ") and TOMORROW in doubt


def test_a_map_in_memory_is_not_read_again_and_its_cells_are_thinned(tmp_path, monkeypatch):
    path = tmp_path / "early.nc"
    write_prepared(moved(tiny(days=1500, shape=(12, 12)), -1), path)
    data = DataSet(path)
    data.read()
    monkeypatch.setattr(data, "_read", None)
    monkeypatch.setattr(blocks, "CHECKED", 1500 * 16)  # every third row and column
    seen = []
    monkeypatch.setattr(blocks, "list_doubts", lambda ds, mean: seen.append((ds, mean)) or ["odd"])
    assert data.list_doubts_of_rain(np.ones((12, 12), bool)) == [f"{path}: odd"]
    ((ds, mean),) = seen
    assert ds.sizes == {"time": 1500, "lat": 4, "lon": 4}
    np.testing.assert_allclose(mean, ds["precipitation"].mean("time"))


def test_training_and_evaluation_warn_once_of_data_of_ones_own(tmp_path, script):
    right, early, run = tmp_path / "right.nc", tmp_path / "early.nc", tmp_path / "run"
    write_prepared(tiny(), right)
    write_prepared(moved(tiny(), -1), early)
    train = ["SMAPtest/train_cnn.py", *PERIODS, "--epochs", 1, "--out", run]
    result = script(*train, "--data", early)
    assert result.code == 0 and result.out.count(f"warning: {early}: precipitation of day D") == 1
    assert TOMORROW not in script(*train, "--data", early).out  # it is finished
    shutil.copytree(run, tmp_path / "again")
    result = script("SMAPtest/eval.py", run, tmp_path / "again")
    assert result.code == 0 and result.out.count(f"warning: {early}: ") == 1 and TOMORROW in result.out
    assert TOMORROW not in script("SMAPtest/eval.py", run, "--data", right).out


def test_a_study_says_a_doubt_once(capsys, monkeypatch):
    class TwoRuns:
        def jobs(self) -> list[Job]:
            return [Job(name, lambda: {"doubts": ["mine.nc: odd"], "rmse": 0.1}) for name in ("one", "two")]

        def add(self, job: Job, result: dict) -> list[Job]:
            return []

    def do_here(jobs, executor, at_once, on_result, *others):
        for job in jobs:
            on_result(job, job.call())

    monkeypatch.setattr(reproduce, "finish", do_here)
    reproduce.run(TwoRuns(), reproduce.Settings(jobs=1))
    assert capsys.readouterr().out.count("warning: mine.nc: odd") == 1


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize("name", ["smap_l3_conus", "land_model_conus"])
def test_real_rain_over_the_united_states_is_left_alone(name):
    assert doubts(read_prepared(REAL / "conus" / f"{name}.nc")) == []
