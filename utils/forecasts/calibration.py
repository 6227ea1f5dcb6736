"""Calibrated intervals: how far a forecast may be off, learned from its errors on held-out days (cross_validation.py).

residual     Observation minus forecast, on days that were held out from each run. The forecast is the same weighted
             mean of the same runs. Their pre-training may have seen the same calendar days (`seen_share`).
scale        Residuals are divided by it before they are pooled. It is the cell's root-mean-square residual, shrunk to
             that of its region with the weight of FEW days, times a factor for the age of the last observation.
quantiles    Quantiles of the scaled residuals, by climate region and by season of the valid day. A season with fewer
             than FEWEST days takes those of its region; a region with fewer days takes those of all regions.
interval     Forecast + scale x quantile, at each of LEVELS. This is a split-conformal interval (Lei et al. 2018,
             doi:10.1080/01621459.2017.1307116) whose groups are regions and seasons.
outages      The same days are forecast a second time while soil moisture is hidden from the inputs for up to 35 days
             (cross_validation.py). The factors for old observations come from there. Each factor is also stretched as
             described below, on the days with its age alone.
stretch      Years differ, so that the quantiles of some blocks of days are too narrow for another block. Each of BLOCKS
             blocks is compared with the quantiles of the others. The 90 % interval is widened about the median until it
             covers 90 % of them, and never narrowed (as Romano et al. 2019 correct quantiles, arXiv:1905.03222).

A conformal interval keeps its coverage where later days resemble the held-out ones. Days of weather depend on each
other, so this holds for long periods only. The report says what was covered on the test days.
"""

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Float32, Int, Int8, Int16

from utils.common.cli import UserError, fold
from utils.common.periods import fills_a_year, season_of
from utils.dataset.prepared import VARIABLES
from utils.scores.metrics import SEASONS
from utils.scores.sums import REGIONS

LEVELS = np.round(np.arange(0.05, 0.951, 0.05), 2)
MEDIAN = len(LEVELS) // 2
BLOCKS = 4  # of held-out days, for the stretch
FEW = 20  # days: weight of the region's error in a cell's scale
FEWEST = 20  # held-out days that a region and season needs for quantiles of its own
AGES = (1, 2, 3, 5, 8, 12, 18, 26, 36)  # days: edges of the classes of the last observation's age; none: the last class
HISTORIES = (10, 20, 40, 80, 150, 200)  # days in a row before a forecast: edges of classes; from the last on: enough
FEWEST_OF_AGE = 1000  # residuals that a class of age needs for its own factor; else it takes the younger one
MOST = 2**26  # values of a variable to learn from, at most; a larger map is thinned to every so many days


@dataclass(frozen=True)
class OutOfSample:
    """Forecasts of days held out or of the test period, by one run or several together."""

    observed: Float32[np.ndarray, "time lat lon"]  # m3 m-3, NaN where not scored
    forecast: Float32[np.ndarray, "time lat lon"]
    age: Int16[np.ndarray, "time lat lon"]  # days from the last observation to the last input day, -1: none
    region: Int8[np.ndarray, "lat lon"]  # index of REGIONS, -1 outside
    days: np.ndarray  # valid days
    all_year: bool = False  # whether the days fill a year, with those that were left out because the map is large
    seen_share: float = 0.0  # of the days, those from which the pre-training of a run had learned

    @classmethod
    def read(cls, files: Sequence[Path], weights: Sequence[float], name: str = "predicted") -> "OutOfSample":
        """The weighted mean of the runs' forecasts on the days that all of them have; `name`: a baseline instead.

        Raises UserError where no day is common to all, or they are on different grids.
        """
        try:
            with contextlib.ExitStack() as stack:
                opened = [stack.enter_context(xr.open_dataset(file, mask_and_scale=False)) for file in files]
                return cls._combine(opened, files, weights, name)
        except (OSError, RuntimeError) as error:
            names = " or ".join(str(file) for file in files)
            raise UserError(
                f"{names} may be damaged; remove it, and it is made again ({fold(error)[:100]})."
            ) from error

    @classmethod
    def _combine(
        cls, opened: Sequence[xr.Dataset], files: Sequence[Path], weights: Sequence[float], name: str
    ) -> "OutOfSample":
        runs = ", ".join(str(file.parents[1]) for file in files)
        if len({ds["region"].shape for ds in opened}) > 1:
            raise UserError(f"The runs have different grids: {runs}.")
        common = functools.reduce(np.intersect1d, [ds["time"].values for ds in opened])
        if not len(common):
            raise UserError(f"The runs have no held-out day in common: {runs}.")
        first = opened[0]
        every = math.ceil(len(common) * first["region"].size / MOST)
        days = common[::every]
        mean = 0.0
        for ds, weight in zip(opened, weights, strict=True):
            mean = mean + np.float32(weight) * ds[name].sel(time=days).values
        return cls(
            observed=first["observed"].sel(time=days).values,
            forecast=mean,
            age=first["input_age"].sel(time=days).values,
            region=first["region"].values,
            days=days.astype("datetime64[D]"),
            all_year=fills_a_year(common.astype("datetime64[D]")),
            seen_share=_share_seen(opened, common),
        )

    def select(self, days: Int[np.ndarray, "day"]) -> "OutOfSample":
        """These days alone, by their position."""
        return OutOfSample(
            observed=self.observed[days],
            forecast=self.forecast[days],
            age=self.age[days],
            region=self.region,
            days=self.days[days],
        )


def _share_seen(opened: Sequence[xr.Dataset], days: np.ndarray) -> float:
    """The share of the days from which the pre-training of any of these runs had learned."""
    seen = np.zeros(len(days), bool)
    for ds in opened:
        if "seen_in_pretraining" in ds:  # not in the forecasts of a test period, which nobody has learned from
            seen |= ds["seen_in_pretraining"].sel(time=days).values > 0
    return float(seen.mean())


@dataclass(frozen=True)
class Calibration:
    """The scale and the quantiles of a forecast's errors."""

    scale: Float32[np.ndarray, "lat lon"]  # m3 m-3, of all ages together
    by_age: Float32[np.ndarray, "class"]  # factor of the scale
    table: Float32[np.ndarray, "region season level"]  # quantiles of scaled residuals
    region: Int8[np.ndarray, "lat lon"]  # index of REGIONS, -1 outside

    oldest: int = 0  # days: the greatest age that it was learned from
    by_history: Float32[np.ndarray, "history"] | None = None  # factor by the days in a row before a forecast

    @classmethod
    def of(cls, sample: OutOfSample, outages: OutOfSample | None = None) -> "Calibration":
        """Learn it, stretch included, from out-of-sample forecasts. Raises UserError where no day was observed.

        `outages` are forecasts of the same days while soil moisture was hidden from the inputs on some days.
        """
        if outages is not None:
            outages = replace(outages, observed=np.where(outages.age == sample.age, np.nan, outages.observed))
        calibration = cls._before_stretch(sample, outages)
        needed, needed_of_ages = _Needed([], []), _Needed([], [])
        every_day = np.arange(len(sample.days))
        for block in np.array_split(every_day, BLOCKS):
            others = np.setdiff1d(every_day, block)
            inside, outside = sample.select(block), sample.select(others)
            if not (np.isfinite(inside.observed).any() and np.isfinite(outside.observed).any()):
                continue
            judge = cls._before_stretch(outside, None if outages is None else outages.select(others))
            needed.add(judge, inside)
            if outages is not None:
                needed_of_ages.add(judge, inside)
                needed_of_ages.add(judge, outages.select(block))
        stretch = needed.stretch()
        median = calibration.table[..., [MEDIAN]]
        table = (median + stretch * (calibration.table - median)).astype(np.float32)
        return replace(calibration, table=table, by_age=calibration._stretch_ages(needed_of_ages, stretch))

    def for_short_records(self, sample: OutOfSample, history: Int[np.ndarray, "time"]) -> "Calibration":
        """The same, wider where few days in a row lie before a forecast: as much as 90 % of such a sample need.

        `history` counts these days up to the initial day of each of the sample's forecasts.
        """
        needed, kind = self.needed(sample), history_class(history)
        factors = np.ones(len(HISTORIES) + 1, np.float32)
        for number in range(len(HISTORIES)):
            values = needed[kind == number]
            values = values[np.isfinite(values)]
            if len(values) >= FEWEST_OF_AGE:
                factors[number] = np.quantile(values, LEVELS[-1] - LEVELS[0])
        return replace(self, by_history=np.maximum.accumulate(factors[::-1])[::-1].copy())

    def _stretch_ages(self, needed: "_Needed", stretch: float) -> Float32[np.ndarray, "class"]:
        """The factors of the ages that outages have, so that each holds its own share; beyond them, they go on."""
        factors = self.by_age.copy()
        known = [number for number in range(1, len(factors)) if needed.count(number) >= FEWEST_OF_AGE]
        for number in known:
            factors[number] *= needed.stretch(number) / stretch
        if known and known[-1] == len(factors) - 2:
            factors[-1] = factors[-2] * max(1.0, factors[-2] / factors[-3])
        return np.maximum.accumulate(factors)

    @classmethod
    def _before_stretch(cls, sample: OutOfSample, outages: OutOfSample | None = None) -> "Calibration":
        residual = sample.observed - sample.forecast
        valid = np.isfinite(residual) & (sample.region >= 0)
        if not valid.any():
            raise UserError("No day held out has an observation; the uncertainty of these runs cannot be told.")
        scale = _cell_scale(residual, valid, sample.region)
        scaled, age = residual / scale, sample.age
        kind, oldest = age_class(age), age[valid].max()
        values, kinds = scaled[valid], kind[valid]
        if outages is not None:
            more = (outages.observed - outages.forecast) / scale
            valid_more = np.isfinite(more) & (sample.region >= 0)
            values, kinds = np.append(values, more[valid_more]), np.append(kinds, age_class(outages.age[valid_more]))
            oldest = max(oldest, outages.age[valid_more].max(initial=0))
        by_age = _age_factors(values, kinds)
        table = _quantile_table(scaled / by_age[kind], valid, sample)
        return cls(scale=scale, by_age=by_age, table=table, region=sample.region, oldest=int(oldest))

    def needed(self, sample: OutOfSample) -> Float[np.ndarray, "time lat lon"]:
        """How far the outer quantiles must be stretched about the median to reach each observation; NaN without one."""
        scaled = (sample.observed - sample.forecast) / (self.scale * self.by_age[age_class(sample.age)])
        low, median, high = self._scaled_quantiles(sample.days, (0, MEDIAN, len(LEVELS) - 1))
        half_width = np.where(scaled > median, high - median, median - low)
        needed = np.abs(scaled - median) / np.maximum(half_width, 1e-6)
        return np.where(self.region >= 0, needed, np.nan)

    def _scaled_quantiles(self, days: np.ndarray, levels: Sequence[int]) -> Float32[np.ndarray, "level time lat lon"]:
        """The table at each cell's region and each day's season. Cells outside all regions take the last region's."""
        by_cell = self.table[self.region]  # [lat, lon, season, level]
        by_day = by_cell[:, :, season_of(days)]  # [lat, lon, time, level]
        return by_day[..., list(levels)].transpose(3, 2, 0, 1)

    def quantiles(
        self,
        forecast: Float[np.ndarray, "time lat lon"],
        age: Int16[np.ndarray, "time lat lon"],
        days: np.ndarray,
        levels: Sequence[int] = range(len(LEVELS)),
        history: Int[np.ndarray, "time"] | None = None,
    ) -> Float32[np.ndarray, "level time lat lon"]:
        """The forecast's quantiles, m3 m-3, within physical limits, at the LEVELS with these positions.

        `days` are the valid days; `age` is that of the last observation on the last input day, in days. `history` are
        the days in a row up to the last input day; None: enough.
        """
        spread = self.scale * self.by_age[age_class(age)]
        if history is not None and self.by_history is not None:
            spread = spread * self.by_history[history_class(history)][:, None, None]
        quantiles = forecast + spread * self._scaled_quantiles(days, levels)
        return np.clip(quantiles, *VARIABLES["soil_moisture"].limits).astype(np.float32)


@dataclass(frozen=True)
class _Needed:
    """How far quantiles must be stretched to reach each observation of held-out blocks of days, by class of age."""

    values: list[Float[np.ndarray, "observation"]]
    kinds: list[Int[np.ndarray, "observation"]]

    def add(self, judge: Calibration, sample: OutOfSample) -> None:
        needed = judge.needed(sample)
        valid = np.isfinite(needed)
        self.values.append(needed[valid])
        self.kinds.append(age_class(sample.age)[valid])

    def count(self, kind: int) -> int:
        return sum(int((kinds == kind).sum()) for kinds in self.kinds)

    def stretch(self, kind: int | None = None) -> float:
        """The stretch by which the 90 % intervals reach 90 % of all, or of a class of age; at least 1."""
        if not self.values:
            return 1.0
        chosen = [v if kind is None else v[k == kind] for v, k in zip(self.values, self.kinds, strict=True)]
        return max(1.0, float(np.quantile(np.concatenate(chosen), LEVELS[-1] - LEVELS[0])))


def _cell_scale(
    residual: Float[np.ndarray, "time lat lon"], valid: Bool[np.ndarray, "time lat lon"], region: np.ndarray
) -> Float32[np.ndarray, "lat lon"]:
    """Each cell's root-mean-square residual, m3 m-3, shrunk to its region's with the weight of FEW days."""
    squares = np.where(valid, residual, 0).astype(np.float64) ** 2
    total, count = squares.sum(axis=0), valid.sum(axis=0)
    prior = np.full(count.shape, total.sum() / count.sum())
    for number in range(len(REGIONS)):
        cells = region == number
        if count[cells].any():
            prior[cells] = total[cells].sum() / count[cells].sum()
    return np.sqrt((total + FEW * prior) / (count + FEW)).astype(np.float32)


def _age_factors(
    scaled: Float[np.ndarray, "residual"], kind: Int[np.ndarray, "residual"]
) -> Float32[np.ndarray, "class"]:
    """How much larger residuals are in each class of age; an older class has no smaller factor than a younger one."""
    factors = np.ones(len(AGES) + 1, np.float32)
    for number in range(len(factors)):
        values = scaled[kind == number]
        if len(values) >= FEWEST_OF_AGE:
            factors[number] = np.sqrt(np.mean(values**2))
        else:
            factors[number] = factors[max(number - 1, 0)]
    return np.maximum.accumulate(factors)


def _quantile_table(
    scaled: Float[np.ndarray, "time lat lon"], valid: Bool[np.ndarray, "time lat lon"], sample: OutOfSample
) -> Float32[np.ndarray, "region season level"]:
    """Quantiles of the scaled residuals; seasons and regions with too few days are pooled."""
    season = season_of(sample.days)
    table = np.empty((len(REGIONS), len(SEASONS), len(LEVELS)), np.float32)
    table[:] = np.quantile(scaled[valid], LEVELS)
    for region in range(len(REGIONS)):
        in_region = valid & (sample.region == region)
        if _count_days(in_region) >= FEWEST:
            table[region] = np.quantile(scaled[in_region], LEVELS)
        for number in range(len(SEASONS)):
            in_season = in_region & (season == number)[:, None, None]
            if _count_days(in_season) >= FEWEST:
                table[region, number] = np.quantile(scaled[in_season], LEVELS)
    return table


def combination_weights(files: Sequence[Path]) -> tuple[float, ...]:
    """The weight of each run in their mean: 1 / MSE on the held-out days that all of them have, over the sum of these.

    `files` are their out-of-sample predictions.nc (Bates and Granger 1969, doi:10.1057/jors.1969.103).
    """
    if len(files) == 1:
        return (1.0,)
    precision = []
    for number in range(len(files)):
        only_this = [float(other == number) for other in range(len(files))]
        sample = OutOfSample.read(files, only_this)
        mse = float(np.nanmean((sample.forecast - sample.observed).astype(np.float64) ** 2))
        precision.append(1 / max(mse, 1e-12))
    return tuple(value / sum(precision) for value in precision)


def age_class(age: Int16[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """The number of an age's class; no observation at all (-1) is the last class."""
    return np.where(age < 0, len(AGES), np.searchsorted(AGES, age, side="right"))


def history_class(days: Int[np.ndarray, "time"]) -> Int[np.ndarray, "time"]:
    """The number of the class of so many days in a row."""
    return np.searchsorted(HISTORIES, days, side="right")


def _count_days(valid: np.ndarray) -> int:
    return int(valid.any(axis=(1, 2)).sum())
