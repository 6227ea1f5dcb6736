"""The fields of a model run as UTC days: the total of its rain, and the mean of its soil moisture.

A run of 00 UTC has the days 1, 2, … after its start, each from one midnight to the next. Rain comes as amounts of
intervals that overlap in many ways: since the start (ECMWF), or in pieces of 3 and 6 hours, or both (GFS, GEFS).
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError
from utils.products.raw_files import cannot_be_read
from utils.products.regrid import Cells, Regridder, source_cells
from utils.products.weather import grib, netcdf
from utils.products.weather.fields import Field

HOURS = 24  # of a day
LONGEST_LEAD = 15  # days: the longest of ECMWF's open data
PACKING = 0.5  # mm: what the packing of two sums since the start may take from their difference
MANY = 0.01  # share of the cells with rain: where more of them lose some, it is no sum
SEA = 1e-3  # m3 m-3: soil moisture nearer to 0 is that of the sea, where a model does not leave it out

Interval = tuple[int, int]  # hours after the start of the run


@dataclass(frozen=True, eq=False)
class Run:
    """The fields of one model run."""

    start: np.datetime64  # 00 UTC, datetime64[D]
    rain: dict[Interval, Field]
    moisture: dict[int, Field]  # by the hour
    lead_days: int

    @classmethod
    def of(cls, start: np.datetime64, fields: Sequence[Field], lead_days: int) -> "Run":
        """Raises UserError where the rain of a day is not in the fields."""
        rain = {field.hours: field for field in fields if field.variable == "precipitation"}
        moisture = {field.hours[0]: field for field in fields if field.variable == "soil_moisture"}
        for day in range(1, lead_days + 1):
            if find_amounts(rain, HOURS * (day - 1), HOURS * day) is None:
                first, last = HOURS * (day - 1), HOURS * day
                ends = ", ".join(str(end) for end in sorted({end for _, end in rain})) or "none"
                raise UserError(
                    f"The run of {start} has no rain of its day {day}, hours {first} to {last}: its amounts end at the "
                    f"hours {ends}; fetch the missing step, give a smaller --lead-days, or leave the run out of --raw."
                )
        return cls(start, rain, moisture, lead_days)

    @property
    def has_moisture(self) -> bool:
        """Whether soil moisture is there at the beginning and at the end of each day."""
        return all(HOURS * day in self.moisture for day in range(self.lead_days + 1))

    @property
    def path(self) -> Path:
        """One of its files, for sentences about its values."""
        return next(iter(self.rain.values())).file.path

    def fingerprints(self) -> list[tuple]:
        """They change when its files do."""
        files = {field.file.path: field.file for field in (*self.rain.values(), *self.moisture.values())}
        return sorted(file.fingerprint() for file in files.values())

    def read(self, cells: Cells) -> dict[str, Float[np.ndarray, "lead lat lon"]]:
        """Rain, mm day-1, and soil moisture, m3 m-3, of the days on these cells; without moisture where a time lacks.

        Raises UserError where a file cannot be read, and for rain that is no sum.
        """
        days = {"precipitation": self._rain(cells)}
        if self.has_moisture:
            days["soil_moisture"] = self._moisture(cells)
        return days

    def _rain(self, cells: Cells) -> Float[np.ndarray, "lead lat lon"]:
        needed = [find_amounts(self.rain, HOURS * day, HOURS * (day + 1)) for day in range(self.lead_days)]
        amounts = {interval: read_field(self.rain[interval], cells) for signed in needed for interval, _ in signed}
        totals = np.stack([sum(sign * amounts[interval] for interval, sign in signed) for signed in needed])
        self._check_sums(cells, amounts)
        return np.maximum(totals, 0).astype(np.float32)

    def _check_sums(self, cells: Cells, amounts: dict[Interval, Float[np.ndarray, "lat lon"]]) -> None:
        """Raises UserError where sums since the start of the run get smaller; NetCDF calls any amount such a sum."""
        sums = [
            (end, amounts[start, end] if (start, end) in amounts else read_field(field, cells))
            for (start, end), field in sorted(self.rain.items())
            if start == 0 and ((start, end) in amounts or field.file.kind != "grib")
        ]
        for (_, earlier), (end, later) in pairwise(sums):
            falls = later - earlier < -PACKING
            if falls.sum() > MANY * (earlier > PACKING).sum():
                raise UserError(
                    f"The run of {self.start} loses rain up to hour {end} in {int(falls.sum())} cells, by up to "
                    f"{(earlier - later)[falls].max():.1f} mm: its values are no sums since the start of the run; in "
                    "place of NetCDF give GRIB, which says of which hours a value is."
                )

    def _moisture(self, cells: Cells) -> Float[np.ndarray, "lead lat lon"]:
        hours = [hour for hour in sorted(self.moisture) if hour <= HOURS * self.lead_days]
        values = {hour: read_field(self.moisture[hour], cells, sea=SEA) for hour in hours}
        means = []
        for day in range(self.lead_days):
            inside = [hour for hour in hours if HOURS * day <= hour <= HOURS * (day + 1)]
            means.append(np.trapezoid([values[hour] for hour in inside], inside, axis=0) / HOURS)
        return np.stack(means).astype(np.float32)


def find_amounts(intervals: Collection[Interval], start: int, end: int) -> list[tuple[Interval, int]] | None:
    """The fewest intervals whose amounts, added (1) or taken away (−1), give that from `start` to `end`.

    None where they do not. Sums since the start of the run give the second day as (0, 48) less (0, 24).
    """
    roads: dict[int, list[tuple[Interval, int]]] = {start: []}
    waiting = deque([start])
    while waiting:
        hour = waiting.popleft()
        for first, last in intervals:
            for here, there, sign in ((first, last, 1), (last, first, -1)):
                if here == hour and there not in roads:
                    roads[there] = [*roads[hour], ((first, last), sign)]
                    waiting.append(there)
    return roads.get(end)


def read_field(field: Field, cells: Cells, sea: float | None = None) -> Float[np.ndarray, "lat lon"]:
    """The values of a field on these cells, in mm or m3 m-3; those nearer to 0 than `sea` count as missing.

    Raises UserError where the file cannot be read or has other cells than these.
    """
    source, order = source_cells(field.place.lat, field.place.lon, around=float(cells.lon.mean()))
    rows, columns = source.overlapping(cells)
    if rows.start == rows.stop or columns.start == columns.stop:
        raise UserError(
            f"{field.file.name} covers latitude {field.place.lat.min():g} to {field.place.lat.max():g} and longitude "
            f"{field.place.lon.min():g} to {field.place.lon.max():g}; no cell of --like lies there."
        )
    try:
        values = (grib if field.file.kind == "grib" else netcdf).read(field)
    except OSError as error:
        raise cannot_be_read(field.file, error) from error
    values = field.conversion(values[rows][:, order[columns]])
    if sea is not None:
        values = np.where(np.abs(values) < sea, np.nan, values)
    return Regridder(source.window(rows, columns), cells)(values[None])[0]
