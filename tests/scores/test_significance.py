"""Intervals and tests hold what they promise, on simulated errors whose truth is known."""

import re
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import t

from utils.common.files import ROOT
from utils.scores import significance
from utils.scores.significance import better_and_worse, correct, cross_seeds, daily_sums, estimate, verdict
from utils.scores.variance import number_days, spans_a_year, variance_of_mean, variance_over_seeds


@lru_cache(maxsize=1)
def autoregressive(decay: float, days: int, series: int, seed: int = 0) -> np.ndarray:
    """Stationary AR(1) with unit innovations, [days, series]."""
    noise = np.random.default_rng(seed).standard_normal((days + 300, series))
    return lfilter([1], [1, -decay], noise, axis=0)[300:]


def rejected(series: np.ndarray) -> float:
    """Share of series whose mean is called different from its true value, 0."""
    variance, freedom = variance_of_mean(series, np.arange(len(series), dtype=float))
    return float((2 * t.sf(np.abs(np.nanmean(series, axis=0)) / np.sqrt(variance), freedom) < 0.05).mean())


def days_of(series: np.ndarray) -> np.ndarray:
    """As many days in a row as the series has."""
    return np.datetime64("2018-03-31") + np.arange(len(series))


def compare_runs(observed: np.ndarray, one: list[np.ndarray], other: list[np.ndarray]):
    """The change of RMSE between two models of independent seeds, on days in a row."""
    own, others = ([daily_sums(observed, run, run, days_of(observed)) for run in runs] for runs in (one, other))
    return estimate(cross_seeds(own, others), significance.rmse_change)


@pytest.mark.parametrize(("decay", "days"), [(0.0, 365), (0.5, 365), (0.8, 365), (0.9, 365), (0.8, 730), (0.5, 91)])
def test_a_5_percent_test_errs_in_about_5_percent_and_intervals_cover_95(decay, days):
    rate = rejected(autoregressive(decay, days, 5000))
    assert 0.03 <= rate <= 0.08  # the same number says that 95 % intervals cover 92 to 97 %


def test_the_usual_correction_cries_wolf_where_this_one_does_not():
    series = autoregressive(0.8, 365, 4000)
    centred = series - series.mean(axis=0)
    lags = [(centred[k:] * centred[: len(centred) - k]).sum(axis=0) / 365 for k in range(3)]  # lead 3: lags to lead − 1
    usual = np.abs(series.mean(axis=0)) / np.sqrt((lags[0] + 2 * lags[1] + 2 * lags[2]) / 365) > 1.96
    assert usual.mean() > 0.15 > 0.08 >= rejected(series)


def test_slow_errors_under_fast_noise():
    slow = autoregressive(0.9, 730, 3000) + 3 * np.random.default_rng(1).standard_normal((730, 3000))
    assert rejected(slow) <= 0.09


DAY = np.arange(365)[:, None]
MISSING = {
    "at random": lambda rng: rng.random((365, 1500)) > 0.42,  # as on real SMAP L3
    "a frozen winter": lambda rng: (DAY < 75) | (DAY > 325),
    "all but one season": lambda rng: (DAY < 152) | (DAY >= 244),
    "a winter of each cell's own": lambda rng: rng.integers(30, 150, 1500) > DAY,
}


@pytest.mark.parametrize("days", MISSING)
def test_days_without_a_value_are_not_days_without_error(days):
    missing = np.broadcast_to(MISSING[days](np.random.default_rng(2)), (365, 1500))
    series = np.where(missing, np.nan, autoregressive(0.8, 365, 1500))
    variance, freedom = variance_of_mean(series, np.arange(365.0))
    assert 0.03 <= rejected(series) <= 0.085
    sums = np.stack([np.arange(365), ~missing[:, 0], *np.nan_to_num([series[:, 0]] * 4)], axis=1).astype(float)
    sums[:, significance.REFERENCE_2] = 0
    found = estimate([sums], significance.mse_difference)  # of pooled days the same as of a cell
    assert found.p == pytest.approx(2 * t.sf(abs(np.nanmean(series[:, 0])) / variance[0] ** 0.5, freedom[0]), rel=1e-6)


def with_a_cycle(decay: float, days: int, cycle: float, varying: float = 0.0, missing=(0, 0), mean: float = 0.0):
    """AR(1) errors of unit variance about a true mean, with an annual cycle in their mean and in their variance.

    `cycle` is in standard deviations; `missing` are days of each year without a value. The cycle has no mean over the
    days that have one: it is a fixed part of the errors, and what is tested is the mean.
    """
    number = np.arange(days)
    wave = np.sqrt(2) * np.cos(2 * np.pi * number / 365.2425 + 1)[:, None]
    there = (number % 365 < missing[0]) | (number % 365 >= missing[1])
    errors = np.sqrt(1 - decay**2) * autoregressive(decay, days, 2500, seed=days)
    errors = errors * np.sqrt(np.maximum(1 + varying * wave, 0.05)) + cycle * (wave - wave[there].mean()) + mean
    return np.where(there[:, None], errors, np.nan)


def weighted(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of errors over cell-days, each day's influence on it, and the days' number of cell-days.

    Few cells have a value in winter, and each day a random part of them: as many as SMAP's orbits see.
    """
    number = np.arange(len(errors))
    weights = 1 + 0.5 * np.cos(2 * np.pi * number / 365.2425)
    weights *= np.random.default_rng(365).uniform(0.7, 1.3, len(errors))
    mean = np.average(errors, axis=0, weights=weights)
    return mean, weights[:, None] * (errors - mean) / weights.mean(), weights


def rejected_with_weights(decay: float, days: int, cycle: float, mean: float = 0.0) -> float:
    """Share of weighted means that are called different from their true value, the cycle's part taken off."""
    found, influence, weights = weighted(with_a_cycle(decay, days, cycle, mean=mean))
    fixed, *_ = weighted(with_a_cycle(decay, days, cycle) - with_a_cycle(decay, days, 0))
    variance, freedom = variance_of_mean(influence, np.arange(days, dtype=float), weights)
    return float((2 * t.sf(np.abs(found - fixed) / np.sqrt(variance), freedom) < 0.05).mean())


def rows_of(table: str, cells: int) -> list[tuple[str, ...]]:
    """The rows of a table of the protocol, by its heading: two cells that name the case, and the numbers."""
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").split(f"| {table} |", 1)[1].split("\n\n", 1)[0]
    pattern = r"^\| ([\d.]+) \| ([\d.]+) \|" + r" ([\d.]+) \|" * cells + "$"
    return re.findall(pattern, text, re.MULTILINE)


ROWS = rows_of("days", cells=7)
SEEDS = rows_of("seeds", cells=3)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:2]))
def test_the_annual_cycle_is_not_taken_for_noise(row):
    """Size 3 to 9 %, so that intervals cover 91 to 97 %; as much power as without a cycle; and the protocol's table."""
    days, decay, *written = int(row[0]), *map(float, row[1:])
    cases = [
        {"cycle": 0},
        {"cycle": 2},
        {"cycle": 1, "varying": 0.6},
        {"cycle": 1, "missing": (100, 190)},
    ]
    sizes = [rejected(with_a_cycle(decay, days, **case)) for case in cases] + [rejected_with_weights(decay, days, 1)]
    power = [rejected(with_a_cycle(decay, days, cycle, mean=0.3)) for cycle in (0, 2)]
    assert min(sizes) >= 0.03 and max(sizes) <= 0.09
    assert power[1] >= 0.9 * power[0]
    np.testing.assert_allclose(written, 100 * np.array([*sizes, *power]), atol=0.6)


def test_the_tables_of_the_protocol_have_all_cases():
    decays = ("0.0", "0.5", "0.8", "0.9")
    assert [row[:2] for row in ROWS] == [(days, decay) for days in ("365", "731") for decay in decays]
    assert [row[:2] for row in SEEDS] == [(seeds, spread) for seeds in "35" for spread in ("0.0", "0.1", "0.3")]


@pytest.mark.parametrize("cycle", [1, 2])
def test_a_cycle_in_the_mean_changes_nothing(cycle):
    """Not even where the number of cell-days has an annual cycle too. Without weights in the test, it had no power."""
    for days in (365, 731):
        number = np.arange(days, dtype=float)
        plain, seasonal = (with_a_cycle(0.8, days, size)[:, :50] for size in (0, cycle))
        np.testing.assert_allclose(variance_of_mean(seasonal, number)[0], variance_of_mean(plain, number)[0], rtol=1e-4)
        (_, plain, weights), (_, seasonal, _) = weighted(plain), weighted(seasonal)
        found = variance_of_mean(seasonal, number, weights)[0]
        np.testing.assert_allclose(found, variance_of_mean(plain, number, weights)[0], rtol=1e-4)
        assert found.mean() < 0.8 * variance_of_mean(seasonal, number)[0].mean()


def test_less_than_a_year_cannot_tell_season_from_noise():
    """Nothing is removed then: the test is careful, and tables say why."""
    number = np.arange(364.0)
    assert not spans_a_year(number) and spans_a_year(np.append(number, 364))
    assert rejected(with_a_cycle(0.5, 300, 1)) < 0.01


def test_white_noise_has_the_textbook_variance():
    series = np.random.default_rng(3).standard_normal((400, 2000))
    variance, freedom = variance_of_mean(series, np.arange(400.0))
    assert variance.mean() == pytest.approx(1 / 400, rel=0.02)
    assert np.median(freedom) == 21  # 0.4 · 400^(2/3)


def exchangeable(trials: int, days: int = 365, cells: int = 6):
    """Two forecasts whose errors are drawn alike: correlated in time and in space, and with each other."""
    rng = np.random.default_rng(4)
    for _ in range(trials):
        noise = rng.standard_normal((2, days + 50, cells)) + rng.standard_normal((2, days + 50, 1))
        noise += 0.5 * rng.standard_normal((1, days + 50, 1))
        errors = lfilter([1], [1, -0.8], noise, axis=1)[:, 50:]
        observed = rng.uniform(0.1, 0.4, (days, cells))
        observed[rng.random((days, cells)) < 0.3] = np.nan
        yield observed, observed + 0.01 * errors[0], observed + 0.01 * errors[1]


def test_forecasts_with_exchangeable_errors_are_called_different_at_the_stated_level():
    calls = [verdict(compare_runs(observed, [a], [b])) for observed, a, b in exchangeable(600)]
    assert 0.03 <= 1 - calls.count("not significant") / 600 <= 0.075


def test_a_year_that_differs_is_seen_and_a_shuffled_forecast_is_worse():
    rng = np.random.default_rng(5)
    observed = 0.2 + 0.03 * autoregressive(0.9, 365, 8, seed=6)
    forecast = observed + 0.02 * rng.standard_normal(observed.shape)
    shuffled = forecast[rng.permutation(365)]
    found = compare_runs(observed, [shuffled], [forecast])
    assert verdict(found) == "worse" and found.low > 0 and found.p < 1e-4
    assert verdict(compare_runs(observed, [forecast], [shuffled])) == "better"
    same = compare_runs(observed, [forecast], [forecast])
    assert same.value == 0 and same.p == 1 and verdict(same) == "not significant"


def test_scores_of_daily_sums_by_hand():
    observed = np.array([[0.1, 0.2], [0.3, np.nan]])
    sums = daily_sums(observed, observed + 0.01, observed + 0.02, days_of(observed))
    np.testing.assert_allclose(sums[:, significance.DAY], [6664, 6665])  # 31 March 2018, from the year 2000
    np.testing.assert_allclose(sums[:, significance.N], [2, 1])
    np.testing.assert_allclose(sums[:, significance.OBSERVED], [0.3, 0.3])
    mean = torch.from_numpy(sums.mean(axis=0))
    assert float(significance.rmse(mean)) == pytest.approx(0.01)
    ratio = float(significance.log_mse_ratio(mean))
    assert significance.skill.function(ratio) == pytest.approx(0.75)
    assert float(significance.mse_difference(mean)) == pytest.approx(-3e-4)
    assert significance.rmse_change.function(ratio) == pytest.approx(-0.5)
    assert float(significance.r2(mean)) == pytest.approx(
        1 - 3e-4 / 0.02
    )  # squared deviations from 0.2: 0.01 + 0 + 0.01


def test_the_interval_of_rmse_covers_the_true_one():
    rng, inside = np.random.default_rng(7), 0
    for _ in range(400):
        errors = 0.02 * lfilter([1], [1, -0.8], rng.standard_normal((415, 3)), axis=0)[50:] * 0.6
        observed = rng.uniform(0.1, 0.4, errors.shape)
        found = estimate([daily_sums(observed, observed + errors, observed, days_of(observed))], significance.rmse)
        inside += found.low <= 0.02 <= found.high  # the AR(1)'s standard deviation is its innovation's over 0.6
    assert 0.9 <= inside / 400 <= 0.98


def seeds_of_a_model(seeds: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Errors [seed, time, series] of the seeds of a model, of mean 0 and unit variance, beside the seeds' `spread`.

    Half of the days' noise is the same for all seeds, half is each seed's own; each seed is off by a draw of its own.
    """
    noise = rng.standard_normal((seeds + 1, 300 + 365, 1000))
    shared, *own = np.sqrt(1 - 0.5**2) * lfilter([1], [1, -0.5], noise, axis=1)[:, 300:]
    return (shared + np.array(own)) / np.sqrt(2) + spread * rng.standard_normal((seeds, 1, 1000))


@pytest.mark.parametrize("row", SEEDS, ids=lambda row: "-".join(row[:2]))
def test_a_claim_about_a_model_carries_the_chance_of_its_seeds(row):
    """One model's mean, the difference of two that learned independently, and the first without the seeds' chance."""
    seeds, spread, *written = int(row[0]), *map(float, row[1:])
    rng, days = np.random.default_rng(7), np.arange(365.0)
    models = [seeds_of_a_model(seeds, spread, rng) for _ in range(2)]
    mean = [model.mean(axis=0) for model in models]
    draws = [(model.mean(axis=1), model) for model in models]
    cases = ((mean[0], draws[:1]), (mean[0] - mean[1], draws), (mean[0], []))
    sizes = []
    for series, chance in cases:
        variance, freedom = variance_over_seeds(series, draws=chance, days=days)
        sizes.append(float((2 * t.sf(np.abs(series.mean(axis=0)) / np.sqrt(variance), freedom) < 0.05).mean()))
    assert min(sizes[:2]) >= 0.03 and max(sizes[:2]) <= 0.09
    assert spread < 0.3 or sizes[2] > 0.2  # what it would be without the seeds
    np.testing.assert_allclose(written, 100 * np.array(sizes), atol=0.6)


def test_models_with_seeds_are_compared_seed_by_rival():
    """Of three seeds against two: the value is the difference of the means; the same as cell by cell with one cell."""
    rng = np.random.default_rng(8)
    observed = rng.uniform(0.1, 0.4, (365, 1))
    one, other = (
        [observed + level * rng.standard_normal(observed.shape) for level in levels]
        for levels in ((0.02, 0.025, 0.03), (0.03, 0.031))
    )
    own, others = ([daily_sums(observed, run, run, days_of(observed)) for run in runs] for runs in (one, other))
    found = estimate(cross_seeds(own, others), significance.mse_difference)
    errors = [(np.stack(runs) - observed) ** 2 for runs in (one, other)]
    series = errors[0].mean(axis=0) - errors[1].mean(axis=0)
    draws = [(model.mean(axis=1), model) for model in errors]
    variance, freedom = variance_over_seeds(series, draws=draws, days=number_days(days_of(observed)))
    assert found.value == pytest.approx(series.mean())
    assert found.high - found.value == pytest.approx(t.ppf(0.975, freedom[0]) * variance[0] ** 0.5, rel=1e-6)
    spread = [model.mean(axis=(1, 2)).var(ddof=1) / len(model) for model in errors]
    assert variance[0] < variance_of_mean(series, number_days(days_of(observed)))[0][0] + sum(spread)
    assert freedom[0] < 3  # the seeds differ by far more than the days: one and two degrees of freedom


def test_comparisons_of_a_sentence_are_corrected_for_their_number():
    """By hand: p times the number over the rank, and no smaller than that of a lower rank; intervals stay."""
    ends = {"low": -0.2, "high": -0.01}
    given = [significance.Estimate(-0.1, **ends, p=p) for p in (0.04, 0.01, np.nan, 0.03, 0.5)]
    found = correct(given)
    np.testing.assert_allclose([change.p for change in found], [0.16 / 3, 0.04, np.nan, 0.16 / 3, 0.5])
    assert [verdict(change) for change in found] == [
        "not significant",
        "better",
        "too few days",
        "not significant",
        "not significant",
    ]
    assert all((change.value, change.low, change.high) == (-0.1, -0.2, -0.01) for change in found)
    assert correct([]) == []


def test_skill_change_and_verdict_never_contradict_each_other():
    for observed, one, other in exchangeable(100, days=400):
        sums = [daily_sums(observed, one * rng, other, days_of(observed)) for rng in (0.98, 1.0)]
        for scores in (sums[:1], sums[1:], sums):
            better = estimate(scores, significance.skill)
            change = estimate(scores, significance.rmse_change)
            assert (better.low > 0) == (verdict(change) == "better") == (change.high < 0)
            assert (better.high < 0) == (verdict(change) == "worse") == (change.low > 0)
            assert better.value == pytest.approx(1 - (1 + change.value) ** 2)


def test_too_few_days_are_said():
    observed = np.full((10, 2), 0.2)
    found = compare_runs(observed, [observed + 0.1], [observed])
    assert np.isnan(found.p) and np.isnan(found.low) and verdict(found) == "too few days"
    nothing = estimate(
        [daily_sums(np.full_like(observed, np.nan), observed, observed, days_of(observed))], significance.rmse_change
    )
    assert np.isnan(nothing.value) and verdict(nothing) == "too few days"


def test_cells_named_significant_are_mostly_right():
    """Half of the cells differ; of those named, at most about 5 % are named wrongly, and cells without data never."""
    rng, wrong, named, found = np.random.default_rng(9), 0, 0, 0
    for trial in range(8):
        difference = autoregressive(0.7, 365, 400, seed=trial).reshape(365, 20, 20).copy()
        difference[:, :10] -= 2.0  # the first model is better there
        difference[rng.random(difference.shape) < 0.3] = np.nan
        difference[:, 0, :5] = np.nan
        difference[40:, 1, :5] = np.nan  # too few days
        better, worse, tested = better_and_worse(difference[None], np.zeros_like(difference)[None], days_of(difference))
        assert not tested[0, :5].any() and not tested[1, :5].any() and tested.sum() == 390
        assert not better[0, :5].any() and not better[1, :5].any() and not worse[:10].any()
        wrong += int(better[10:].sum() + worse.sum())
        named += int((better | worse).sum())
        found += int(better[:10].sum())
    assert wrong / named <= 0.05
    assert found > 0.9 * 8 * 190
