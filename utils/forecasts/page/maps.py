"""The maps of the forecast page: one picture for each part of the forecast and lead, and where its cells lie in it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from utils.common.text import format_days
from utils.dataset.prepared import in_brackets, label_of
from utils.figures.map_panels import (
    SOUTH_CHINA_SEA,
    Panel,
    Region,
    draw_cells,
    edges_of,
    extend_of,
    find_region,
    label_degrees,
)
from utils.figures.style import STYLE, wrap
from utils.forecasts.figures import (
    ANOMALY,
    DRY,
    INTERVAL,
    LABELS,
    SOIL_MOISTURE,
    WET,
    choose_colours,
    parts_of,
    series_figure,
)

WIDTH = 4.6  # inches, of a picture that is about as wide as the screen of a phone
LEFT, RIGHT, ABOVE, BELOW = 0.42, 0.1, 0.42, 0.72  # inches around a map, for its title, labels and colour bar
DPI = 200  # a screen has 96: letters stay sharp when the picture is enlarged
FLATTEST, TALLEST = 0.4, 1.4  # height of a map over its width; a longer strip of cells is squeezed
NAMES = {  # of the parts, in titles and on buttons
    SOIL_MOISTURE: "Soil moisture",
    ANOMALY: "Difference from usual",
    DRY: "Chance of unusually dry soil",
    WET: "Chance of unusually wet soil",
    INTERVAL: "Width of the 90 % interval",
}
FONTS = {"font.size": 8, "axes.titlesize": 8}


@dataclass(frozen=True)
class Picture:
    """A PNG with the part of the forecast and the lead that it shows, and the text for who cannot see it."""

    part: str
    lead: int  # days
    png: bytes
    alt: str


@dataclass(frozen=True)
class Frame:
    """Size of the pictures, and where edges of cells lie in them; all in pixels."""

    width: int
    height: int
    x: list[float]  # of columns, from west to east
    y: list[float]  # of rows, from south to north


def draw_page_maps(forecast: xr.Dataset, lat: Sequence[float], lon: Sequence[float]) -> tuple[list[Picture], Frame]:
    """A map of each part of the forecast and lead, and the frame of all of them.

    `forecast` is north up; `lat` and `lon` are those of the cells that can be clicked, perhaps fewer.
    """
    parts = parts_of(forecast, wet=True)
    region = _find_whole_region(forecast)
    width, height = _map_size(region)
    with rc_context(STYLE | FONTS):
        figure = Figure(figsize=(WIDTH, ABOVE + height + BELOW))
        ax = _inches(figure, LEFT, BELOW, width, height)
        first = next(iter(parts.values())).values[0]
        mesh = draw_cells(ax, Panel("", first, {}), region)
        ax.set(xlim=region.extent[:2], ylim=region.extent[2:], aspect="auto")
        label_degrees(ax, region, width, height)
        pictures = []
        for part, values in parts.items():
            colours = choose_colours(part, values.values)
            mesh.set(**colours)
            bar = _inches(figure, LEFT, 0.3, width, 0.1)
            scale = figure.colorbar(
                mesh,
                cax=bar,
                orientation="horizontal",
                extend=extend_of(colours["norm"], values.values),
                label=LABELS[part],
            )
            scale.locator = MaxNLocator(6, steps=[1, 2, 4, 5, 10])
            for number, lead in enumerate(forecast["lead_time"].values.tolist()):
                title = _title(forecast, part, number)
                ax.set_title("\n".join(wrap(title, width, FONTS["axes.titlesize"])), linespacing=1.15, parse_math=False)
                mesh.set_array(values.values[number])
                pictures.append(Picture(part, lead, _as_png(figure), f"Map: {title}"))
            bar.remove()
    return pictures, _find_frame(figure, region, np.array(lat), np.array(lon))


def draw_page_series(forecast: xr.Dataset) -> Picture:
    """Of a few cells: the series of each, as forecast.png has them."""
    with rc_context(STYLE):
        png = _as_png(series_figure(forecast, forecast["observed"]))
    return Picture("series", 0, png, "Soil moisture of each cell: the last observations and the forecasts")


def _find_whole_region(forecast: xr.Dataset) -> Region:
    """The frame of all cells, each of them to be clicked: over China without an inset, so down to its southern sea."""
    values = forecast["soil_moisture"].values.astype(float)
    lat, lon = (forecast[name].values.astype(float) for name in ("lat", "lon"))
    region = find_region(lat, lon, list(values), np.isfinite(values))
    south = min(region.y[0], SOUTH_CHINA_SEA[2]) if region.china and region.inset else region.y[0]
    return replace(region, extent=(region.x[0], region.x[-1], south, region.y[-1]), inset=False)


def _map_size(region: Region) -> tuple[float, float]:
    """Width and height of the map, inches."""
    west, east, south, north = region.extent
    shape = np.clip(region.aspect * (north - south) / (east - west), FLATTEST, TALLEST)
    width = WIDTH - LEFT - RIGHT
    return width, float(width * shape)


def _title(forecast: xr.Dataset, part: str, number: int) -> str:
    """What a picture shows, of which day, from which day, and whether it is synthetic."""
    valid, lead = str(forecast["valid_time"].values[number])[:10], int(forecast["lead_time"].values[number])
    start = str(forecast["init_time"].values)[:10]
    kind = in_brackets(label_of(forecast.attrs))
    return f"{NAMES[part]} on {valid}, {format_days(lead)} after {start}{kind}"


def _inches(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place that is told in inches."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))


def _as_png(figure: Figure) -> bytes:
    """The figure with at most 256 colours, which halves its size."""
    drawn, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(256).save(reduced, format="png", optimize=True)
    return reduced.getvalue()


def _find_frame(figure: Figure, region: Region, lat: np.ndarray, lon: np.ndarray) -> Frame:
    """Where the edges of these cells lie, half-way between their centres."""
    west, east, south, north = region.extent
    whole_width, whole_height = figure.get_size_inches() * DPI
    width, height = (DPI * size for size in _map_size(region))
    x = DPI * LEFT + width * (np.clip(edges_of(lon), west, east) - west) / (east - west)
    y = whole_height - DPI * BELOW - height * (np.clip(edges_of(lat), south, north) - south) / (north - south)
    return Frame(round(whole_width), round(whole_height), x=np.round(x, 1).tolist(), y=np.round(y, 1).tolist())
