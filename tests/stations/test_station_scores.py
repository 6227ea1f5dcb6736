"""Scores against a station: numpy and scipy as references, intervals that hold for errors that last for weeks."""

import numpy as np
import pandas as pd
import pytest
from pytesmo.metrics import tcol_metrics_with_bootstrapped_ci, with_analytical_ci
from scipy.signal import lfilter

from utils.stations.scores import METRICS, collocate, estimate_mean, score_pair, to_anomalies

DAYS = pd.date_range("2015-04-01", periods=365)


def noise(rng, count: int, memory: float = 0.0) -> np.ndarray:
    """Values of variance 1, of which each keeps this share of the one before."""
    shocks = rng.normal(size=count + 200) * np.sqrt(1 - memory**2)
    return lfilter([1], [1, -memory], shocks)[200:]


def pair(rng, memory: float, days: pd.DatetimeIndex = DAYS) -> tuple[pd.Series, pd.Series]:
    """A series and a station's with a correlation of 0.8, a bias of 0.02 and an ubRMSD of 0.03."""
    signal, one, other = (noise(rng, len(days), memory) for _ in range(3))
    station = 0.2 + 0.0474 * (np.sqrt(0.8) * signal + np.sqrt(0.2) * one)
    series = 0.22 + 0.0474 * (np.sqrt(0.8) * signal + np.sqrt(0.2) * other)
    return pd.Series(series, index=days), pd.Series(station, index=days)


def test_anomalies_are_taken_from_the_days_within_half_a_window():
    days = DAYS[np.r_[0:40, 60:63, 100:200]]
    values = pd.Series(np.random.default_rng(0).normal(size=len(days)), index=days)
    found = to_anomalies(pd.DataFrame({"one": values}))["one"]
    for day in days:
        near = values[abs(values.index - day) <= pd.Timedelta(days=17)]
        assert (day in found.index) == (len(near) >= 10)
        if day in found.index:
            assert found[day] == pytest.approx(values[day] - near.mean())


def test_on_independent_days_the_intervals_are_those_of_pytesmo():
    series, station = pair(np.random.default_rng(1), memory=0)
    scores = score_pair(series, station)
    for name, reference in (("bias", "bias"), ("ubrmsd", "ubrmsd"), ("r", "pearson_r")):
        value, low, high = with_analytical_ci(reference, series.to_numpy(), station.to_numpy())
        ours = estimate_mean([scores[name]], METRICS[name])
        assert ours.value == pytest.approx(value)
        assert ours.high - ours.low == pytest.approx(high - low, rel=0.25)
        assert ours.low < value < ours.high


def test_intervals_hold_the_truth_where_those_for_independent_days_do_not():
    rng = np.random.default_rng(2)
    truth = {"bias": ("bias", 0.02), "ubrmsd": ("ubrmsd", 0.02998), "r": ("pearson_r", 0.8)}
    ours, theirs = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    runs = 60
    for _ in range(runs):
        series, station = pair(rng, memory=0.9)
        scores = score_pair(series, station)
        for name, (reference, true) in truth.items():
            interval = estimate_mean([scores[name]], METRICS[name])
            ours[name] += interval.low <= true <= interval.high
            _, low, high = with_analytical_ci(reference, series.to_numpy(), station.to_numpy())
            theirs[name] += low <= true <= high
    for name in truth:
        assert ours[name] >= 0.8 * runs and theirs[name] <= 0.6 * runs, name


def test_stations_that_err_together_count_as_one():
    rng = np.random.default_rng(3)
    stations = [score_pair(*pair(rng, memory=0.5)) for _ in range(9)]
    for name, metric in METRICS.items():
        if name == "snr":
            continue
        alone, twice = (estimate_mean([stations[0][name]] * count, metric) for count in (1, 2))
        np.testing.assert_allclose(twice, alone, rtol=1e-9)
        several = estimate_mean([scores[name] for scores in stations], metric)
        assert several.high - several.low < 0.6 * (alone.high - alone.low)


def test_a_station_of_a_few_days_weighs_as_much_as_one_of_many():
    series, station = pair(np.random.default_rng(4), memory=0.5)
    whole, part = score_pair(series, station), score_pair(series[:60], station[:60])
    both = estimate_mean([whole["bias"], part["bias"]], METRICS["bias"])
    assert both.value == pytest.approx((whole["bias"].value + part["bias"].value) / 2)


def test_the_interval_of_a_difference_is_that_of_paired_days():
    rng = np.random.default_rng(5)
    series, station = pair(rng, memory=0)
    worse = series + 0.01 * noise(rng, len(series))
    change = score_pair(series, station)["ubrmsd"] - score_pair(worse, station)["ubrmsd"]
    found = estimate_mean([change], METRICS["ubrmsd"])
    draws = []
    values = np.stack([series - station, worse - station])
    for _ in range(500):
        day = rng.integers(len(series), size=len(series))
        draws.append(np.subtract(*values[:, day].std(axis=1)))
    assert found.value == pytest.approx(np.subtract(*values.std(axis=1)))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.25) and found.high < 0


def test_constant_series_have_no_correlation():
    series, station = pair(np.random.default_rng(6), memory=0)
    scores = score_pair(series * 0 + 0.2, station)
    assert np.isnan(estimate_mean([scores["r"]], METRICS["r"])).all()
    assert np.isnan(estimate_mean([scores["anomaly_r"]], METRICS["anomaly_r"])).all()
    assert estimate_mean([scores["ubrmsd"]], METRICS["ubrmsd"]).value == pytest.approx(station.std(ddof=0))


def triple(rng, count: int) -> pd.DataFrame:
    """Station, series and a third with one signal; the series has half of the signal's size, and an SNR of 3 dB."""
    signal = noise(rng, count)
    columns = {
        "station": 0.04 * signal + 0.02 * rng.normal(size=count),
        "forecast": 0.02 * signal + 0.02 * 10**-0.15 * rng.normal(size=count),
        "third": 0.03 * signal + 0.04 * rng.normal(size=count),
    }
    return pd.DataFrame(columns, index=pd.date_range("2000-01-01", periods=count))


def test_triple_collocation_finds_the_errors_that_were_put_in():
    table = triple(np.random.default_rng(7), count=6000)
    triples, score = collocate(table)
    shrink = np.sqrt(1 - 1 / 35)  # what an anomaly keeps of white noise
    assert triples["forecast"].snr == score.value == pytest.approx(3, abs=0.5)
    assert triples["station"].error == pytest.approx(0.02 * shrink, rel=0.1)
    assert triples["forecast"].error == pytest.approx(0.04 * 10**-0.15 * shrink, rel=0.1)
    assert triples["third"].error == pytest.approx(0.04 * 4 / 3 * shrink, rel=0.1)
    found = estimate_mean([score], METRICS["snr"])
    np.random.seed(0)  # pytesmo draws from the global generator
    anomalies = to_anomalies(table).to_numpy().T
    (_, low, high), *_ = tcol_metrics_with_bootstrapped_ci(*anomalies, nsamples=200)
    assert found.low < 3 < found.high
    assert found.high - found.low == pytest.approx(high[1] - low[1], rel=0.25)


def test_series_without_a_common_signal_have_no_triple_collocation():
    table = triple(np.random.default_rng(8), count=200)
    table["third"] = -table["third"]
    assert collocate(table) is None
    assert collocate(triple(np.random.default_rng(9), count=90)) is None
