"""What is asked of the Climate Data Store: a request a month, and smaller ones where it refuses the size."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from utils.products.download import months
from utils.products.era5.part import RAW

VARIABLES = ("precipitation", "soil_moisture", "soil_temperature")


@dataclass(frozen=True)
class Piece:
    """One request: the hours of a month, or the single hour that closes the last day."""

    name: str
    request: dict[str, Any]
    hours: np.ndarray  # datetime64[m] that must arrive

    def smaller(self) -> list["Piece"]:
        """The same in smaller requests: half the days, then GRIB, then a variable at a time, then fewer days.

        Empty where nothing smaller can be asked for.
        """
        days, variables = self.request["day"], self.request["variable"]
        if len(days) > 16:
            return self._halves()
        if self.request["data_format"] == "netcdf":
            return [self._with("grib", self.hours, data_format="grib")]
        if len(variables) > 1:
            return [self._with(RAW[key].short, self.hours, variable=[RAW[key].names[1]]) for key in self.variables]
        return self._halves() if len(days) > 1 else []

    @property
    def variables(self) -> list[str]:
        """The variables that must arrive, by our names."""
        return [key for key in VARIABLES if RAW[key].names[1] in self.request["variable"]]

    def _halves(self) -> list["Piece"]:
        days = self.request["day"]
        half = len(days) // 2
        stamps = self.hours.reshape(len(days), -1)
        return [
            self._with(f"{own[0]}-{own[-1]}", stamps[at].reshape(-1), day=own)
            for own, at in ((days[:half], slice(half)), (days[half:], slice(half, None)))
        ]

    def _with(self, suffix: str, hours: np.ndarray, **changes: Any) -> "Piece":
        return Piece(f"{self.name}_{suffix}", self.request | changes, hours)


def pieces(product: str, start: date, end: date, box: tuple[float, float, float, float]) -> list[Piece]:
    """Every month's request, and 00 UTC of the day after `end`, which the last day's precipitation needs.

    `box`: south, north, west, east, in degrees.
    """
    prefix = product.replace("-", "_")
    requests = []
    for first, last in months(start, end):
        whole = first.day == 1 and (last + timedelta(days=1)).day == 1
        name = f"{prefix}_{first:%Y-%m}" + ("" if whole else f"_{first:%d}-{last:%d}")
        requests.append(_piece(name, product, first, last, range(24), box))
    closing = end + timedelta(days=1)
    name = f"{prefix}_{closing:%Y-%m}-{closing:%d}T00"
    return [*requests, _piece(name, product, closing, closing, range(1), box)]


def _piece(
    name: str, product: str, first: date, last: date, hours: range, box: tuple[float, float, float, float]
) -> Piece:
    days = [first + timedelta(days=k) for k in range((last - first).days + 1)]
    south, north, west, east = box
    request = {
        "variable": [RAW[variable].names[1] for variable in VARIABLES],
        "year": [f"{first:%Y}"],
        "month": [f"{first:%m}"],
        "day": [f"{day:%d}" for day in days],
        "time": [f"{hour:02d}:00" for hour in hours],
        "area": [north, west, south, east],
        "data_format": "netcdf",
        "download_format": "unarchived",
    }
    if product == "era5":
        request["product_type"] = ["reanalysis"]
    stamps = np.array([f"{day}T{hour:02d}:00" for day in days for hour in hours], "datetime64[m]")
    return Piece(name, request, stamps)
