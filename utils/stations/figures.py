"""A map of stations, coloured by how well maps agree with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from utils.common.text import format_days
from utils.Drawmap import ERROR, SKILL, centred_colours, sequential_colours
from utils.figures.map_panels import Panel, Region, colour_bar, find_region, map_figure
from utils.figures.style import STYLE, UNITS, save
from utils.stations.scores import METRICS

COLUMNS = ("r", "anomaly_r", "ubrmsd")
POINT = {"s": 13, "edgecolors": "0.2", "linewidths": 0.3, "zorder": 4}
MARGIN, LEAST = 0.1, 4.0  # around the stations: a share of their extent, and degrees at least
MOST_ROWS = 3  # lead times: the first, the last and one between


def draw_stations(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw r, anomaly r and ubRMSD of each station, a row a lead time; PNG and PDF.

    `table`: rows of stations as `tabulate_sites` makes them, of one series: lat, lon, lead_days and the three scores.
    """
    save(_stations_figure(table, title), path, vector=True)


@rc_context(STYLE)
def _stations_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: the maps of each lead time (over all China each followed by its inset), two colour bars."""
    leads = sorted(set(table["lead_days"].tolist()))
    leads = [leads[number] for number in sorted({0, len(leads) // 2, len(leads) - 1})][:MOST_ROWS]
    correlations, errors = table[["r", "anomaly_r"]].to_numpy(), table["ubrmsd"].to_numpy()
    skill, error = centred_colours(correlations, SKILL, most=1), sequential_colours(errors, ERROR)
    colours = {"r": skill, "anomaly_r": skill, "ubrmsd": error}
    region, empty = _region_of(table)
    rows = []
    for lead in leads:
        rows.append([Panel(METRICS[name].label, empty, colours[name]) for name in COLUMNS])
        if lead:
            rows[-1][0] = replace(rows[-1][0], heading=f"{format_days(lead)} ahead")
    figure, panels = map_figure(region, rows, title, bottom=0.75)
    for lead, axes in zip(leads, panels, strict=True):
        stations = table[table["lead_days"] == lead]
        for ax, name in zip(axes, COLUMNS, strict=True):
            for part in (ax, *ax.child_axes):
                part.scatter(stations["lon"], stations["lat"], c=stations[name], **colours[name], **POINT)
    colour_bar(figure, panels[:, :2].flat, skill, correlations, "correlation (–)")
    colour_bar(figure, panels[:, 2], error, errors, f"ubRMSD ({UNITS})")
    return figure


def _region_of(table: pd.DataFrame) -> tuple[Region, np.ndarray]:
    """The frame around the stations, and a map of it [3, 3] without values: the points are drawn on it."""
    centres = []
    for name in ("lat", "lon"):
        low, high = table[name].min(), table[name].max()
        margin = max(MARGIN * (high - low), LEAST)
        centres.append(np.linspace(low - margin, high + margin, 7)[1::2])
    valued = np.ones((3, 3), bool)
    return find_region(*centres, maps=[valued.astype(float)], valued=valued), np.full((3, 3), np.nan)
