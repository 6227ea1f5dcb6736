"""Rain upwind of a cell: a mean over a box to the west, where the weather of the middle latitudes comes from.

The box begins NEAR km west of the cell's centre and ends FAR km west of it; it reaches HALF_HEIGHT km to the north and
to the south. Each scored cell counts by the share of it that lies in the box. So the mean says the same on any grid.

A fine grid has hundreds of cells between a cell and the end of its box, more than a block of a large map holds. Cells
finer than GROUP km are therefore summed in groups first. The groups of the whole map are few enough to be in memory.
"""

import functools

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from utils.common.grid import WHOLE, Grid, bounds
from utils.dataset.blocks import DataSet
from utils.dataset.record import Record, decayed_mean
from utils.dataset.statistics import Statistics

NEAR, FAR = 100.0, 640.0  # km west of the cell's centre
HALF_HEIGHT = 330.0  # km
GROUP = 100.0  # km: cells of half this width or less are grouped
USUAL_DAYS = 30  # e-folding time of the mean that stands where rain is missing
DEGREE = 111.195  # km, on a sphere with the Earth's mean radius
Maps = Float[np.ndarray, "time lat lon"]
Window = tuple[slice, slice]


class UpwindRain:
    """Sums of the rain of every day over groups of cells of a whole map."""

    def __init__(self, grid: Grid, days: int):
        self.lat, self.lon = grid.lat.astype(float), np.unwrap(grid.lon.astype(float), period=360)
        self.row_edges = _group_edges(bounds(self.lat, self.lon), DEGREE)
        self.column_edges = _group_edges(bounds(self.lon, self.lat), DEGREE * np.cos(np.deg2rad(self.lat.mean())))
        shape = (len(self.row_edges) - 1, len(self.column_edges) - 1)
        self.total: Float32[np.ndarray, "time row column"] = np.zeros((days, *shape), np.float32)
        self.count: Float32[np.ndarray, "row column"] = np.zeros(shape, np.float32)

    def add(self, rain: Maps, scored: Bool[np.ndarray, "lat lon"], window: Window = WHOLE) -> "UpwindRain":
        """Count the rain of some rows and columns; only scored cells count."""
        rows = _in_group(self.lat[window[0]], self.row_edges)
        columns = _in_group(self.lon[window[1]], self.column_edges)
        self.total += np.einsum("tij,ir,jc->trc", np.where(scored, rain, 0), rows, columns, optimize=True)
        self.count += rows.T @ scored @ columns
        return self

    def means(self, window: Window = WHOLE) -> Float32[np.ndarray, "time lat lon"]:
        """The mean rain upwind of the cells in these rows and columns; 0 where no cell of the box is scored."""
        lat, lon = self.lat[window[0]], self.lon[window[1]]
        means = np.empty((len(self.total), len(lat), len(lon)), np.float32)
        box_rows = _shares(self.row_edges, lat - HALF_HEIGHT / DEGREE, lat + HALF_HEIGHT / DEGREE)
        for number, (row, north_south) in enumerate(zip(lat, box_rows, strict=True)):
            degree = DEGREE * np.cos(np.deg2rad(row))  # km, from west to east
            west_east = _shares(self.column_edges, lon - FAR / degree, lon - NEAR / degree)
            total = np.tensordot(self.total, north_south, axes=(1, 0)) @ west_east.T
            count = (north_south @ self.count) @ west_east.T
            means[:, number] = np.where(count > 1e-6, total / np.maximum(count, 1e-6), 0)
        return means


def upwind_rain(rain: Maps, scored: Bool[np.ndarray, "lat lon"], grid: Grid) -> Float32[np.ndarray, "time lat lon"]:
    """The mean rain upwind of every cell of a whole map, in the unit of `rain`."""
    return UpwindRain(grid, len(rain)).add(rain, scored).means()


def root_rain(
    precipitation: Maps,
    missing: Bool[np.ndarray, "time lat lon"],
    previous: Int[np.ndarray, "time"],
    mean: Float[np.ndarray, "lat lon"],
) -> Maps:
    """The square root of precipitation, mm0.5 day-0.5, from mm day-1; `fill_rain` says what stands where it is missing.

    `mean` is that of the training period; its root stands where nothing is known before.
    """
    return fill_rain(np.sqrt(np.maximum(precipitation, 0)), missing, previous, usual=np.sqrt(mean))


def fill_rain(
    rain: Maps,
    missing: Bool[np.ndarray, "time lat lon"],
    previous: Int[np.ndarray, "time"],
    usual: Float[np.ndarray, "lat lon"],
) -> Maps:
    """Rain with its weighted mean of the days before, with the scale USUAL_DAYS, where it is missing.

    `previous` is the row of the day before each row. Before the first value it is `usual`.
    """
    if not missing.any():
        return rain
    mean = usual + decayed_mean(np.where(missing, np.nan, rain - usual), previous, USUAL_DAYS, prior=0)
    return np.where(missing, mean, rain).astype(np.float32)


@functools.lru_cache(maxsize=1)  # the parts of a map in blocks ask for the same one
def read_upwind_rain(data: DataSet, statistics: Statistics) -> UpwindRain:
    """The square root of the rain of a data set that is too large for memory, in one pass over it."""
    upwind = UpwindRain(data.grid, len(data.days))
    for block in data.blocks():
        record = Record(data.read(block.own), statistics.part(block.own))
        mean = record.statistics.cell_mean[record.statistics.number("precipitation")]
        rain = root_rain(record.physical("precipitation"), record.lacks_rain, record.previous, mean)
        upwind.add(rain, record.statistics.scored, block.own)
    return upwind


def _group_edges(edges: Float[np.ndarray, "edge"], degree: float) -> Float[np.ndarray, "group_edge"]:
    """The edges of groups of neighbouring cells, at most GROUP km wide; of a coarse grid, those of the cells."""
    width = degree * np.abs(np.diff(edges)).mean()
    return np.append(edges[:-1][:: max(1, int(GROUP / width))], edges[-1])


def _in_group(
    centres: Float[np.ndarray, "cell"], edges: Float[np.ndarray, "edge"]
) -> Float32[np.ndarray, "cell group"]:
    """1 where a cell lies in a group, else 0."""
    low, high = _ends(edges)
    return ((centres[:, None] > low) & (centres[:, None] < high)).astype(np.float32)


def _shares(
    edges: Float[np.ndarray, "edge"], start: Float[np.ndarray, "box"], end: Float[np.ndarray, "box"]
) -> Float32[np.ndarray, "box group"]:
    """The share of each group that lies between `start` and `end`."""
    low, high = _ends(edges)
    inside = np.minimum(high, end[:, None]) - np.maximum(low, start[:, None])
    return (np.maximum(inside, 0) / (high - low)).astype(np.float32)


def _ends(edges: Float[np.ndarray, "edge"]) -> tuple[Float[np.ndarray, "group"], Float[np.ndarray, "group"]]:
    """The lower and the upper end of each group, whether the axis ascends or descends."""
    return np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
