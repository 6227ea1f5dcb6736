"""Pictures of a forecast: a panel for a bulletin, and its leads one after the other as a moving picture."""

import io
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.common.text import format_days
from utils.dataset.prepared import in_brackets, label_of
from utils.Drawmap import DIFFERENCE, MOISTURE, centred_colours, sequential_colours
from utils.figures.map_panels import MINUS, Panel, ascending, colour_bar, find_region, key, map_figure
from utils.figures.style import STYLE, UNITS, save

WIDTH = "PuRd"  # of the interval
SECOND = 1200  # milliseconds a lead is shown
DPI = 150  # of the moving picture


def draw_forecast(forecast: xr.Dataset, path: Path) -> None:
    """Draw soil moisture, its anomaly and the width of its 90 % interval, a row a lead; PNG and PDF.

    `forecast`: of one init, as forecast.py writes it. A minus sign marks cells drier than usual by more than a quarter
    of the anomaly's limit. Raises UserError when no cell has a forecast.
    """
    save(_figure(forecast, forecast), path, vector=True)


def draw_sequence(forecast: xr.Dataset, path: Path) -> None:
    """The same, one lead after the other in the same colours, as an animated GIF."""
    frames = []
    for number in range(forecast.sizes["lead_time"]):
        picture = io.BytesIO()
        _figure(forecast.isel(lead_time=[number]), forecast).savefig(picture, format="png", dpi=DPI)
        frames.append(Image.open(picture).convert("P", palette=Image.Palette.ADAPTIVE))
    with whole_file(path) as partial:
        frames[0].save(partial, format="GIF", save_all=True, append_images=frames[1:], duration=SECOND, loop=0)


@rc_context(STYLE)
def _figure(shown: xr.Dataset, colours_of: xr.Dataset) -> Figure:
    """Axes in order: the maps of each lead (over all China each followed by its inset), the three colour bars."""
    count = shown.sizes["lead_time"]
    lat, lon, maps = ascending(part.isel(lead_time=i) for part in _parts(shown) for i in range(count))
    moisture, anomaly, width = np.array(maps).reshape(3, count, *maps[0].shape)
    if not np.isfinite(moisture).any():
        raise UserError("No map can be drawn: no cell has a forecast.")
    everything = [part.values for part in _parts(colours_of)]
    colours = (
        sequential_colours(everything[0], MOISTURE),
        centred_colours(everything[1], DIFFERENCE),
        sequential_colours(everything[2], WIDTH),
    )
    rows = []
    for i, lead in enumerate(shown["lead_time"].values):
        valid = str(shown["valid_time"].values[i])[:10]
        label = f"{format_days(int(lead))} ahead: {valid}"
        dry = anomaly[i] < colours[1]["norm"].vmin / 4
        panels = (
            ("soil moisture", moisture[i], False),
            ("anomaly", anomaly[i], dry),
            ("90 % interval", width[i], False),
        )
        rows.append(
            [
                Panel(name, values, colour, marks, heading=label if not j else "")
                for j, ((name, values, marks), colour) in enumerate(zip(panels, colours, strict=True))
            ]
        )
    start = str(shown["init_time"].values)[:10]
    kind = in_brackets(label_of(shown.attrs))
    region = find_region(lat, lon, maps, np.isfinite(moisture))
    figure, columns = map_figure(region, rows, f"Forecast of soil moisture from {start}{kind}", bottom=0.98)
    labels = (f"soil moisture ({UNITS})", f"difference from usual ({UNITS})", f"width ({UNITS})")
    for column, colour, values, label in zip(columns.T, colours, (moisture, anomaly, width), labels, strict=True):
        colour_bar(figure, column, colour, values, label)
    key(figure, {"drier than usual by over ¼ of the scale": MINUS})
    return figure


def _parts(forecast: xr.Dataset) -> tuple[xr.DataArray, ...]:
    quantiles = forecast["soil_moisture_quantile"]
    width = quantiles.isel(quantile=-1, drop=True) - quantiles.isel(quantile=0, drop=True)
    return forecast["soil_moisture"], forecast["anomaly"], width
