"""SYNTHETIC errors of weather forecasts, of the size that real ones have, growing with lead.

What happens to the true rain of a day, one random draw for each forecast:

displacement   the whole map is moved by one vector, the same direction at all leads, further at longer ones
amount         times a log-normal factor, smooth in space
events         in patches the rain of another day of the season stands in: events are missed, and others invented

Soil temperature gets a smooth normal error. How much of the map is replaced follows from the data: as much as brings
the correlation with the truth, pooled over cells and days, down to CORRELATION. On rain that varies within a cell's
width, displacement alone may bring it lower.

Sizes. Correlation: ECMWF's forecasts of daily rain in the TIGGE archive have 0.64 at rain gauges of Iran, mean over
stations (Amini et al., "global precipitation forecasts of the TIGGE archive over distinct climate and topographic
regions of Iran"), our day 1; that it falls to half by day 7 is our assumption. Displacement: rain systems of the Met
Office model over India lay 1° to 2° off on average (Ashrit et al. 2015, NCMRWF research report NMRF/RR/03/2015), our
100 km at day 1 to 300 km at day 7. The errors of amount and temperature are our assumptions. Real forecasts of rain
are better in winter than in summer (Lopez 2014, ECMWF Technical Memorandum, over the United States); these are not.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from utils.common.grid import Grid

KM = 111.2  # a degree of latitude
CORRELATION = ((1, 7), (0.65, 0.35))  # of daily rain with the truth: leads in days, and its values there
DISPLACEMENT = ((1, 7), (100.0, 300.0))  # km, root of the mean square distance
AMOUNT = ((1, 7), (0.4, 0.7))  # standard deviation of the factor's logarithm
TEMPERATURE = ((1, 7), (1.0, 2.5))  # standard deviation, K
LENGTH = 300.0  # km: standard deviation of the Gauss function that smooths the random fields
MEMORY = 0.5  # correlation of a forecast's random fields from one lead to the next
APART = 10  # days, at least, between a day and another that stands in for it


def at_lead(sizes: tuple[tuple[float, ...], tuple[float, ...]], leads: int) -> Float[np.ndarray, "lead"]:
    """A size at leads of 1, 2, … days; beyond the last one given, it stays what it is there."""
    return np.interp(np.arange(1, leads + 1), *sizes)


class Errors:
    """Draws errors for the forecasts of some leads on a grid."""

    def __init__(self, grid: Grid, leads: int):
        self.grid, self.leads = grid, leads
        north, east = (_spacing(axis) for axis in (grid.lat, grid.lon))
        middle = np.cos(np.deg2rad(np.clip(np.mean(grid.lat), -80, 80)))
        self.smooth = LENGTH / KM / north, LENGTH / KM / (east * middle)  # cells
        impulse = np.zeros(grid.shape)
        impulse[0, 0] = 1
        self.deviation = np.sqrt((gaussian_filter(impulse, self.smooth, mode="wrap") ** 2).sum())

    def rain(
        self,
        truth: Float[np.ndarray, "lead lat lon"],
        others: Float[np.ndarray, "lead lat lon"],
        share: Float[np.ndarray, "lead"],
        random: np.random.Generator,
    ) -> Float[np.ndarray, "lead lat lon"]:
        """A forecast of this rain; `others` is rain of other days, which stands in for a `share` of the map."""
        direction = random.normal(scale=np.sqrt(0.5), size=2)
        vectors = at_lead(DISPLACEMENT, self.leads)[:, None] * direction
        moved = np.stack([self.displace(map_, north, east) for map_, (north, east) in zip(truth, vectors, strict=True)])
        deviation = at_lead(AMOUNT, self.leads)[:, None, None]
        moved = moved * np.exp(deviation * self.fields(random) - deviation**2 / 2)  # its mean stays
        wrong = self.fields(random) < norm.ppf(share)[:, None, None]
        forecast = np.where(wrong, others, moved)
        return np.where(np.isfinite(forecast), forecast, truth)

    def temperature(
        self, truth: Float[np.ndarray, "lead lat lon"], random: np.random.Generator
    ) -> Float[np.ndarray, "lead lat lon"]:
        """A forecast of this temperature, K."""
        return truth + at_lead(TEMPERATURE, self.leads)[:, None, None] * self.fields(random)

    def fields(self, random: np.random.Generator) -> Float[np.ndarray, "lead lat lon"]:
        """Smooth random fields of mean 0 and variance 1, each alike to the one before it."""
        fields: list[np.ndarray] = []
        for _ in range(self.leads):
            field = gaussian_filter(random.normal(size=self.grid.shape), self.smooth, mode="wrap") / self.deviation
            if fields:
                field = MEMORY * fields[-1] + np.sqrt(1 - MEMORY**2) * field
            fields.append(field)
        return np.stack(fields)

    def displace(self, values: Float[np.ndarray, "lat lon"], north: float, east: float) -> Float[np.ndarray, "lat lon"]:
        """A map moved by these distances, km, to the nearest cell; from beyond its edge comes what is at the edge."""
        lat, lon = self.grid.lat, self.grid.lon
        rows = _nearest(lat, lat - north / KM)
        circles = np.cos(np.deg2rad(np.clip(lat, -80, 80)))[:, None]  # of latitude: degrees grow short to the poles
        return values[rows[:, None], _nearest(lon, lon - east / KM / circles)]


class Pairs:
    """Sums of forecast and truth by lead: their correlation and RMSE without all values in memory."""

    def __init__(self, leads: int):
        self.sums = np.zeros((leads, 6))  # n, x, y, xx, yy, xy

    def add(self, forecast: Float[np.ndarray, "lead lat lon"], truth: Float[np.ndarray, "lead lat lon"]) -> None:
        """Count the cells in which both are finite."""
        valid = np.isfinite(forecast) & np.isfinite(truth)
        x, y = (np.where(valid, values, 0).astype(np.float64) for values in (forecast, truth))
        self.sums += np.stack([part.sum(axis=(1, 2)) for part in (valid, x, y, x * x, y * y, x * y)], axis=1)

    def correlation(self) -> Float[np.ndarray, "lead"]:
        """NaN where either does not vary."""
        n, x, y, xx, yy, xy = self.sums.T
        with np.errstate(divide="ignore", invalid="ignore"):
            return (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))

    def rmse(self) -> Float[np.ndarray, "lead"]:
        """In the variable's unit; 0 where nothing was counted."""
        n, _, _, xx, yy, xy = self.sums.T
        return np.sqrt(np.maximum(xx + yy - 2 * xy, 0) / np.maximum(n, 1))


def replaced_share(moved: Pairs, others: Pairs) -> Float[np.ndarray, "lead"]:
    """How much of the map other days have to stand in for, that the correlation becomes CORRELATION.

    `moved`: the true rain with all other errors. The correlation goes from that of `moved` to that of `others` as the
    share grows from 0 to 1.
    """
    best, worst = (np.nan_to_num(pairs.correlation()) for pairs in (moved, others))
    wanted = at_lead(CORRELATION, len(best))
    return np.clip((best - wanted) / np.maximum(best - worst, 1e-6), 0, 1)


def another_day(day: int, count: int, random: np.random.Generator) -> int:
    """A position among `count` days, at least APART from this one where there are such."""
    others = np.flatnonzero(np.abs(np.arange(count) - day) >= APART)
    return int(random.choice(others)) if len(others) else int(random.integers(count))


def _spacing(axis: Float[np.ndarray, "n"]) -> float:
    """Degrees between cells, on average; 1 for an only cell."""
    return float(np.abs(np.diff(axis)).mean()) if len(axis) > 1 else 1.0


def _nearest(axis: Float[np.ndarray, "n"], wanted: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Positions of the cells nearest to these degrees; the axis may ascend or descend."""
    if len(axis) > 1 and axis[0] > axis[-1]:
        return len(axis) - 1 - _nearest(axis[::-1], wanted)
    return np.searchsorted((axis[1:] + axis[:-1]) / 2, wanted)
