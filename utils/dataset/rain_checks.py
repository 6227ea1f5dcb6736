"""Whether the precipitation of a data set can be right: its day against the change of soil moisture, and its amount.

Rain of day D raises the daily mean of D above that of D−1, and, as far as it falls late, that of D+1 above that of D.
Where it goes better with the second change than with the first, it may be stamped a day early. A model that learns from
such a file sees tomorrow's rain.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float, Real
from scipy import stats

RAINY = 1.0  # mm day-1
ENOUGH_RAIN = 1000  # rainy cell-days below which nothing is said
ENOUGH_CELLS = 9  # where rain falls late in the UTC day, a few cells of right data look shifted
BLOCK = 10  # days that are left out together: longer than a spell of rain
CHANCE = 1e-3  # of a right data set to be called shifted
DAY = np.timedelta64(1, "D")
WET_PLACE = 4000.0  # mm a year: few regions of the Earth have more
WETTEST_PLACE = 12000.0  # mm a year: the wettest places on Earth
DAY_IS_CERTAIN = "rain_day_is_certain"  # the attribute of a file whose rain came hour by hour


@dataclass(frozen=True)
class RainTiming:
    """How rain of day D goes with the change of soil moisture before and after: correlations pooled over all cells."""

    before: float  # with the change from D−1 to D
    after: float  # with the change from D to D+1
    chance: float  # of so great a lead of `after`, were there none: a jackknife over blocks of days
    rainy: int  # cell-days with rain
    cells: int

    @property
    def looks_shifted(self) -> bool:
        """Whether the rain goes significantly better with the change after its day."""
        return self.rainy >= ENOUGH_RAIN and self.after > self.before and self.chance < CHANCE

    @property
    def is_proof(self) -> bool:
        """Whether it looks shifted in so many cells that it is no accident of the region."""
        return self.looks_shifted and self.cells >= ENOUGH_CELLS

    def __str__(self) -> str:
        return (
            f"precipitation of day D goes better with the change of soil moisture from D to D+1 (correlation "
            f"{self.after:.2f}) than from D−1 to D ({self.before:.2f})"
        )


def measure_timing(ds: xr.Dataset) -> RainTiming | None:
    """The RainTiming of `precipitation` and `soil_moisture` [time, lat, lon], read month by month; None for too few."""
    days = ds["time"].values.astype("datetime64[D]")
    sums, rainy, cells = [], 0, 0
    for first in range(0, len(days), 3 * BLOCK):
        whole = slice(max(first - 1, 0), first + 3 * BLOCK + 1)  # with the days before and after
        part = ds[["precipitation", "soil_moisture"]].transpose("time", "lat", "lon").isel(time=whole).load()
        rain, moisture, own_days = part["precipitation"].values, part["soil_moisture"].values, days[whole]
        for start in range(first, min(first + 3 * BLOCK, len(days)), BLOCK):
            at = np.arange(start, min(start + BLOCK, len(days))) - whole.start
            sums.append(_sums(rain, moisture, own_days, at))
        inner = rain[first - whole.start :][: 3 * BLOCK]
        rainy += int((inner >= RAINY).sum())
        cells = max(cells, int(np.isfinite(moisture).any(0).sum()))
    sums = np.array([block for block in sums if block[:, 0].any()])
    if len(sums) < 3:
        return None
    total = sums.sum(0)
    lead = _lead(total)
    without = np.array([_lead(total - block) for block in sums])
    error = np.sqrt((len(sums) - 1) / len(sums) * ((without - without.mean()) ** 2).sum())
    if not np.isfinite([lead, error]).all() or error == 0:
        return None
    before, after = _correlation(total[0]), _correlation(total[1])
    return RainTiming(before, after, float(stats.t.sf(lead / error, len(sums) - 1)), rainy, cells)


def _sums(
    rain: Float[np.ndarray, "time lat lon"],
    moisture: Float[np.ndarray, "time lat lon"],
    days: np.ndarray,
    at: np.ndarray,
) -> Float[np.ndarray, "2 6"]:
    """n, Σx, Σy, Σx², Σy², Σxy of the days `at`: x is rain, y the change of moisture before (row 0), after (row 1)."""
    rows = []
    for step in (-1, 1):
        other = at + step
        inside = (other >= 0) & (other < len(days))
        own, other = at[inside], other[inside]
        consecutive = days[other] - days[own] == step * DAY
        own, other = own[consecutive], other[consecutive]
        x, y = rain[own].astype(np.float64), step * (moisture[other].astype(np.float64) - moisture[own])
        both = np.isfinite(x) & np.isfinite(y)
        x, y = x[both], y[both]
        rows.append([x.size, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])
    return np.array(rows)


def _correlation(sums: Real[np.ndarray, "6"]) -> float:
    n, x, y, xx, yy, xy = sums
    spread = (n * xx - x * x) * (n * yy - y * y)
    return float((n * xy - x * y) / np.sqrt(spread)) if spread > 0 else float("nan")


def _lead(sums: Real[np.ndarray, "2 6"]) -> float:
    """By how much rain goes better with the change after its day than with that before."""
    return _correlation(sums[1]) - _correlation(sums[0])


def describe_odd_amount(mean: Float[np.ndarray, "lat lon"], days: int) -> str | None:
    """A sentence where rain is implausibly much; None else. `mean`: each cell's mean [mm day-1] over so many days."""
    if not np.isfinite(mean).any():
        return None
    yearly = mean * min(days, 365.25)  # of a shorter record its own total
    wettest, middle = float(np.nanmax(yearly)), float(np.nanmedian(yearly))
    if wettest <= WETTEST_PLACE and middle <= WET_PLACE:
        return None
    period = "a year" if days >= 365 else f"in {days} days"
    return (
        f"the median cell has {middle:,.0f} mm of precipitation {period}, the wettest {wettest:,.0f} mm; the wettest "
        f"places on Earth have about {WETTEST_PLACE:,.0f} mm a year, few regions more than {WET_PLACE:,.0f} mm: were "
        "running sums added up, or is the unit another one?"
    )


def list_doubts(ds: xr.Dataset, mean: Float[np.ndarray, "lat lon"]) -> list[str]:
    """Sentences that warn of too much rain, and of rain that looks a day early; none where nothing is odd.

    `mean`: each cell's mean of precipitation [mm day-1]. The day of rain that came hour by hour is not doubted.
    """
    doubts = []
    if odd := describe_odd_amount(mean, ds.sizes["time"]):
        doubts.append(odd)
    is_certain = "soil_moisture" not in ds or ds.attrs.get(DAY_IS_CERTAIN) == "true"
    timing = None if is_certain else measure_timing(ds)
    if timing is not None and timing.is_proof:
        doubts.append(f"{timing}; where rain is stamped a day too early, a model sees tomorrow's rain")
    return doubts
