"""Sums over pairs of forecast and observation, which all metrics are functions of (see metrics).

A pair is a forecast and the observation of the same cell and day. The sums are taken once for a forecast, by cell and
by day and region. Those of the parts of a map can be joined, so that a map larger than memory is scored block by block.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int8, Real

from utils.common.cli import UserError
from utils.common.periods import YEAR

FORECASTS = ("predicted", "persistence", "climatology")  # what the sums need beside the observation
REGIONS = ("arid", "semi-arid", "humid")
ARID, HUMID = 200.0, 500.0  # mm a year: arid is below the one, humid above the other; usual thresholds for China


class Pairs(NamedTuple):
    """Forecasts and observations of a block, float64, m3 m-3; all are 0 where there is no valid observation."""

    valid: Bool[np.ndarray, "time lat lon"]
    observed: Float[np.ndarray, "time lat lon"]
    predicted: Float[np.ndarray, "time lat lon"]
    persistence: Float[np.ndarray, "time lat lon"]
    climatology: Float[np.ndarray, "time lat lon"]


MOMENTS: dict[str, Callable[[Pairs], np.ndarray]] = {  # what is summed; p: predicted, o: observed, c: climatology
    "n": lambda pairs: pairs.valid,
    "p": lambda pairs: pairs.predicted,
    "o": lambda pairs: pairs.observed,
    "pp": lambda pairs: pairs.predicted**2,
    "oo": lambda pairs: pairs.observed**2,
    "po": lambda pairs: pairs.predicted * pairs.observed,
    "error_2": lambda pairs: (pairs.predicted - pairs.observed) ** 2,
    "persistence_2": lambda pairs: (pairs.persistence - pairs.observed) ** 2,
    "climatology_2": lambda pairs: (pairs.climatology - pairs.observed) ** 2,
    "p-c": lambda pairs: pairs.predicted - pairs.climatology,
    "o-c": lambda pairs: pairs.observed - pairs.climatology,
    "(p-c)_2": lambda pairs: (pairs.predicted - pairs.climatology) ** 2,
    "(o-c)_2": lambda pairs: (pairs.observed - pairs.climatology) ** 2,
    "(p-c)(o-c)": lambda pairs: (pairs.predicted - pairs.climatology) * (pairs.observed - pairs.climatology),
}


@dataclass(frozen=True)
class Sums:
    """MOMENTS summed over all pairs of each cell, and of each day in each region.

    The last region holds the cells that lie in none of REGIONS.
    """

    cells: Float[np.ndarray, "lat lon moment"]
    days: Float[np.ndarray, "time region moment"]

    @classmethod
    def of(cls, fields: Mapping[str, np.ndarray], region: Real[np.ndarray, "lat lon"]) -> "Sums":
        """Sums from FORECASTS and `observed`, each [time, lat, lon] in m3 m-3.

        Raises ValueError where an observation has no forecast.
        """
        valid = np.isfinite(fields["observed"])
        for name in FORECASTS:
            if missing := int((valid & ~np.isfinite(fields[name])).sum()):
                raise ValueError(f"{name} is not finite in {missing} places where observed is.")
        values = {name: np.where(valid, fields[name], 0).astype(np.float64) for name in (*FORECASTS, "observed")}
        pairs = Pairs(valid, **values)
        inside = (region.ravel()[:, None] == [*range(len(REGIONS)), -1]).astype(np.float64)
        cells, days = [], []
        for moment in MOMENTS.values():
            values = moment(pairs).astype(np.float64)
            cells.append(values.sum(axis=0))
            days.append(values.reshape(len(values), -1) @ inside)
        return cls(cells=np.stack(cells, -1), days=np.stack(days, -1))

    @classmethod
    def joined(cls, parts: Iterable[tuple["Sums", tuple[slice, slice]]], shape: tuple[int, int]) -> "Sums":
        """Sums of a map of this shape from those of its parts and where they lie."""
        cells, days = np.zeros((*shape, len(MOMENTS))), 0
        for part, window in parts:
            cells[window] = part.cells
            days = days + part.days
        return cls(cells, days)

    def required(self) -> "Sums":
        """These sums; raises UserError when there is no pair."""
        if not self.days[..., 0].any():
            raise UserError("The test period has no valid soil moisture to score forecasts with.")
        return self

    def of_days(self, moment: str) -> Float[np.ndarray, "time"]:
        """One of MOMENTS, day by day."""
        return self.days[..., list(MOMENTS).index(moment)].sum(axis=1)


def sums_of(predictions: xr.Dataset) -> Sums:
    """Raises UserError when there is no pair, ValueError when an observation has no finite forecast."""
    fields = {name: predictions[name].transpose("time", "lat", "lon").values for name in (*FORECASTS, "observed")}
    return Sums.of(fields, predictions["region"].transpose("lat", "lon").values).required()


def region_of(mean_precipitation: Float[np.ndarray, "lat lon"]) -> Int8[np.ndarray, "lat lon"]:
    """Index into REGIONS from the training period's mean precipitation in mm day-1; -1 where that is NaN."""
    yearly = mean_precipitation * YEAR
    region = (yearly >= ARID).astype(np.int8) + (yearly > HUMID)
    return np.where(np.isnan(yearly), -1, region).astype(np.int8)
