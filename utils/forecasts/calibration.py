"""How far a forecast may be off: intervals whose errors were seen on days held out (cross_validation.py).

residual     observation less forecast, of the same weighted mean of the same runs, on days none of them had learned
scale        what residuals are divided by before they are pooled: the cell's root-mean-square residual, drawn to its
             region's as by FEW days of it, times a factor for the age of the last observation
quantiles    of the scaled residuals, by climate region and by season of the valid day; with fewer than FEWEST days in
             that season, those of all seasons of the region, and else those of all regions
interval     forecast + scale x quantile, at each of LEVELS: in form a split-conformal interval (Lei et al. 2018,
             doi:10.1080/01621459.2017.1307116) whose groups are regions and seasons
stretch      of all quantiles about the median: years differ, and quantiles of some blocks of days are too narrow for
             another. Each of BLOCKS blocks is judged by the others, and the 90 % interval made as much wider as covers
             90 % of them, never narrower (quantiles are corrected as by Romano et al. 2019, arXiv:1905.03222)

A conformal interval promises its coverage where later days are like those held out. Weather is not drawn independently,
so the promise is about long runs of days; the report says what was covered on the test days.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float, Float32, Int, Int8, Int16

from utils.common.cli import UserError, fold
from utils.common.periods import fills_a_year, season_of
from utils.dataset.prepared import VARIABLES
from utils.scores.metrics import SEASONS
from utils.scores.sums import REGIONS

LEVELS = np.round(np.arange(0.05, 0.951, 0.05), 2)
MEDIAN = len(LEVELS) // 2
BLOCKS = 4  # of days held out
FEW = 20  # days of its region that count in a cell's scale
FEWEST = 20  # days held out in a region and season, below which seasons are pooled
AGES = (1, 2, 3, 5, 8, 15)  # days: edges of the classes of the last observation's age; none at all is the last class
FEWEST_OF_AGE = 1000  # residuals of an age class below which it is taken for the next younger one
MOST = 2**26  # values of a variable to learn from; of more, every so many days


@dataclass(frozen=True)
class OutOfSample:
    """Forecasts of days held out, or of test days, by one run or by several together."""

    observed: Float32[np.ndarray, "time lat lon"]  # m3 m-3, NaN where not scored
    forecast: Float32[np.ndarray, "time lat lon"]
    age: Int16[np.ndarray, "time lat lon"]  # days from the last observation to the last input day, -1: none
    region: Int8[np.ndarray, "lat lon"]  # index of REGIONS, -1 outside
    days: np.ndarray  # valid days
    all_year: bool = False  # whether the days, those left out of a large map too, leave out no part of the year

    @classmethod
    def read(cls, files: Sequence[Path], weights: Sequence[float], name: str = "predicted") -> "OutOfSample":
        """The weighted mean of the runs' forecasts on the days that all of them have; `name`: a baseline instead.

        Raises UserError where no day is common to all, or they are on different grids.
        """
        opened = []
        try:
            opened += [xr.open_dataset(file, mask_and_scale=False) for file in files]
            days = [ds["time"].values for ds in opened]
            common = np.array(sorted(set.intersection(*(set(one) for one in days))))
            shapes = {ds["region"].shape for ds in opened}
            if not len(common) or len(shapes) > 1:
                found = "no held-out day in common" if len(shapes) == 1 else "different grids"
                raise UserError(f"The runs have {found}: {', '.join(str(file.parents[1]) for file in files)}.")
            whole = common.astype("datetime64[D]")
            common = common[:: math.ceil(len(common) * math.prod(*shapes) / MOST)]
            mean = 0.0
            for ds, weight in zip(opened, weights, strict=True):
                mean = mean + np.float32(weight) * ds[name].sel(time=common).values
            first = opened[0].sel(time=common)
            observed, age, region = (first[part].values for part in ("observed", "input_age", "region"))
            return cls(observed, mean, age, region, common.astype("datetime64[D]"), fills_a_year(whole))
        except (OSError, RuntimeError) as error:
            names = " or ".join(str(file) for file in files)
            raise UserError(
                f"{names} may be damaged; remove it, and it is made again ({fold(error)[:100]})."
            ) from error
        finally:
            for ds in opened:
                ds.close()

    def on(self, days: Int[np.ndarray, "day"]) -> "OutOfSample":
        """Of these days alone, by number."""
        parts = (part[days] for part in (self.observed, self.forecast, self.age))
        return OutOfSample(*parts, self.region, self.days[days])


@dataclass(frozen=True)
class Calibration:
    """What intervals are made of."""

    scale: Float32[np.ndarray, "lat lon"]  # m3 m-3, of all ages together
    by_age: Float32[np.ndarray, "class"]  # factor of the scale
    table: Float32[np.ndarray, "region season level"]  # quantiles of scaled residuals
    region: Int8[np.ndarray, "lat lon"]

    @classmethod
    def of(cls, held: OutOfSample) -> "Calibration":
        """Raises UserError where no day held out was observed."""
        found, needed = cls._of(held), []
        for block in np.array_split(np.arange(len(held.days)), BLOCKS):
            here, rest = held.on(block), held.on(np.setdiff1d(np.arange(len(held.days)), block))
            if np.isfinite(here.observed).any() and np.isfinite(rest.observed).any():
                needed.append(cls._of(rest)._needed(here))
        stretch = max(1.0, float(np.quantile(np.concatenate(needed), LEVELS[-1] - LEVELS[0]))) if needed else 1.0
        middle = found.table[..., [MEDIAN]]
        return replace(found, table=(middle + stretch * (found.table - middle)).astype(np.float32))

    @classmethod
    def _of(cls, held: OutOfSample) -> "Calibration":
        """Before it is stretched."""
        residual = held.observed - held.forecast
        valid = np.isfinite(residual) & (held.region >= 0)
        if not valid.any():
            raise UserError("No day held out has an observation; the uncertainty of these runs cannot be told.")
        squares = np.where(valid, residual, 0).astype(np.float64) ** 2
        total, count = squares.sum(axis=0), valid.sum(axis=0)
        usual = np.full(count.shape, total.sum() / count.sum())
        for number in range(len(REGIONS)):
            here = held.region == number
            if count[here].any():
                usual[here] = total[here].sum() / count[here].sum()
        scale = np.sqrt((total + FEW * usual) / (count + FEW)).astype(np.float32)
        kind, scaled = age_class(held.age), residual / scale
        by_age = np.ones(len(AGES) + 1, np.float32)
        for number in range(len(by_age)):
            values = scaled[valid & (kind == number)]
            known = len(values) >= FEWEST_OF_AGE
            by_age[number] = np.sqrt(np.mean(values**2)) if known else by_age[max(number - 1, 0)]
        by_age = np.maximum.accumulate(by_age)
        scaled /= by_age[kind]
        season, groups = season_of(held.days), [valid & (held.region == r) for r in range(len(REGIONS))]
        whole = np.quantile(scaled[valid], LEVELS)
        table = np.empty((len(REGIONS), len(SEASONS), len(LEVELS)), np.float32)
        for number, group in enumerate(groups):
            table[number] = np.quantile(scaled[group], LEVELS) if _days(group) >= FEWEST else whole
            for s in range(len(SEASONS)):
                part = group & (season == s)[:, None, None]
                if _days(part) >= FEWEST:
                    table[number, s] = np.quantile(scaled[part], LEVELS)
        return cls(scale, by_age, table, held.region)

    def _needed(self, held: OutOfSample) -> Float[np.ndarray, "observation"]:
        """How far the outer quantiles must be stretched about the median to reach each observation."""
        scaled = (held.observed - held.forecast) / (self.scale * self.by_age[age_class(held.age)])
        table = np.moveaxis(self.table[self.region][:, :, season_of(held.days)], 2, 0)
        low, middle, high = (table[..., number] for number in (0, MEDIAN, -1))
        valid = np.isfinite(scaled) & (self.region >= 0)
        reach = np.where(scaled > middle, high - middle, middle - low)
        return (np.abs(scaled - middle) / np.maximum(reach, 1e-6))[valid]

    def quantiles(
        self,
        forecast: Float[np.ndarray, "time lat lon"],
        age: Int16[np.ndarray, "time lat lon"],
        days: np.ndarray,
        levels: Sequence[int] = range(len(LEVELS)),
    ) -> Float32[np.ndarray, "level time lat lon"]:
        """The forecast's quantiles, m3 m-3, at the LEVELS with these numbers, within physical limits. `days` are the
        valid days; the age is of the last observation on the last input day."""
        spread = self.scale * self.by_age[age_class(age)]
        table = np.moveaxis(self.table[self.region][:, :, season_of(days)][:, :, :, list(levels)], (2, 3), (1, 0))
        return np.clip(forecast + spread * table, *VARIABLES["soil_moisture"].limits).astype(np.float32)


def weights_of(files: Sequence[Path]) -> tuple[float, ...]:
    """1 / MSE of each run's forecasts of the days held out that all of them have, as shares of their sum."""
    if len(files) == 1:
        return (1.0,)
    quality = []
    for number in range(len(files)):
        held = OutOfSample.read(files, [float(other == number) for other in range(len(files))])
        quality.append(1 / max(float(np.nanmean((held.forecast - held.observed).astype(np.float64) ** 2)), 1e-12))
    return tuple(one / sum(quality) for one in quality)


def age_class(age: Int16[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Number of the class of an age in days; none at all (-1) is the last."""
    return np.where(age < 0, len(AGES), np.searchsorted(AGES, age, side="right"))


def _days(valid: np.ndarray) -> int:
    return int(valid.any(axis=(1, 2)).sum())
