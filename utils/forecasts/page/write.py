"""The forecast page: one HTML file for a bulletin, which loads nothing and can be read without JavaScript.

Its text stands in page.html.j2, its style in page.css and its script in page.js, beside this module.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup, escape

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.common.html import BASE_STYLE, data_url, security_policy, template_environment
from utils.common.text import format_days, join_words
from utils.dataset.open import open_data_set
from utils.dataset.prepared import SYNTHETIC, in_brackets, label_of
from utils.figures.series import has_few_cells, place_of
from utils.forecasts.forecast_file import NEWEST, OLD_INPUTS, SHORT_RECORD
from utils.forecasts.page.cells import embed_cells, find_cell, read_last_days, turn_north_up
from utils.forecasts.page.maps import NAMES, Frame, Picture, draw_page_maps, draw_page_series
from utils.forecasts.page.past_scores import PastScores, read_scores_file

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
    "commit": "version of the code",
    "history": "written",
}
NOTES = (SHORT_RECORD, OLD_INPUTS)  # attributes that tell what makes this forecast less sure
NOT_SHOWN = (*NOTES, "Conventions", "title", "request", "synthetic", "future_sha256")


def check_page_settings(
    html: bool, point: tuple[float, float] | None, scores: Path | None, data: Path, single: bool
) -> None:
    """Raise UserError for what --html, --point and --scores cannot do, before anything is forecast."""
    if (html or point) and not single:
        raise UserError("--html and --point show one forecast; give --init a single date.")
    if scores and not html:
        raise UserError("--scores is shown on the page; give --html as well.")
    if scores:
        read_scores_file(scores)
    if point:
        grid = open_data_set(data).grid
        find_cell(turn_north_up(xr.Dataset(coords={"lat": grid.lat, "lon": grid.lon})), point)


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
    environment = template_environment(HERE)
    environment.filters["whole_days"] = _keep_days_whole
    page = environment.get_template("page.html.j2").render(
        title=f"Soil-moisture forecast from {_day(forecast['init_time'])}{in_brackets(label_of(forecast.attrs))}",
        notice=SYNTHETIC_NOTICE if label_of(forecast.attrs) == SYNTHETIC else "",
        facts=_list_facts(forecast),
        pictures=[_describe_picture(picture) for picture in pictures],
        parts={} if few else {part: NAMES[part] for part in dict.fromkeys(p.part for p in pictures)},
        leads=[(lead, day, format_days(lead)) for lead, day in zip(values["leads"], values["valid"], strict=True)],
        places=_name_cells(grid) if few else {},
        frame=frame,
        thinned=values["step"],
        recent=RECENT,
        scores=scores,
        origin=_list_origin(forecast.attrs),
        values=values | _embed_frame(frame),
        style=Markup(style),
        script=Markup(script),
        policy=security_policy(style, script),
    )
    with whole_file(path) as partial:
        partial.write_bytes(page.encode("utf-8", errors="replace"))


def _list_facts(forecast: xr.Dataset) -> list[str]:
    """From which days the forecast is, and how old its inputs are, in sentences."""
    leads = [format_days(int(lead)) for lead in forecast["lead_time"].values]
    valid = [_day(day) for day in forecast["valid_time"]]
    days = [f"{day} ({lead} ahead)" for day, lead in zip(valid, leads, strict=True)]
    init, today = _day(forecast["init_time"]), str(datetime.now(UTC).date())
    facts = [f"The forecast starts from the soil moisture of {init}. It is of {join_words(days)}."]
    if "issue_time" in forecast.variables:
        issued = _day(forecast["issue_time"])
        later = [day for day in valid if day > issued]
        told = (
            f"{join_words(later)} {'lies' if len(later) == 1 else 'lie'} after it" if later else "no day lies after it"
        )
        facts.append(f"The day of issue is {issued}: {told}.")
    newest = {name: forecast[name] for name in forecast.coords if name.startswith(NEWEST)}
    if newest:
        told = [f"{name.removeprefix(NEWEST).replace('_', ' ')} {_day(day)}" for name, day in newest.items()]
        facts.append(f"The newest day of each input is: {', '.join(told)}.")
    age = int((np.datetime64(today) - np.datetime64(init)).astype(int))
    facts.append(f"This page was written on {today}, {format_days(age)} after the day from which the forecast starts.")
    return facts + [forecast.attrs[name] for name in NOTES if name in forecast.attrs]


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


def _keep_days_whole(text: str) -> Markup:
    """The escaped text, in which no line breaks within a date."""
    return Markup(re.sub(r"\d{4}-\d\d-\d\d", r'<span class="day">\g<0></span>', str(escape(text))))


def _day(time: xr.DataArray) -> str:
    return str(time.values)[:10]
