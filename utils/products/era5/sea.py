"""Which cells are sea where the files do not say so with missing values.

Old NetCDF and ERA5 single levels put one value near 0, of either sign, on the sea.
"""

import numpy as np
from jaxtyping import Bool, Float

from utils.dataset.prepared import PACKING_NOISE
from utils.products.era5.mosaic import Mosaic

PACKING_STEP = 2e-5  # m3 m-3: 16 bits over the range of soil moisture
SEA = 1e-3  # m3 m-3: soil moisture constant in time and closer to 0 than this throughout is sea


def sea_mask(mosaic: Mosaic) -> Bool[np.ndarray, "rows columns"] | None:
    """True on sea where the files do not say so with NaN; None where they do.

    Sea is where `lsm` is below 0.5 if files have it for the whole window. Otherwise it is where soil moisture lies
    between packing noise and 0.001 throughout all files and is constant in time: exactly within each file of packed
    integers, whose scale is its own, and to a packing step over all others.
    """
    masked = _masked_by_lsm(mosaic)
    files = [mosaic.only([i]) for i in mosaic.of("soil_moisture")]
    # the first hour of every file usually tells that there is no such sea, without reading the rest
    candidate, seen = np.ones(mosaic.cells.shape, bool), np.zeros(mosaic.cells.shape, bool)
    for file in files:
        first = file.read("soil_moisture", file.parts[0].stamps[:1])[0]
        if np.isfinite(first[masked]).any():
            return masked
        near_zero = _is_near_zero(first, first)
        seen |= near_zero
        candidate &= np.isnan(first) | near_zero
    if masked.any() or not (candidate & seen).any():
        return None
    return candidate & _constant_near_zero(files)


def _masked_by_lsm(mosaic: Mosaic) -> Bool[np.ndarray, "rows columns"]:
    """Where the land mask says sea; nowhere without one for the whole window."""
    land = mosaic.of("land")
    if not land or not mosaic.cover(land):
        return np.zeros(mosaic.cells.shape, bool)
    return ~(mosaic.read("land", mosaic.parts[land[0]].stamps[:1])[0] >= 0.5)


def _constant_near_zero(files: list[Mosaic]) -> Bool[np.ndarray, "rows columns"]:
    """Where soil moisture is near zero and constant in time, every hour of every file looked at."""
    shape = files[0].cells.shape
    constant = np.ones(shape, bool)
    lowest, highest = np.full(shape, np.inf), np.full(shape, -np.inf)  # of all files that are not packed
    for file in files:
        low, high = _extremes(file)
        constant &= _is_near_zero(low, high)
        if file.parts[0].packed:
            constant &= high <= low
        else:
            lowest, highest = np.minimum(lowest, low), np.maximum(highest, high)
    return constant & (highest - lowest <= PACKING_STEP)


def _is_near_zero(low: np.ndarray, high: np.ndarray) -> Bool[np.ndarray, "rows columns"]:
    return (low >= PACKING_NOISE) & (high < SEA)


def _extremes(file: Mosaic) -> tuple[Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows columns"]]:
    """Least and greatest soil moisture of every cell in one file; +inf and −inf where it is missing throughout."""
    low = np.full(file.cells.shape, np.inf, np.float32)
    high = np.full(file.cells.shape, -np.inf, np.float32)
    stamps = np.unique(file.parts[0].stamps)
    block = 24 * file.days_at_once("soil_moisture", 31)
    for tile in file.tiles("soil_moisture", min(block, len(stamps))):
        for first in range(0, len(stamps), block):
            hours = file.read("soil_moisture", stamps[first : first + block], tile)
            low[tile] = np.fmin(low[tile], np.fmin.reduce(hours))
            high[tile] = np.fmax(high[tile], np.fmax.reduce(hours))
    return low, high
