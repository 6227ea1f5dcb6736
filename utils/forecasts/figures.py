"""Pictures of a forecast: a panel for a bulletin, and its leads one after the other as a moving picture."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.colors import Normalize
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.common.text import format_days
from utils.dataset.prepared import in_brackets, label_of
from utils.Drawmap import DIFFERENCE, MOISTURE, centred_colours, sequential_colours
from utils.figures.map_panels import MINUS, Panel, ascending, colour_bar, find_region, key, map_figure
from utils.figures.series import has_few_cells, place_of
from utils.figures.style import DOUBLE, FORECASTS, STYLE, TALLEST, UNITS, legend, new_figure, save

WIDTH = "PuRd"  # of the interval
CHANCE = "YlOrBr"
WET_CHANCE = "PuBu"
SOIL_MOISTURE, ANOMALY, DRY, INTERVAL = "soil moisture", "anomaly", "unusually dry", "90 % interval"
WET = "unusually wet"
LABELS = {  # of the colour bars
    SOIL_MOISTURE: f"soil moisture ({UNITS})",
    ANOMALY: f"difference from usual ({UNITS})",
    DRY: "chance of unusually dry (%)",
    WET: "chance of unusually wet (%)",
    INTERVAL: f"width ({UNITS})",
}
OBSERVED = {"marker": "o", "linestyle": "none", "color": "0.2", "markersize": 1.5}
POINT = {"marker": "o", "linestyle": "none", "color": FORECASTS[0], "markersize": 3.5}
SECOND = 1200  # milliseconds a lead is shown
DPI = 150  # of the moving picture


def draw_forecast(forecast: xr.Dataset, path: Path, recent: xr.DataArray | None = None) -> None:
    """Draw soil moisture, its anomaly, the chance of unusually dry soil and the 90 % interval's width; PNG and PDF.

    A row a lead. `forecast`: of one init, as forecast.py writes it. A minus sign marks cells drier than usual by more
    than a quarter of the anomaly's limit. Of a few cells, each has a panel instead, with the soil moisture of the days
    before, `recent` [time, lat, lon], and the forecast's 90 % interval. Raises UserError when no cell has a forecast.
    """
    if has_few_cells(forecast):
        save(series_figure(forecast, recent), path, vector=True)
    else:
        save(_figure(forecast, forecast), path, vector=True)


def draw_sequence(forecast: xr.Dataset, path: Path) -> None:
    """The same, one lead after the other in the same colours, as an animated GIF."""
    frames = []
    few = has_few_cells(forecast)
    for number in range(forecast.sizes["lead_time"]):
        picture = io.BytesIO()
        if few:
            figure = series_figure(forecast.isel(lead_time=slice(number + 1)), None)
        else:
            figure = _figure(forecast.isel(lead_time=[number]), forecast)
        figure.savefig(picture, format="png", dpi=DPI)
        frames.append(Image.open(picture).convert("P", palette=Image.Palette.ADAPTIVE))
    with whole_file(path) as partial:
        frames[0].save(partial, format="GIF", save_all=True, append_images=frames[1:], duration=SECOND, loop=0)


@rc_context(STYLE)
def _figure(shown: xr.Dataset, same_colours_as: xr.Dataset) -> Figure:
    """Axes in order: the maps of each lead (over all China each followed by its inset), then the colour bars."""
    count, parts = shown.sizes["lead_time"], parts_of(shown)
    lat, lon, maps = ascending(part.isel(lead_time=i) for part in parts.values() for i in range(count))
    values = dict(zip(parts, np.array(maps).reshape(len(parts), count, *maps[0].shape), strict=True))
    if not np.isfinite(values[SOIL_MOISTURE]).any():
        raise UserError("No map can be drawn: no cell has a forecast.")
    colours = {name: choose_colours(name, part.values) for name, part in parts_of(same_colours_as).items()}
    rows = []
    for i, lead in enumerate(shown["lead_time"].values):
        valid = str(shown["valid_time"].values[i])[:10]
        heading = f"{format_days(int(lead))} ahead: {valid}"
        dry = values[ANOMALY][i] < colours[ANOMALY]["norm"].vmin / 4
        row = [Panel(name, maps[i], colours[name], name == ANOMALY and dry) for name, maps in values.items()]
        rows.append([replace(row[0], heading=heading), *row[1:]])
    start = str(shown["init_time"].values)[:10]
    kind = in_brackets(label_of(shown.attrs))
    region = find_region(lat, lon, maps, np.isfinite(values[SOIL_MOISTURE]))
    figure, columns = map_figure(region, rows, f"Forecast of soil moisture from {start}{kind}", bottom=0.98)
    for column, name in zip(columns.T, values, strict=True):
        colour_bar(figure, column, colours[name], values[name], LABELS[name])
    key(figure, {"drier than usual by over ¼ of the scale": MINUS})
    return figure


@rc_context(STYLE)
def series_figure(forecast: xr.Dataset, recent: xr.DataArray | None) -> Figure:
    """Axes in order: one panel per cell with a forecast."""
    cells = [(row, column) for row, column in np.ndindex(forecast.sizes["lat"], forecast.sizes["lon"])]
    cells = [cell for cell in cells if np.isfinite(forecast["soil_moisture"].values[:, *cell]).any()]
    if not cells:
        raise UserError("No map can be drawn: no cell has a forecast.")
    start, kind = str(forecast["init_time"].values)[:10], in_brackets(label_of(forecast.attrs))
    height = min(1.6, (TALLEST - 1.0) / len(cells))
    figure = new_figure(DOUBLE, 0.5 + height * len(cells), f"Forecast of soil moisture from {start}{kind}")
    panels = figure.subplots(len(cells), 1, sharex=True, squeeze=False)[:, 0]
    valid, quantiles = forecast["valid_time"].values, forecast["soil_moisture_quantile"]
    for ax, (row, column) in zip(panels, cells, strict=True):
        mean = forecast["soil_moisture"].values[:, row, column]
        low, high = (quantiles.isel(quantile=end).values[:, row, column] for end in (0, -1))
        if recent is not None:
            ax.plot(recent["time"], recent.values[:, row, column], **OBSERVED)
        ax.plot(valid, mean, **POINT)
        ax.vlines(valid, low, high, color=POINT["color"], linewidth=1)
        ax.set_title(place_of(forecast.isel(lat=row, lon=column)))
        ax.set_ylabel(f"soil moisture\n({UNITS})")
    locator = AutoDateLocator(minticks=4)
    panels[-1].xaxis.set_major_locator(locator)
    panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
    keys = [Line2D([], [], label="observed", **OBSERVED)] if recent is not None else []
    legend(figure, [*keys, Line2D([], [], label="forecast and its 90 % interval", **POINT)])
    return figure


def choose_colours(name: str, values: np.ndarray) -> dict[str, Any]:
    """The colours of a part of the forecast."""
    if name in (DRY, WET):
        return {"norm": Normalize(0, 100), "cmap": CHANCE if name == DRY else WET_CHANCE}
    if name == ANOMALY:
        return centred_colours(values, DIFFERENCE)
    return sequential_colours(values, MOISTURE if name == SOIL_MOISTURE else WIDTH)


def parts_of(forecast: xr.Dataset, wet: bool = False) -> dict[str, xr.DataArray]:
    """What the maps of a forecast show; without the chances where the runs learned from too few years."""
    quantiles = forecast["soil_moisture_quantile"]
    parts = {SOIL_MOISTURE: forecast["soil_moisture"], ANOMALY: forecast["anomaly"]}
    if np.isfinite(forecast["probability_below_p10"]).any():
        parts[DRY] = 100 * forecast["probability_below_p10"]
        if wet:
            parts[WET] = 100 * forecast["probability_above_p90"]
    return parts | {INTERVAL: quantiles.isel(quantile=-1, drop=True) - quantiles.isel(quantile=0, drop=True)}
