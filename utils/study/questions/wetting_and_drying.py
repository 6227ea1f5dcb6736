"""The question about events: how forecasts follow a wetting of the soil and the days of drying behind it.

An event is a day on which the observed soil moisture of a cell is at least RISE above the last observation, which is at
most OLDEST days old. No other such rise may lie in the BEFORE days before it or in the AFTER days behind it, so that
drying follows. RISE is the accuracy required of SMAP: a smaller rise may be noise.
"""

from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import style
from utils.figures.style import UNITS
from utils.scores.baselines import BASELINES
from utils.study.html_page import Figure, Section
from utils.study.questions.forecasts_shown import Forecast, forecasts_shown
from utils.study.results import Results

RISE = 0.04  # m3 m-3 (Entekhabi et al. 2010, doi:10.1109/JPROC.2010.2043918)
OLDEST = 3  # days
BEFORE, AFTER = 5, 10  # days
FEWEST = 20  # events that are observed on a day, with fewer there is no composite of it
_OBSERVED = {"color": "black", "linewidth": 1.4, "marker": ".", "markersize": 4}


def events(results: Results, figures: Path) -> Section | None:
    """Mean observed and forecast soil moisture around wettings, at each lead; None where there are few of them."""
    shown = forecasts_shown(results)
    table = pd.concat([_composite(results, shown, lead) for lead in results.leads], ignore_index=True)
    if table.empty:
        return None
    path = figures / "events.png"
    draw_events(table, shown, results.title("Mean soil moisture around a wetting, observed and forecast"), path)
    first = table[table["lead_days"] == table["lead_days"].min()]
    wet, dry = (first[first["day"] == day].set_index("forecast")["value"] for day in (0, AFTER))
    said = [
        f"{forecast.name}: {_difference(wet, forecast.name)} and {_difference(dry, forecast.name)}"
        for forecast in shown
        if forecast.name in wet
    ]
    ahead = format_days(int(first["lead_days"].iloc[0]))
    return Section(
        "How do forecasts follow a wetting and the days of drying?",
        f"An event is a rise of a cell's soil moisture by at least {RISE} m³ m⁻³, without another {BEFORE} days before "
        f"and {AFTER} days after it. {first['events'].iloc[0]:,} events are in the test period. Mean forecast less "
        f"observed (m³ m⁻³), {ahead} ahead, on the day of the wetting and {format_days(AFTER)} later:",
        [Figure(path, "Mean observed and forecast soil moisture around a wetting", "Day 0: the wetting.")],
        "Forecasts for the first days were made before the rain. A day on which fewer than "
        f"{FEWEST} events are observed is left out.",
        points=said,
    )


def _difference(values: pd.Series, name: str) -> str:
    difference = values[name] - values["observed"]
    return ("+" if difference > 0 else "") + format_number(difference, 3)


def _composite(results: Results, shown: Sequence[Forecast], lead: int) -> pd.DataFrame:
    """The means of one lead: lead_days, day (0: the wetting), forecast (observed too), value, events."""
    there = [one for one in shown if one.model in BASELINES or results.has(one.experiment, one.model, lead)]
    runs = {forecast.name: forecast.read(results, lead) for forecast in there}
    first = next(iter(runs.values()))
    time, observed = first["time"].values.astype("datetime64[D]"), _values(first["observed"])
    found = find_events(observed, time)
    if len(found) < FEWEST:
        return pd.DataFrame()
    fields = {"observed": observed} | {name: _values(run["predicted"]) for name, run in runs.items()}
    rows = []
    for name, values in fields.items():
        means = mean_around(values, observed, time, found, fewest=FEWEST)
        for day, mean in zip(range(-BEFORE, AFTER + 1), means, strict=True):
            rows.append({"lead_days": lead, "day": day, "forecast": name, "value": mean, "events": len(found)})
    return pd.DataFrame(rows)


def _values(field: xr.DataArray) -> np.ndarray:
    return field.transpose("time", "lat", "lon").values.astype(float)


def find_events(observed: Float[np.ndarray, "time lat lon"], time: np.ndarray) -> Int[np.ndarray, "event 3"]:
    """Positions (time, lat, lon) of the events, as the module says. `time` are the days; none lies near their ends."""
    rises = _find_rises(observed, time)
    day = (time - time[0]).astype(int)
    found = []
    for event in np.argwhere(rises):
        at, cell = event[0], tuple(event[1:])
        near = (day >= day[at] - BEFORE) & (day <= day[at] + AFTER)
        inside = day[at] - BEFORE >= 0 and day[at] + AFTER <= day[-1]
        if inside and rises[(near, *cell)].sum() == 1:
            found.append(event)
    return np.array(found, dtype=int).reshape(-1, 3)


def _find_rises(observed: Float[np.ndarray, "time lat lon"], time: np.ndarray) -> Bool[np.ndarray, "time lat lon"]:
    """Where soil moisture is RISE above the last observation, which is at most OLDEST days old."""
    last, age = np.full(observed.shape[1:], np.nan), np.full(observed.shape[1:], np.inf)
    rises = np.zeros(observed.shape, bool)
    for at in range(len(time)):
        age += 0 if at == 0 else (time[at] - time[at - 1]).astype(int)
        now = observed[at]
        rises[at] = (now - last >= RISE) & (age <= OLDEST)
        valid = np.isfinite(now)
        last[valid], age[valid] = now[valid], 0
    return rises


def mean_around(
    values: Float[np.ndarray, "time lat lon"],
    observed: Float[np.ndarray, "time lat lon"],
    time: np.ndarray,
    found: Int[np.ndarray, "event 3"],
    fewest: int = 1,
) -> Float[np.ndarray, "day"]:
    """The mean over events from BEFORE days before to AFTER days after, where `fewest` of them have an observation.

    Not every event has one on every day. So the mean is one of departures from the mean observation of the event's
    cell, to which the mean over all events of the latter is added: else a day without the dry cells would seem wet.
    """
    level = np.nanmean(observed[:, found[:, 1], found[:, 2]], axis=0)
    day = (time - time[0]).astype(int)
    position = np.full(day[-1] + 1, -1)
    position[day] = np.arange(len(day))
    means = []
    for shift in range(-BEFORE, AFTER + 1):
        at = position[day[found[:, 0]] + shift]
        there = at >= 0
        cells = (at[there], found[there, 1], found[there, 2])
        both = np.isfinite(observed[cells]) & np.isfinite(values[cells])
        departures = values[cells][both] - level[there][both]
        means.append(level.mean() + departures.mean() if both.sum() >= fewest else np.nan)
    return np.array(means)


def draw_events(table: pd.DataFrame, shown: Sequence[Forecast], title: str, path: Path) -> None:
    """Draw mean observed and forecast soil moisture around events, a panel a lead; PNG and PDF.

    `table`: lead_days, day (0: the wetting), forecast (a name of `shown`, or observed), value (m3 m-3), events (their
    number). Raises UserError when it is empty.
    """
    style.save(_events_figure(table, shown, title), path, vector=True)


@rc_context(style.STYLE)
def _events_figure(table: pd.DataFrame, shown: Sequence[Forecast], title: str) -> Plot:
    """Axes in order: one panel per lead."""
    if table.empty:
        raise UserError("Wetting and drying cannot be drawn: there are too few events.")
    leads = sorted(table["lead_days"].unique())
    looks = {"observed": _OBSERVED}
    looks |= {one.name: one.line | {"marker": one.marker, "markersize": 2.5} for one in shown}
    figure = style.new_figure(style.DOUBLE, 2.6, title)
    panels = figure.subplots(1, len(leads), sharex=True, sharey=True, squeeze=False)[0]
    for ax, lead, letter in zip(panels, leads, ascii_lowercase, strict=False):
        rows = table[table["lead_days"] == lead]
        ax.axvline(0, color="0.6", linewidth=0.6, zorder=1)
        for name, look in looks.items():
            part = rows[rows["forecast"] == name].sort_values("day")
            ax.plot(part["day"], part["value"], label=name, **look)
        ax.set(title=f"({letter}) {format_days(int(lead))} ahead, {rows['events'].iloc[0]:,} events")
        ax.set(xlabel="days from the wetting (d)", xticks=range(-BEFORE, AFTER + 1, 5))
        ax.grid(**style.GRID)
    panels[0].set_ylabel(f"mean soil moisture ({UNITS})")
    style.legend(figure, [Line2D([], [], label=name, **look) for name, look in looks.items()])
    return figure
