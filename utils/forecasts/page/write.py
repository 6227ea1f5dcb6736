"""The forecast page: one HTML file for a bulletin, which loads nothing and can be read without JavaScript.

Its text stands in page.html.j2, its style in page.css and its script in page.js, beside this module.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from utils.common.files import whole_file
from utils.common.html import BASE_STYLE, data_url, security_policy, template_environment
from utils.common.text import format_days
from utils.dataset.prepared import SYNTHETIC, label_of
from utils.figures.series import has_few_cells, place_of
from utils.forecasts.page.cells import embed_cells, read_last_days, turn_north_up
from utils.forecasts.page.maps import NAMES, Frame, Picture, draw_page_maps, draw_page_series
from utils.forecasts.page.past_scores import PastScores

HERE = Path(__file__).parent
RECENT = 30  # days before the forecast whose observations the page has
SYNTHETIC_NOTICE = "SYNTHETIC data: this forecast is of a made-up world and says nothing about real soil."
ORIGIN = {  # attribute of the file: how the page calls it
    "source": "runs",
    "data": "data set",
    "data_sha256": "its fingerprint (SHA-256)",
    "label": "data",
    "future_weather": "weather ahead",
    "calibration": "intervals were calibrated",
    "short_record": "record",
    "commit": "version of the code",
    "history": "written",
}
NOT_SHOWN = ("Conventions", "title", "request", "synthetic", "future_sha256")


def write_page(
    path: Path, forecast: xr.Dataset, data: Path, scores: PastScores, point: tuple[float, float] | None = None
) -> None:
    """Write the page of a forecast from one day; whole or not at all.

    `data` is the data set that it started from, whose last observations are shown. The page opens at the cell around
    `point`, latitude and longitude. Raises UserError where that lies outside the grid.
    """
    observed = read_last_days(data, last=forecast["init_time"].values.astype("datetime64[D]"), count=RECENT)
    grid = turn_north_up(forecast.assign(observed=observed.assign_coords(lat=forecast["lat"], lon=forecast["lon"])))
    values = embed_cells(grid, point)
    few = has_few_cells(grid)
    pictures, frame = ([draw_page_series(grid)], None) if few else draw_page_maps(grid, values["lat"], values["lon"])
    own_style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    style = BASE_STYLE + own_style
    page = (
        template_environment(HERE)
        .get_template("page.html.j2")
        .render(
            title=_title(forecast),
            notice=SYNTHETIC_NOTICE if label_of(forecast.attrs) == SYNTHETIC else "",
            facts=_list_facts(forecast),
            pictures=[_describe_picture(picture) for picture in pictures],
            parts={} if few else {part: NAMES[part] for part in dict.fromkeys(p.part for p in pictures)},
            leads={lead: _name_lead(forecast, number) for number, lead in enumerate(values["leads"])},
            places=_name_cells(grid) if few else {},
            frame=frame,
            thinned=values["step"],
            recent=RECENT,
            scores=scores,
            origin=_list_origin(forecast.attrs),
            values=values | _embed_frame(frame) | {"issued": _issue_day(forecast)},
            style=Markup(style),
            script=Markup(script),
            policy=security_policy(style, script),
        )
    )
    with whole_file(path) as partial:
        partial.write_bytes(page.encode("utf-8", errors="replace"))


def _title(forecast: xr.Dataset) -> str:
    label = label_of(forecast.attrs)
    kind = f" ({label})" if label else ""
    return f"Soil-moisture forecast from {_day(forecast['init_time'])}{kind}"


def _list_facts(forecast: xr.Dataset) -> list[str]:
    """From which days the forecast is, in sentences."""
    init, today = forecast["init_time"].values.astype("datetime64[D]"), datetime.now(UTC).date()
    valid = [_day(day) for day in forecast["valid_time"]]
    leads = [format_days(int(lead)) for lead in forecast["lead_time"].values]
    days = ", ".join(f"{day} ({lead} ahead)" for day, lead in zip(valid, leads, strict=True))
    facts = [f"The newest day of soil moisture is {init}. The forecast is of {days}."]
    issued = _issue_day(forecast)
    if issued:
        facts.append(f"It was issued on {issued}: earlier days of the forecast were then past.")
    age = int((np.datetime64(today) - init).astype(int))
    facts.append(f"This page was written on {today}, {format_days(age)} after the newest day of soil moisture.")
    if note := forecast.attrs.get("short_record"):
        facts.append(note)
    return facts


def _issue_day(forecast: xr.Dataset) -> str:
    """The day on which the forecast was issued; empty where the file does not say it."""
    if "issue_time" in forecast.variables:
        return _day(forecast["issue_time"])
    return str(forecast.attrs.get("issue_time", ""))[:10]


def _name_lead(forecast: xr.Dataset, number: int) -> str:
    lead = int(forecast["lead_time"].values[number])
    return f"{_day(forecast['valid_time'][number])} ({format_days(lead)})"


def _name_cells(grid: xr.Dataset) -> dict[int, str]:
    """The place of each cell, by its position in the grid."""
    cells = np.ndindex(grid.sizes["lat"], grid.sizes["lon"])
    return {
        position: place_of(grid.isel(lat=row, lon=column)).replace("° ", "°\N{NO-BREAK SPACE}")
        for position, (row, column) in enumerate(cells)
    }


def _describe_picture(picture: Picture) -> dict[str, Any]:
    return {"part": picture.part, "lead": picture.lead, "url": data_url(picture.png), "alt": picture.alt}


def _embed_frame(frame: Frame | None) -> dict[str, Any]:
    """Edges of the cells in the pictures; none where there is no map."""
    return {"x": frame.x, "y": frame.y} if frame else {}


def _list_origin(attributes: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the forecast was made from: the attributes of the file that its page can say, each in its parts."""
    shown = {name: str(value) for name, value in attributes.items() if name not in NOT_SHOWN and str(value)}
    ordered = [*[name for name in ORIGIN if name in shown], *[name for name in shown if name not in ORIGIN]]
    return {ORIGIN.get(name, name.replace("_", " ")): shown[name].split("; ") for name in ordered}


def _day(time: xr.DataArray) -> str:
    return str(time.values)[:10]
