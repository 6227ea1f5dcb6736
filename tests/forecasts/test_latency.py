"""Outages that the calibration meets, and what forecasts under lags are made from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_uncertainty import days_from, world
from tiny_windows import windows_of

from utils.dataset.blocks import DataSet
from utils.forecasts import cross_validation
from utils.forecasts.calibration import AGES, LEVELS, Calibration
from utils.forecasts.cross_validation import LONGEST_OUTAGE, InputFaults, days_in_piece, draw_outages
from utils.forecasts.quantile_scores import coverage_by_age
from utils.models.compact import Compact

CLASSES = [(0, 0), (1, 4), (5, 11), (12, 25), (26, 35)]


def test_outages_have_all_lengths_and_a_date_is_hidden_in_every_record_or_in_none():
    hidden = draw_outages(days_from("1980-01-01", 15000))
    steps = np.diff(np.r_[0, hidden, 0])
    lengths = (np.flatnonzero(steps == -1) - np.flatnonzero(steps == 1))[1:-1]
    assert set(lengths) == set(range(1, LONGEST_OUTAGE + 1))
    np.testing.assert_array_equal(draw_outages(days_from("2015-03-31", 900)), hidden[12873 : 12873 + 900])


def in_outages(sample, seed):
    """The same days forecast while soil moisture is hidden in outages: errors grow with the age of the last one."""
    since = np.zeros(len(sample.days), int)
    for day in range(1, len(since)):
        since[day] = since[day - 1] + 1 if draw_outages(sample.days)[day] else 0
    age = np.where(since[:, None, None] > 0, since[:, None, None] + sample.age, sample.age).astype(np.int16)
    grown = np.sqrt(1 + age / 6)
    error = 0.02 * grown * np.random.default_rng(seed).standard_normal(age.shape)
    return replace(sample, age=age, observed=(sample.forecast + error).astype(np.float32))


def test_intervals_hold_at_ages_that_only_outages_have():
    held, later = world(count=1400, seed=1), world(count=1400, seed=2, first="2019-01-01")
    held = replace(held, age=np.zeros_like(held.age))
    later = replace(later, age=np.zeros_like(later.age))
    failing = in_outages(later, seed=3)
    blind, learned = Calibration.of(held), Calibration.of(held, in_outages(held, seed=4))
    shares = [share.value for share, _ in coverage_by_age(failing, learned, CLASSES[1:])]
    np.testing.assert_allclose(shares, 0.9, atol=0.02)
    assert coverage_by_age(failing, blind, CLASSES[-1:])[0][0].value < 0.7
    assert learned.oldest == LONGEST_OUTAGE and blind.oldest == 0
    np.testing.assert_array_equal(learned.table, blind.table)  # of forecasts without outages nothing changes
    assert learned.by_age[0] == blind.by_age[0]
    assert AGES[-1] == LONGEST_OUTAGE + 1 and learned.by_age[-1] > learned.by_age[-2]  # older than any: wider still


def test_coverage_by_age_is_that_of_a_loop():
    sample = world(count=60)
    calibration = Calibration.of(sample)
    ((share, count),) = coverage_by_age(sample, calibration, [(2, 3)])
    low, high = calibration.quantiles(sample.forecast, sample.age, sample.days, [0, 18])
    chosen = [
        bool(low[place] <= sample.observed[place] <= high[place])
        for place in np.ndindex(sample.age.shape)
        if sample.age[place] in (2, 3) and np.isfinite(sample.observed[place])
    ]
    assert count == len(chosen) and share.value == pytest.approx(np.mean(chosen))


def test_a_record_in_pieces_is_one_that_begins_at_the_cut(monkeypatch, smap):
    monkeypatch.setattr(cross_validation, "PIECE", 30)
    model, whole = Compact(), DataSet(smap)
    windows = windows_of(model, smap)
    pieces = InputFaults(pieces=True).apply(windows, model)
    count = days_in_piece(pieces.data.days)
    assert count.min() == 1 and count.max() == 29 and len(pieces.data.days) == len(whole.days) - 4
    init = int(np.flatnonzero(count == 12)[1])
    day = pieces.data.days[init]
    begun = model.make_windows(DataSet(smap, start=day - 11), windows.statistics, lead_days=3, input_days=3)
    period = ((day + 3, day + 3),)
    found, expected = (w.in_periods(period, "any").batch(np.array([0])).features for w in (pieces, begun))
    torch.testing.assert_close(found, expected)
    plain = windows.in_periods(period, "any").batch(np.array([0])).features
    assert not torch.allclose(found, plain)


def test_intervals_are_wider_by_what_short_records_need():
    held, later = world(count=900, seed=1), world(count=900, seed=2)
    calibration = Calibration.of(held)
    history = np.arange(900) % 200
    worse = np.where(history < 20, 2, 1)[:, None, None]
    pieces = replace(later, observed=(later.forecast + worse * (later.observed - later.forecast)).astype(np.float32))
    short = calibration.for_short_records(pieces, history)
    np.testing.assert_allclose(short.by_history, [2, 2, 1, 1, 1, 1, 1], atol=0.15)
    assert (np.diff(short.by_history) <= 0).all() and short.by_history[-1] == 1
    ends = [0, len(LEVELS) - 1]
    few, many = (
        np.ptp(short.quantiles(held.forecast[:1], held.age[:1], held.days[:1], ends, np.array([days])), axis=0)
        for days in (5, 500)
    )
    np.testing.assert_allclose(few / many, short.by_history[0], rtol=1e-3)
