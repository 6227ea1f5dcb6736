"""How well a series of soil moisture agrees with a station, with intervals that allow for errors that last for weeks.

values      bias, ubRMSD and Pearson's r are pytesmo's; so are SNR and error of triple collocation
anomalies   the series less its moving average over WINDOW days (pytesmo's), of the days that are compared
intervals   pytesmo's own take the days for independent, which makes them too narrow. Here each score has its influence:
            how far each day pulls it (delta method). The influence is a daily series, and the variance of its mean
            comes from utils/scores/variance.py. On independent days both agree, which a test holds
several     a network's score is the mean over its stations. Their influences are added day by day, so that stations
            that err on the same days do not count as independent. Correlations are averaged after Fisher's
            transformation
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from pytesmo.metrics import bias, pearson_r, tcol_metrics, ubrmsd
from pytesmo.time_series.filtering import moving_average
from scipy.stats import t

from utils.scores.metrics import VARIATION
from utils.scores.significance import LEVEL
from utils.scores.variance import number_days, variance_of_mean

WINDOW = 35  # days of the moving average, centred
FEWEST_IN_WINDOW = 10  # days with a value
FEWEST_DAYS = 30  # with fewer, a station is not scored
FEWEST_FOR_TRIPLES = 100  # days of a triple collocation
ALMOST_ONE = 1 - 1e-9  # Fisher's transformation of 1 is infinite
DECIBEL = 10 / np.log(10)


@dataclass(frozen=True)
class Metric:
    """How a score is called, and how its mean over stations is turned into what is shown."""

    label: str
    unit: str
    shown: Callable[[float], float] = float


METRICS = {
    "bias": Metric("bias", "m3 m-3"),
    "ubrmsd": Metric("ubRMSD", "m3 m-3"),
    "r": Metric("r", "1", np.tanh),
    "anomaly_r": Metric("anomaly r", "1", np.tanh),
    "snr": Metric("SNR", "dB"),
}


class Interval(NamedTuple):
    """A score with its 95 % interval; NaN where there are too few days."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Score:
    """A score of one station; correlations after Fisher's transformation."""

    value: float
    influence: pd.Series  # by day; its mean is 0

    def __sub__(self, other: "Score") -> "Score":
        """The difference of two scores, such as those of two forecasts of the same days."""
        return Score(self.value - other.value, self.influence.sub(other.influence, fill_value=0))


@dataclass(frozen=True)
class Triple:
    """What triple collocation says of one of three series; NaN where no positive variance of the error is found."""

    snr: float  # dB, of its variance that it shares with the others over that of its error
    error: float  # m3 m-3, standard deviation of its error in the station's scale


def score_pair(series: pd.Series, station: pd.Series) -> dict[str, Score]:
    """Scores of a series against a station on the same days, m3 m-3; bias is series minus station."""
    x, y = (values.to_numpy(np.float64) for values in (series, station))
    difference = series - station
    mean, spread = bias(x, y), ubrmsd(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_spread = ((difference - mean) ** 2 - spread**2) / (2 * spread)
    anomalies = to_anomalies(pd.DataFrame({"series": series, "station": station}))
    return {
        "bias": Score(mean, difference - mean),
        "ubrmsd": Score(spread, of_spread),
        "r": _correlate(series, station),
        "anomaly_r": _correlate(anomalies["series"], anomalies["station"]),
    }


def to_anomalies(table: pd.DataFrame) -> pd.DataFrame:
    """Each column less its moving average over WINDOW days; days with few others around them are left out."""
    means = table.apply(moving_average, window_size=WINDOW, min_obs=FEWEST_IN_WINDOW)
    return (table - means).dropna()


def _correlate(x: pd.Series, y: pd.Series) -> Score:
    """Pearson's r after Fisher's transformation; NaN where a series is constant or has few days."""
    if len(x) < FEWEST_DAYS or min(x.std(), y.std()) < VARIATION:
        return Score(np.nan, pd.Series(np.nan, index=x.index))
    r = float(np.clip(pearson_r(x.to_numpy(), y.to_numpy()), -ALMOST_ONE, ALMOST_ONE))
    x, y = ((values - values.mean()) / values.std(ddof=0) for values in (x, y))
    influence = x * y - r * (x**2 + y**2) / 2
    return Score(float(np.arctanh(r)), influence / (1 - r**2))


def collocate(table: pd.DataFrame) -> tuple[dict[str, Triple], Score] | None:
    """Triple collocation of the anomalies of three series: station, series and a third one, in the order of columns.

    Returns what it says of each, and the SNR of the second as a score (pytesmo's formulas, of Gruber et al. 2016,
    doi:10.1016/j.jag.2015.09.002). None with few days, and where a covariance is not positive: then the three do not
    share a signal, and nothing can be said.
    """
    anomalies = to_anomalies(table)
    if len(anomalies) < FEWEST_FOR_TRIPLES:
        return None
    covariance = anomalies.cov().to_numpy()
    if not (covariance > 0).all():
        return None
    with np.errstate(divide="ignore"):
        snr, error, _ = tcol_metrics(*anomalies.to_numpy(np.float64).T, ref_ind=0)
    snr = np.where(error > 0, snr, np.nan)  # pytesmo takes a negative variance without its sign
    triples = {name: Triple(float(s), float(e)) for name, s, e in zip(table.columns, snr, error, strict=True)}
    centred = anomalies - anomalies.mean()
    share, influence = 1.0, 0.0  # of its variance that is signal: cov(y, x) cov(y, z) / var(y) / cov(x, z)
    for one, other, power in ((1, 0, 1), (1, 2, 1), (1, 1, -1), (0, 2, -1)):
        value = covariance[one, other]
        share = share * value**power
        influence = influence + power * (centred.iloc[:, one] * centred.iloc[:, other] / value - 1)
    noise = 1 - share if error[1] > 0 else np.nan
    return triples, Score(float(snr[1]), DECIBEL / noise * (influence - influence.mean()))


def estimate_mean(scores: Sequence[Score], metric: Metric) -> Interval:
    """The mean of the scores of several stations, or one station's own, with its 95 % interval over time."""
    known = [score for score in scores if np.isfinite(score.value)]
    if not known:
        return Interval(np.nan, np.nan, np.nan)
    value = float(np.mean([score.value for score in known]))
    shares = pd.concat([score.influence / len(score.influence) for score in known], axis=1).sort_index()
    counts = pd.concat([score.influence * 0 + 1 / len(score.influence) for score in known], axis=1).sort_index()
    days = number_days(shares.index.to_numpy())
    influence = shares.sum(axis=1).to_numpy() * len(days) / len(known)
    variance, freedom = variance_of_mean(influence, days, weights=counts.sum(axis=1).to_numpy())
    half = t.ppf(1 - LEVEL / 2, freedom) * np.sqrt(variance)
    return Interval(*(float(metric.shown(end)) for end in (value, value - half, value + half)))
