"""The chance of unusually dry or wet soil: against hand-worked cases, scipy, scikit-learn and a simulated climate."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from figure_checks import assert_tidy, saved_figures  # noqa: F401
from scipy.stats import norm
from sklearn.metrics import brier_score_loss
from test_uncertainty import days_from, world

from utils.common.grid import Grid
from utils.common.periods import annual_harmonics
from utils.figures import style
from utils.forecasts import figures
from utils.forecasts.calibration import LEVELS, Calibration, OutOfSample
from utils.forecasts.climatology import DRY, PARTS, WET, Climatology, _month_of, _quantiles_by_month
from utils.forecasts.event_scores import BINS, RARE, EventScores, probability_below, score_events
from utils.forecasts.forecast_file import CHANCES, PERCENTILES, describe_maps
from utils.forecasts.operational import _combine
from utils.forecasts.request import ForecastRequest, LeadEnsemble
from utils.study.questions.drought import describe_drought, draw_drought, drought_columns


def maps(values):
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def normal_quantiles(shape):
    return [np.full(shape, value, np.float32) for value in norm.ppf(LEVELS, loc=0.2, scale=0.04)]


def test_a_probability_is_the_level_of_its_quantile_and_close_to_the_distribution_in_between():
    thresholds = maps(norm.ppf(LEVELS, 0.2, 0.04))
    found = probability_below(thresholds, normal_quantiles(thresholds.shape))
    np.testing.assert_allclose(found.ravel(), LEVELS, atol=1e-5)
    thresholds = maps(np.linspace(0.02, 0.38, 200))
    found = probability_below(thresholds, iter(normal_quantiles(thresholds.shape))).ravel()
    np.testing.assert_allclose(found, norm.cdf(thresholds.ravel(), 0.2, 0.04), atol=0.012)
    assert (np.diff(found) >= 0).all() and 0 < found[0] < 0.001 and 0.999 < found[-1] <= 1


def test_a_probability_by_hand():
    """Quantiles 0.01 apart from 0.10 on: half way between the first two, and one step below the first."""
    quantiles = [maps([0.1 + 0.01 * number] * 4) for number in range(19)]
    found = probability_below(maps([0.105, 0.09, 0.29, np.nan]), quantiles).ravel()
    np.testing.assert_allclose(found[:3], [0.075, 0.05 * np.exp(-1), 1 - 0.05 * np.exp(-1)], rtol=1e-4)
    assert np.isnan(found[3])


def test_quantiles_that_are_equal_are_a_step():
    quantiles = [maps([0.2, 0.2])] * len(LEVELS)
    np.testing.assert_allclose(probability_below(maps([0.199, 0.201]), quantiles).ravel(), [0, 1], atol=1e-6)


def chances(count=400, cells=6, seed=0):
    """Well calibrated chances, the events, and which of them are scored."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.4, 2.5, (count, cells, 1)).astype(np.float32)
    return chance, rng.random(chance.shape) < chance, rng.random(chance.shape) < 0.8


def test_brier_score_and_skill_against_scikit_learn():
    chance, event, valid = chances()
    scores = EventScores.of(chance, event, valid, days_from("2016-01-01", len(chance)))
    assert scores.brier == pytest.approx(brier_score_loss(event[valid], chance[valid]), rel=1e-6)
    usual = brier_score_loss(event[valid], np.full(valid.sum(), RARE))
    assert scores.skill.value == pytest.approx(1 - scores.brier / usual, rel=1e-6)
    assert scores.skill.low < scores.skill.value < scores.skill.high
    assert scores.share == pytest.approx(event[valid].mean())
    assert scores.skill_over(scores).value == 0


def test_the_parts_of_the_brier_score_by_hand():
    """0.1 is said four times and comes once, 0.8 is said four times and comes thrice."""
    chance = maps([0.1] * 4 + [0.8] * 4)
    event = maps([0, 1, 0, 0, 1, 1, 0, 1]) > 0
    scores = EventScores.of(chance, event, np.isfinite(chance), days_from("2016-01-01", 8))
    parts = {"reliability": 0.5 * (0.15**2 + 0.05**2), "resolution": 0.25**2, "uncertainty": 0.25}
    assert scores.parts == pytest.approx(parts)
    expected = (3 * 0.01 + 0.81 + 3 * 0.04 + 0.64) / 8
    assert scores.brier == pytest.approx(expected)
    assert parts["reliability"] - parts["resolution"] + parts["uncertainty"] == pytest.approx(expected)
    low, high = scores.reliability
    assert (low["chance"], low["frequency"], low["n"]) == (pytest.approx(0.1), 0.25, 4)
    assert (high["chance"], high["frequency"], high["n"]) == (pytest.approx(0.8), 0.75, 4)
    assert np.isnan(low["low"]), "four days are too few for an interval"


def test_intervals_of_reliability_hold_the_chance_where_forecasts_are_reliable():
    inside = []
    for seed in range(20):
        chance, event, valid = chances(seed=seed)
        rows = EventScores.of(chance, event, valid, days_from("2016-01-01", len(chance))).reliability
        inside += [row["low"] <= row["chance"] <= row["high"] for row in rows[:6]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.04)


def test_scores_of_the_parts_of_a_map_are_joined():
    chance, event, valid = chances()
    days = days_from("2016-01-01", len(chance))
    halves = [EventScores.of(chance[:, i], event[:, i], valid[:, i], days) for i in (slice(0, 2), slice(2, 6))]
    joined, whole = EventScores.joined(halves), EventScores.of(chance, event, valid, days)
    for name in ("n", "chance", "hits", "errors"):
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), rtol=1e-9)
    assert whole.n.shape == (len(days), len(BINS) - 1) and whole.n.sum() == valid.sum()


def climate(years, cells, seed=0):
    """Days of a climate with an annual cycle and anomalies that last for months; each cell has its own weather."""
    rng = np.random.default_rng(seed)
    days = days_from("2015-01-01", round(365.25 * years))
    anomaly = np.empty((len(days), cells))
    anomaly[0] = rng.standard_normal(cells)
    for day in range(1, len(days)):
        anomaly[day] = 0.97 * anomaly[day - 1] + np.sqrt(1 - 0.97**2) * rng.standard_normal(cells)
    cycle = annual_harmonics(days, 1) @ [0.25, 0.05, 0.02]
    return (cycle[:, None] + 0.03 * anomaly).astype(np.float32)[:, None], days


def observations(observed, days):
    shape = observed.shape
    return OutOfSample(
        observed=observed,
        forecast=np.zeros(shape, np.float32),
        age=np.zeros(shape, np.int16),
        region=np.zeros(shape[1:], np.int8),
        days=days,
        all_year=True,
    )


@pytest.mark.parametrize(("years", "in_sample"), [(2, 18), (3, 16), (6, 13)])
def test_a_tenth_of_the_days_of_an_unseen_year_is_unusually_dry(years, in_sample):
    """It would be more, were the deviations those from the record's own cycle: the table of docs/forecast.md."""
    observed, days = climate(years + 1, cells=600)
    record = days < days[0] + round(365.25 * years)
    known = Climatology.of(observations(observed[record], days[record]))
    assert known.years == years
    unseen, later = observed[~record], days[~record]
    dry, wet = (known.quantile(level, later) for level in (DRY, WET))
    share = 100 * (unseen < dry).mean()
    assert share == pytest.approx(10, abs=1.5)
    assert 100 * (unseen > wet).mean() == pytest.approx(10, abs=3)
    own = _quantiles_by_month(observed[record] - known.expected(days[record]), days[record])
    before = known.expected(later) + own[_month_of(later), list(PARTS).index(DRY)]
    assert 100 * (unseen < before).mean() == pytest.approx(in_sample, abs=1)
    percentile = known.percentile(unseen - known.expected(later), later)
    assert 100 * (percentile < 10).mean() == pytest.approx(share, abs=0.2)
    assert f"| {years} | {in_sample} % | {round(share)} % |" in (ROOT / "docs" / "forecast.md").read_text("utf-8")


def test_quantiles_of_deviations_by_a_loop():
    """Each day against the mean and cycle of the two other years, by numpy's least squares."""
    observed, days = climate(3, cells=2, seed=4)
    observed[::7] = np.nan
    found = Climatology.of(observations(observed, days))
    year, values, left = (days[-1] - days).astype(int) // 365.25, observed[:, 0, 1], []
    for number in range(3):
        others = (year != number) & np.isfinite(values)
        basis = annual_harmonics(days, 2)
        terms = np.linalg.lstsq(basis[others], values[others], rcond=None)[0]
        left.append((values - basis @ terms)[year == number])
    left = np.concatenate(left[::-1])
    near = np.isin(days.astype("datetime64[M]").astype(int) % 12, (11, 0, 1)) & np.isfinite(left)
    expected = np.quantile(left[near], PARTS)
    np.testing.assert_allclose(found.spread[0, :, 0, 1], expected, atol=4e-4)  # the cycle is shrunk a little


def test_of_a_short_record_nothing_is_said_of_unseen_years():
    held = world(count=500)
    known = Climatology.of(held)
    assert known.years == 1
    assert np.isnan(known.quantile(DRY, days_from("2017-01-01", 3))).all()
    assert np.isfinite(known.percentile(np.zeros((3, *held.region.shape), np.float32), held.days[:3])).all()
    scores = score_events(world(count=50, seed=2), Calibration.of(held), known)
    assert not scores["dry"].n.any() and np.isnan(scores["dry"].skill.value)


@pytest.fixture(name="lead")
def lead_of_a_long_record():
    held = world(count=1096, share=1.0)
    return LeadEnsemble(
        days=3,
        run_dirs=(),
        weights=(1.0,),
        calibration=Calibration.of(held),
        climatology=Climatology.of(held),
        seen_share=0.0,
    )


def forecast_of(lead, grid):
    inits = days_from("2018-07-01", 1)
    age = np.zeros((1, *grid.shape), np.int16)
    member = np.linspace(0.09, 0.41, 30, dtype=np.float32).reshape(1, 1, *grid.shape)
    found = _combine(lead, member, age, valid_days=inits + 3)
    request = ForecastRequest(
        leads=(lead,),
        data=Path(),
        future_from=None,
        grid=grid,
        end=None,
        cross_validated=True,
        warnings=(),
        attributes={"synthetic": "true"},
    )
    stacked = {name: values[:, None] for name, values in found.items() if values is not None}
    return describe_maps(request, inits, stacked, age).isel(init_time=0)


def test_the_chances_of_a_forecast_are_those_of_its_own_quantiles(lead):
    grid = Grid(np.arange(5.0), np.arange(6.0))
    ds = forecast_of(lead, grid)
    quantiles = ds["soil_moisture_quantile"].transpose("quantile", ...).values.squeeze()
    for name, threshold, flip in zip(CHANCES, PERCENTILES, (False, True), strict=True):
        chance, limit = ds[name].values[0], ds[threshold].values[0]
        below = [[np.interp(limit[i, j], quantiles[:, i, j], LEVELS) for j in range(6)] for i in range(5)]
        below = np.array(below)
        between = (below > 0.05) & (below < 0.95)
        assert between.any()
        np.testing.assert_allclose((1 - chance if flip else chance)[between], below[between], atol=1e-4)
        assert ds[name].attrs["units"] == "1" and "3 years" in ds[name].attrs["comment"]


def test_the_figure_shows_the_chance_of_unusually_dry_soil(lead, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, *to, **how: drawn.append(figure))
    figures.draw_forecast(forecast_of(lead, Grid(np.arange(30.0, 35.0), np.arange(100.0, 106.0))), tmp_path / "a.png")
    labels = [ax.get_xlabel() for ax in drawn[0].axes]
    assert "chance of unusually dry (%)" in labels and pytest.approx(drawn[0].get_size_inches()[0]) == style.DOUBLE


def test_the_study_draws_and_says_how_good_the_chances_are(tmp_path, saved):
    rows = []
    for lead in (3, 7):
        found = {}
        for number, name in enumerate(("persistence", "compact")):
            chance, event, valid = chances(seed=number)
            found[name] = EventScores.of(chance, event, valid, days_from("2016-01-01", len(chance)))
        for name, scores in found.items():
            columns = drought_columns(dict.fromkeys(("dry", "wet"), scores), dict.fromkeys(("dry", "wet"), scores))
            rows.append({"model": name, "lead_days": lead, **columns})
    table = pd.DataFrame(rows)
    draw_drought(table, "Chance (SYNTHETIC sample)", tmp_path / "drought.png")
    assert_tidy(saved[0])
    answer, points = describe_drought(table)
    share = 100 * found["persistence"].share
    assert answer.startswith(f"{share:.1f} % of the test's cell-days were unusually dry")
    assert len(points) == 2 and points[0].startswith("3 days: ")
    best = found["compact"].skill
    assert f"compact {best.value:.2f} ({best.low:.2f} to {best.high:.2f})" in points[0]
