"""Contract 2: which days go into a sample, what stands where a value is missing, what the scaling knows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PERIODS, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.common.cli import UserError
from utils.common.periods import Period, Split, overlap, spans
from utils.data_processing import Windows
from utils.dataset import blocks
from utils.dataset.blocks import DataSet
from utils.dataset.record import Record, fill_forward
from utils.dataset.statistics import OUTSIDE, Statistics
from utils.settings import SMAPSettings, split_of

DAY = np.timedelta64(1, "D")


def days(text: str) -> np.datetime64:
    return np.datetime64(text, "D")


def split(train=PERIODS[1:3], val=PERIODS[4:6], test=PERIODS[7:9]) -> Split:
    return Split(spans("train", tuple(train)), spans("val", tuple(val)), spans("test", tuple(test)))


def windows(ds, lead_days=3, input_days=3, period="train", **periods) -> Windows:
    chosen = split(**periods)
    record = Record(ds, Statistics.fit(ds, chosen))
    return Windows(record, periods=getattr(chosen, period), lead_days=lead_days, input_days=input_days, name=period)


def dated(n=120):
    """A data set whose soil moisture is the day's number / 1000, so that a value tells its date."""
    ds = tiny(n)
    number = np.arange(n, dtype=np.float32)[:, None, None] / 1000
    ds["soil_moisture"] = ds["soil_moisture"].where(ds["soil_moisture"].isnull(), number)
    return ds


@settings(max_examples=25, deadline=None)
@given(lead_days=st.integers(1, 9), input_days=st.integers(1, 9))
def test_forecast_valid_date_is_last_input_day_plus_lead(lead_days, input_days):
    sample = windows(dated(), lead_days, input_days)
    batch = sample.batch(np.arange(len(sample)))
    moisture = sample.record.unscale(batch.features[:, :, 1, 0, 0]).numpy() * 1000
    target = sample.record.unscale(batch.target[:, 0, 0]).numpy() * 1000
    np.testing.assert_allclose(target - moisture[:, -1], lead_days, atol=1e-2)
    np.testing.assert_allclose(np.diff(moisture, axis=1), 1, atol=1e-2)
    first = np.datetime64("2015-03-31", "D")
    np.testing.assert_allclose((sample.valid_time - first).astype(int), target, atol=1e-2)
    np.testing.assert_allclose((sample.init_time - first).astype(int), moisture[:, -1], atol=1e-2)
    assert (sample.valid_time - sample.init_time == lead_days * DAY).all()


def test_a_period_is_of_target_days_and_inputs_may_lie_before_it():
    sample = windows(tiny(), period="val")
    assert sample.valid_time[0] == days("2015-06-01") and sample.valid_time[-1] == days("2015-06-30")
    assert sample.record.days[sample.input_index(np.array([0]))[0, 0]] == days("2015-05-27")
    assert len(sample) == 30 and sample.skipped == 0


def test_features_have_the_shape_and_channel_order_of_the_contract():
    ds = tiny()
    sample = windows(ds, lead_days=2, input_days=4)
    batch = sample.batch(np.array([5, 0]))
    assert batch.features.shape == (2, 4, 3, 7, 8) and batch.target.shape == (2, 7, 8)
    statistics, index = sample.record.statistics, sample.input_index(np.array([5]))[0]
    for channel, name in enumerate(["precipitation", "soil_moisture", "soil_temperature"]):
        back = batch.features[0, :, channel, 0, 0].numpy() * statistics.span[channel] + statistics.low[channel]
        np.testing.assert_allclose(back, ds[name].values[index, 0, 0], rtol=1e-5, atol=1e-5)


def test_target_days_without_a_full_window_are_skipped_and_counted():
    sample = windows(tiny(), lead_days=3, input_days=4)
    assert sample.skipped == 6 and sample.valid_time[0] == days("2015-04-06")


def test_no_window_crosses_a_gap_in_time():
    ds = tiny().isel(time=[*range(20), *range(50, 120)])
    sample = windows(ds, lead_days=3, input_days=3)
    spans_of_days = sample.record.days[sample.input_index(np.arange(len(sample)))]
    assert (np.diff(spans_of_days, axis=1) == DAY).all()
    assert (sample.valid_time - spans_of_days[:, -1] == 3 * DAY).all()
    assert sample.skipped == 5 + 5


def test_scaling_is_min_max_of_the_scored_cells_over_the_training_period_alone():
    ds = tiny()
    ds["soil_temperature"][80] = 330  # a heat wave in the validation period
    training = ds.sel(time=slice("2015-03-31", "2015-05-31"))
    statistics = Statistics.fit(ds, split())
    for channel, name in enumerate(("precipitation", "soil_moisture", "soil_temperature")):
        assert statistics.low[channel] == float(training[name].min())
        assert statistics.high[channel] == float(training[name].max())
    changed = ds.copy(deep=True)
    changed["soil_moisture"][62:] *= 0.5
    for name in ("low", "high", "cell_mean"):
        np.testing.assert_array_equal(getattr(Statistics.fit(changed, split()), name), getattr(statistics, name))


def test_statistics_survive_the_checkpoint():
    statistics = Statistics.fit(tiny(), split())
    back = Statistics.from_tensors(statistics.to_tensors())
    for name in ("low", "high", "cell_mean", "scored"):
        np.testing.assert_array_equal(getattr(back, name), getattr(statistics, name))


def test_outside_the_scored_cells_inputs_are_one_constant_and_nothing_is_scored():
    ds = tiny()
    ds["soil_moisture"][:, 3, 3] = np.nan  # land with forcing but never any soil moisture
    sample = windows(ds)
    batch = sample.batch(np.arange(len(sample)))
    for row, column in ((6, 0), (3, 3)):
        assert (batch.features[..., row, column] == OUTSIDE).all()
        assert not batch.valid[:, row, column].any()
        assert np.isnan(sample.observed[:, row, column]).all()
    assert torch.isfinite(batch.features).all() and torch.isfinite(batch.target).all()


def test_a_cell_first_seen_in_the_test_period_is_not_scored():
    ds = tiny()
    ds["soil_moisture"][: days("2015-07-05").astype(int) - days("2015-03-31").astype(int), 0, 0] = np.nan
    test = windows(ds, period="test")
    assert np.isnan(test.observed[:, 0, 0]).all() and not test.record.statistics.scored[0, 0]


def test_missing_inputs_are_the_last_earlier_value_and_never_a_later_one():
    ds = dated()
    ds["soil_moisture"][40:45, 1, 1] = np.nan
    sample = windows(ds)
    filled = sample.record.last_observed[:, 1, 1] * 1000
    np.testing.assert_allclose(filled[38:47], [38, 39, 39, 39, 39, 39, 39, 45, 46], atol=1e-3)
    target = np.isfinite(sample.record.observed[40:45, 1, 1])
    assert not target.any()


def test_before_the_first_value_the_training_mean_stands_in_and_without_any_the_mean_over_cells():
    ds = dated()
    ds["soil_moisture"][:10, 1, 1] = np.nan
    ds["soil_moisture"][:90, 2, 2] = np.nan  # nothing in the training period, something before the test
    record = windows(ds).record
    training = ds["soil_moisture"].values[:62]
    assert record.last_observed[0, 1, 1] == pytest.approx(np.nanmean(training[:, 1, 1]), rel=1e-5)
    means = np.nanmean(np.where(np.isnan(training).all(0), 0, training), axis=0)[record.statistics.scored]
    assert record.last_observed[0, 2, 2] == pytest.approx(means[means > 0].mean(), rel=1e-5)
    assert record.statistics.scored[2, 2]


def test_missing_rain_becomes_the_mean_and_is_never_carried_on():
    ds = tiny()
    ds["precipitation"][19, 1, 1] = 60
    ds["precipitation"][20:23, 1, 1] = np.nan
    record = windows(ds).record
    found = record.features[20:23, 0, 1, 1].numpy() * record.statistics.span[0] + record.statistics.low[0]
    np.testing.assert_allclose(found, record.statistics.cell_mean[0, 1, 1], rtol=1e-4)


def test_filling_stops_at_a_gap_in_time():
    days_with_gap = np.concatenate([np.arange(5), np.arange(9, 12)]).astype("datetime64[D]")
    values = np.array([np.nan, 1, np.nan, 3, np.nan, np.nan, 7, np.nan], np.float32)[:, None, None]
    expected = [np.nan, 1, 1, 3, 3, np.nan, 7, 7]
    np.testing.assert_array_equal(fill_forward(values, days_with_gap)[:, 0, 0], expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 0.95))
def test_filling_agrees_with_a_loop(seed, share):
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.choice([1, 1, 1, 4], 30)).astype("datetime64[D]")
    values = rng.random((30, 2, 2)).astype(np.float32)
    values[rng.random(values.shape) < share] = np.nan
    expected, last = values.copy(), np.full((2, 2), np.nan, np.float32)
    for t in range(30):
        if t and time[t] - time[t - 1] != DAY:
            last[:] = np.nan
        last = np.where(np.isnan(values[t]), last, values[t])
        expected[t] = last
    np.testing.assert_array_equal(fill_forward(values, time), expected)


def wanted(train=("2015-03-31", "2015-05-31"), val=("2015-06-01", "2015-06-30"), test: Period | None = None, **more):
    test = test or ("2015-07-01", "2015-07-28")
    return SMAPSettings(data=Path("."), train=train, val=val, test=test, **more)


@pytest.mark.parametrize(
    ("periods", "message"),
    [
        ({"train": ("2015-05-31", "2015-03-31")}, "empty period"),
        ({"train": ("2015-03-31",)}, "has 1 dates, expected START END pairs"),
        ({"train": ("2015-03-31", "2015-06-01")}, "expected before --val starts"),
        ({"val": ("2015-06-01", "2015-07-01")}, "expected before --test starts"),
        ({"train": ("2015-04-01", "2015-05-01", "2015-04-20", "2015-05-20")}, "overlapping"),
        ({"train": ("31.3.2015", "2015-05-31")}, "expected an ISO date"),
        ({"train": ("2015-02-30", "2015-05-31")}, "expected an ISO date"),
        ({"train": ("2015-03", "2015-05-31")}, "expected an ISO date"),
        ({"test": ("NaT", "2015-05-31")}, "expected an ISO date"),
    ],
)
def test_periods_that_are_empty_overlap_or_are_no_dates_are_refused(periods, message):
    with pytest.raises(UserError, match=message):
        split_of(wanted(**periods))


def test_several_training_periods_are_each_checked_by_themselves():
    chosen = split_of(wanted(train=("2015-03-31", "2015-04-10", "2015-05-01", "2015-05-31")))
    assert overlap(chosen.train, spans("test", ("2015-04-15", "2015-04-20"))) is None
    assert overlap(chosen.train, spans("test", ("2015-04-15", "2015-05-02"))) == days("2015-05-01")
    ds = tiny()
    sample = windows(ds, train=("2015-03-31", "2015-04-10", "2015-05-01", "2015-05-31"))
    assert not ((sample.valid_time > days("2015-04-10")) & (sample.valid_time < days("2015-05-01"))).any()


def test_n_target_days_are_the_last_before_the_test_training_and_validation_together():
    chosen = split_of(wanted(target_days=30))
    assert chosen.train[0][0] == days("2015-06-01") and chosen.val[0][1] == days("2015-06-30")
    assert chosen.val[0][0] - chosen.train[0][1] == DAY
    length = sum((b - a + DAY).astype(int) for a, b in (*chosen.train, *chosen.val))
    assert length == 30


def test_a_period_without_a_full_window_is_an_error():
    with pytest.raises(UserError, match="no full window"):
        windows(tiny(), lead_days=40, input_days=40)
    with pytest.raises(UserError, match="soil_moisture has no valid value in the training period"):
        ds = tiny()
        ds["soil_moisture"][:62] = np.nan
        windows(ds)


def test_a_map_in_memory_is_read_once_for_its_statistics_and_for_all_periods(smap, monkeypatch):
    reads, real = [], blocks.read_prepared
    monkeypatch.setattr(blocks, "read_prepared", lambda *args, **kwargs: reads.append(args) or real(*args, **kwargs))
    data = DataSet(smap)
    every = Windows(data, data.statistics(split()), lead_days=3, input_days=3)
    training, test = (every.in_periods(getattr(split(), name), name) for name in ("train", "test"))
    assert training.record is test.record and len(reads) == 1
    assert len(every) == 120 - 5 and len(training) < len(every) and test.valid_time[0] == days("2015-07-01")
    hidden = training.hiding(np.ones((120, 8), bool))
    assert hidden.record is not training.record and len(reads) == 1
    assert torch.equal(hidden.record.target.nan_to_num(), training.record.target.nan_to_num())


def test_windows_in_several_blocks_have_no_record_of_their_own(smap, monkeypatch):
    monkeypatch.setattr(blocks, "MEMORY", 0)
    monkeypatch.setattr(blocks, "BLOCK", 9 * 12 * 120)
    data = DataSet(smap)
    every = Windows(data, data.statistics(split()), lead_days=3, input_days=3, receptive_radius=1, patch=3)
    assert len(every.blocks) > 1
    with pytest.raises(ValueError, match=f"lie in {len(every.blocks)} blocks: iterate over them"):
        every.batch(np.array([0]))
    whole = Windows(tiny_record(), lead_days=3, input_days=3).batch(np.arange(115)).target
    for part, block in zip(every, every.blocks, strict=True):
        target = part.batch(np.arange(115)).target[..., *block.inside]
        assert torch.equal(target, whole[..., *block.own])


def tiny_record() -> Record:
    return Record(tiny(), Statistics.fit(tiny(), split()))


def test_split_survives_json():
    chosen = split(train=("2015-03-31", "2015-04-10", "2015-05-01", "2015-05-31"))
    assert Split.from_plain(chosen.plain()) == chosen
