"""Inputs that reach us late: what stands in for them, and up to which day they are known."""

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import tiny
from tiny_windows import SPLIT

from utils.common.cli import UserError
from utils.data_processing import Windows
from utils.dataset import blocks
from utils.dataset.blocks import DataSet
from utils.dataset.lags import KnownInputs, choose_lags, find_newest
from utils.dataset.prepared import THREE, write_prepared
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.dataset.upwind_rain import root_rain
from utils.models.change_net import FEATURES
from utils.models.compact import DYNAMIC, IN_CELLS, Compact, MemoryWindows

BEHIND = {"precipitation": 2, "soil_temperature": 4}


def sample():
    """A record with missing soil moisture, and a gap in time before its 42nd day."""
    ds = tiny()
    ds["soil_moisture"] = ds["soil_moisture"].where(np.random.default_rng(1).random(ds["soil_moisture"].shape) > 0.5)
    return ds.isel(time=np.r_[:40, 43:120])


def cut(ds, init):
    """The same with each late variable missing after its newest day, as a file is that was made on the day of issue."""
    ds = ds.copy(deep=True)
    for name, days in BEHIND.items():
        ds[name][init - days + 1 : init + 1] = np.nan
    return ds


@pytest.mark.parametrize("init", [40, 41, 42, 70, 110])
@pytest.mark.parametrize("names", [None, DYNAMIC, IN_CELLS, FEATURES])
def test_a_late_input_is_one_that_is_missing_in_the_file(init, names):
    """Also where the gap, or the start behind it, is nearer than the newest day of the input."""
    ds = sample()
    statistics = Statistics.fit(ds, SPLIT)

    def features(ds, behind):
        kind = Windows if names is None else MemoryWindows
        days = ds["time"].values.astype("datetime64[D]")
        period = ((days[init] + 3, days[init] + 3),)
        record = Record(ds, statistics if names is None else statistics.unscaled())
        windows = kind(record, lead_days=3, input_days=1 if init < 45 else 3, periods=period, name="any")
        windows = windows.with_late(behind)
        windows.names = names
        return windows.batch(np.array([0])).features

    late = features(ds, BEHIND)
    torch.testing.assert_close(late, features(cut(ds, init), {}), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(late, features(ds, {}))


def test_late_inputs_of_many_days_and_of_blocks_of_a_large_map(tmp_path, monkeypatch):
    write_prepared(tiny(shape=(11, 12)), tmp_path / "smap.nc")
    torch.manual_seed(0)
    model = Compact().eval()
    torch.nn.init.normal_(model.weight)
    maps = []
    for size in (blocks.MEMORY, 0):
        monkeypatch.setattr(blocks, "MEMORY", size)
        monkeypatch.setattr(blocks, "BLOCK", 36 * 12 * 120)
        data = DataSet(tmp_path / "smap.nc")
        windows = model.make_windows(data, data.statistics(SPLIT).unscaled(), lead_days=3, input_days=3, patch=6)
        windows = windows.with_late(BEHIND).in_periods(SPLIT.test, "test")
        found = np.zeros((2, 11, 12), np.float32)
        for part in windows:
            with torch.no_grad():
                forecast = model(part.batch(np.array([3, 20])).features)
            found[:, *part.blocks[0].own] = forecast[:, *part.blocks[0].inside].numpy()
        maps.append(found)
    assert len(windows.blocks) == 4
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-5)


def written(path, product="", **products):
    ds = tiny(days=60)
    for name, own in products.items():
        ds[name].attrs["product"] = own
    write_prepared(ds.assign_attrs(product=product), path)
    return path


@pytest.mark.parametrize(
    ("product", "products", "asked", "expected"),
    [
        ("SMAP L4", {}, (), (3, 3, 3)),
        ("SMAP L3", {"precipitation": "ERA5-Land", "soil_temperature": "ERA5-Land"}, (), (2, 5, 5)),
        ("SMAP L3", {"precipitation": "GPM"}, (), (2, 2, 2)),
        ("GLEAM", {}, (), (0, 0, 0)),
        ("GLEAM", {}, ("soil_moisture=4", "precipitation=1"), (4, 1, 4)),
        ("SMAP L4", {}, ("soil_temperature=0",), (3, 3, 0)),
    ],
)
def test_lags_are_those_asked_for_then_those_of_the_product(tmp_path, product, products, asked, expected):
    """A variable of a product that is not in the table is as late as soil moisture."""
    path = written(tmp_path / "a.nc", product, **products)
    lags = choose_lags(path, THREE, asked)
    assert (lags["soil_moisture"], lags["precipitation"], lags["soil_temperature"]) == expected


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("precipitation", "expected NAME=DAYS"), ("precipitation=-1", "expected NAME=DAYS"), ("wind=3", "do not read")],
)
def test_lags_that_mean_nothing_are_refused(tmp_path, word, sentence):
    with pytest.raises(UserError, match=sentence):
        choose_lags(written(tmp_path / "a.nc"), THREE, (word,))


def test_what_is_known_by_hand():
    day = np.datetime64
    known = KnownInputs({"soil_moisture": 3, "precipitation": 5, "soil_temperature": 2})
    assert known.lag == 3 and known.behind == {"precipitation": 2}
    assert known.last_days(np.array([day("2020-01-10")]))["precipitation"] == [day("2020-01-08")]
    old = KnownInputs(known.lags, {"soil_moisture": day("2020-01-01"), "precipitation": day("2020-01-04")})
    assert old.days_behind(day("2020-01-10")) == {"precipitation": 6}


def test_the_newest_day_of_each_variable(tmp_path):
    ds = tiny(days=100)
    ds["soil_moisture"][40:] = np.nan
    ds["precipitation"][:, 2:] = np.nan
    ds["precipitation"][95:] = np.nan
    write_prepared(ds, tmp_path / "a.nc")
    days = ds["time"].values.astype("datetime64[D]")
    ends = {"soil_moisture": days[-1], "precipitation": days[-1], "soil_temperature": days[60]}
    assert find_newest(tmp_path / "a.nc", ends) == dict(zip(ends, (days[39], days[94], days[60]), strict=True))
    with xr.open_dataset(tmp_path / "a.nc") as raw:
        raw.load().assign(soil_moisture=raw["soil_moisture"] * np.nan).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(UserError, match="soil_moisture has no valid value"):
        find_newest(tmp_path / "b.nc", ends)


def test_missing_rain_is_the_mean_of_the_roots_so_far():
    """By a loop, in one cell; where nothing is known yet, the root of the training mean."""
    rng = np.random.default_rng(0)
    rain = rng.gamma(0.4, 8.0, (12, 1, 1)).astype(np.float32)
    missing = np.zeros(rain.shape, bool)
    missing[[0, 5, 6, 11]] = True
    previous = np.arange(12) - 1
    previous[9] = -1  # a gap
    found = root_rain(rain, missing, previous, mean=np.full((1, 1), 4.0, np.float32))[:, 0, 0]
    assert found[0] == 2
    for day in (5, 6, 11):
        start = 9 if day > 8 else 0
        known = [(np.exp(-(day - d) / 30), np.sqrt(rain[d, 0, 0])) for d in range(start, day) if not missing[d, 0, 0]]
        expected = sum(weight * root for weight, root in known) / sum(weight for weight, _ in known)
        assert found[day] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(found[~missing[:, 0, 0]], np.sqrt(rain[~missing]))
