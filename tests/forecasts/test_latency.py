"""Outages that the calibration meets, and what forecasts under lags are made from."""

from dataclasses import replace

import numpy as np
import pytest
from test_uncertainty import days_from, world

from utils.forecasts.calibration import AGES, Calibration
from utils.forecasts.cross_validation import LONGEST_OUTAGE, draw_outages
from utils.forecasts.quantile_scores import coverage_by_age

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
