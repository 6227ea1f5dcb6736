"""The forecast page: its numbers are those of the file, on any grid, and a click in a browser shows them."""

import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
import xarray as xr
from browser import Tree, browser, in_browser
from conftest import tiny
from PIL import Image

from utils.common.cli import UserError
from utils.dataset.prepared import write_prepared
from utils.forecasts.calibration import LEVELS
from utils.forecasts.figures import ANOMALY
from utils.forecasts.page import cells, maps
from utils.forecasts.page.cells import describe_cell, embed_cells, find_cell, turn_north_up
from utils.forecasts.page.maps import draw_page_maps
from utils.forecasts.page.past_scores import PastScores
from utils.forecasts.page.write import write_page

HOSTILE = "</script><script>alert('1')</script> \"><img src=x onerror=alert(2)> & ünï"
SCORES = PastScores(
    ["Scores of hindcasts."],
    [{"lead": "3", "rmse": "0.0300 (0.0200 to 0.0400)", "skill": "0.25", "coverage": "90.1 %", "dry": "0.10",
      "wet": "0.20", "n": "1,000"}],
)  # fmt: skip
UNEVEN = {"lat": [10.0, 12.0, 15.0], "lon": [358.0, 359.0, 1.0, 4.0]}
GRIDS = {
    "descending latitudes": {"lat": np.linspace(54, 40, 7), "lon": np.linspace(72, 88, 8)},
    "across Greenwich, uneven": {"lat": UNEVEN["lat"], "lon": [1.0, 4.0, 358.0, 359.0]},
    "at the date line": {"lat": [0.0, 1.0, 2.0], "lon": [178.0, 179.0, 180.0, 181.0]},
    "a strip": {"lat": np.arange(20.0, 60.0, 4), "lon": [100.0]},
}


def made_forecast(lat, lon, leads=(3, 5), **attributes) -> xr.Dataset:
    """A forecast as forecast.py writes it, of random numbers; the first cell has none."""
    rng = np.random.default_rng(0)
    shape = (len(leads), len(lat), len(lon))
    mean = rng.uniform(0.1, 0.4, shape).astype("f4")
    mean[:, 0, 0] = np.nan
    quantiles = mean[:, None] + np.linspace(-0.05, 0.05, len(LEVELS), dtype="f4")[:, None, None]
    fields = {
        "soil_moisture": mean,
        "anomaly": mean - np.float32(0.25),
        "climatology_p10": mean * 0 + np.float32(0.12),
        "climatology_p90": mean * 0 + np.float32(0.38),
        "probability_below_p10": mean * 0 + rng.uniform(0, 1, shape).astype("f4"),
        "probability_above_p90": mean * 0 + rng.uniform(0, 1, shape).astype("f4"),
        "percentile": mean * 0 + rng.uniform(0, 100, shape).astype("f4"),
    }
    variables = {name: (("lead_time", "lat", "lon"), values) for name, values in fields.items()}
    variables["soil_moisture_quantile"] = (("lead_time", "quantile", "lat", "lon"), quantiles)
    variables["input_age"] = (("lat", "lon"), np.where(np.isnan(mean[0]), np.nan, 2.0))
    init = np.datetime64("2015-07-28", "ns")
    valid = init + np.array(leads) * np.timedelta64(1, "D")
    coords = {"lead_time": list(leads), "quantile": LEVELS, "lat": lat, "lon": lon}
    coords |= {"init_time": init, "valid_time": ("lead_time", valid)}
    known = {"synthetic": "true", "source": "a (weight 0.5); b (weight 0.5)", "data": "smap.nc", "commit": "abc"}
    return xr.Dataset(variables, coords, known | attributes)


def with_observed(forecast: xr.Dataset, days: int = 4) -> xr.Dataset:
    time = forecast["init_time"].values + np.arange(1 - days, 1) * np.timedelta64(1, "D")
    shape = (days, forecast.sizes["lat"], forecast.sizes["lon"])
    observed = np.random.default_rng(1).uniform(0.1, 0.4, shape)
    observed[0] = np.nan
    return forecast.assign_coords(time=time).assign(observed=(("time", "lat", "lon"), observed))


@pytest.fixture
def page(tmp_path):
    """Write the page of a forecast on the grid of `tiny`; its text and the forecast."""
    data = tmp_path / "smap.nc"
    write_prepared(tiny(), data)

    def write(point=None, scores=SCORES, **attributes):
        grid = tiny()
        forecast = made_forecast(grid["lat"].values, grid["lon"].values, **attributes)
        write_page(tmp_path / "forecast.html", forecast, data, scores, point)
        return (tmp_path / "forecast.html").read_text(encoding="utf-8"), forecast

    return write


def embedded(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="values">(.*?)</script>', text, re.S)[1])


@pytest.mark.parametrize("grid", GRIDS)
def test_numbers_of_every_cell_are_those_of_the_file(grid):
    forecast = with_observed(made_forecast(**GRIDS[grid]))
    values = embed_cells(turn_north_up(forecast), point=None)
    assert values["lat"] == sorted(values["lat"]) and values["lon"] == sorted(values["lon"])
    assert len(values["cells"]) == forecast.sizes["lat"] * forecast.sizes["lon"] - 1 and values["step"] == 1
    assert values["start"] in values["cells"]
    for position, number in enumerate(values["cells"]):
        row, column = divmod(number, len(values["lon"]))
        apart = np.abs((forecast["lon"].values - values["lon"][column] + 180) % 360 - 180)
        cell = forecast.sel(lat=values["lat"][row], method="nearest").isel(lon=int(apart.argmin()))
        for name, variable, scale in (("mean", "soil_moisture", 1000), ("dry", "probability_below_p10", 100)):
            shown = [lead[position] for lead in values["fields"][name]]
            np.testing.assert_allclose(shown, scale * cell[variable], atol=0.5001)
        low = [lead[position] for lead in values["fields"]["low_90"]]
        np.testing.assert_allclose(low, 1000 * cell["soil_moisture_quantile"].isel(quantile=0), atol=0.5001)
        seen = [day[position] for day in values["observed"]]
        assert seen[0] is None
        np.testing.assert_allclose(seen[1:], 1000 * cell["observed"][1:], atol=0.5001)


def test_the_cell_around_a_place():
    grid = turn_north_up(xr.Dataset(coords=UNEVEN))
    assert grid["lon"].values.tolist() == [-2, -1, 1, 4]
    assert find_cell(grid, (13.4, 0.1)) == (1, 2) and find_cell(grid, (13.6, 359.9)) == (2, 1)
    for outside in ((9.9 - 1, 0), (12, 8), (12, -4), (12, 180)):
        with pytest.raises(UserError, match=r"outside the grid: latitude 9 to 16\.5, longitude -2\.5 to 5\.5"):
            find_cell(grid, outside)
    lines = describe_cell(made_forecast(**UNEVEN), (15, 4))
    assert lines[0] == "cell 15° N 4° E:" and lines[1].startswith("  2015-07-31 (3 days ahead): 0.")
    assert describe_cell(made_forecast(**UNEVEN), (10, -2)) == ["cell 10° N 2° W: no forecast"]


def test_a_map_that_is_too_large_is_thinned_and_keeps_the_place_asked_for(monkeypatch):
    lat, lon = np.arange(20.0, 40), np.arange(80.0, 110)
    forecast = turn_north_up(with_observed(made_forecast(lat, lon)))
    monkeypatch.setattr(cells, "MOST_NUMBERS", 600 * 26 // 9)  # 11 numbers a lead and 4 days
    values = embed_cells(forecast, point=(27, 95))
    assert values["step"] == 3 and values["lat"][1] - values["lat"][0] == 3
    row, column = divmod(values["start"], len(values["lon"]))
    assert (values["lat"][row], values["lon"][column]) == (27, 95)
    shown = values["fields"]["mean"][0][values["cells"].index(values["start"])]
    assert shown == pytest.approx(1000 * float(forecast["soil_moisture"].sel(lat=27, lon=95)[0]), abs=0.5001)


@pytest.mark.usefixtures("real_pictures")
def test_each_cell_lies_in_the_picture_where_the_page_looks_for_it(monkeypatch):
    """Its middle has its colour: of cells with two values, half of them each, in a pattern without symmetry."""
    forecast = made_forecast(**UNEVEN, leads=(3,))
    pattern = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]])
    forecast["anomaly"][0] = 0.1 * (2 * pattern - 1)
    grid = turn_north_up(forecast)
    monkeypatch.setattr(maps, "parts_of", lambda forecast, wet: {ANOMALY: forecast["anomaly"]})
    pictures, frame = draw_page_maps(grid, grid["lat"].values.tolist(), grid["lon"].values.tolist())
    (anomaly,) = pictures
    image = Image.open(io.BytesIO(anomaly.png)).convert("RGB")
    assert image.size == (frame.width, frame.height)
    shown = grid["anomaly"].values[0] > 0
    for row, column in np.ndindex(shown.shape):
        x = frame.x[column] + 0.25 * (frame.x[column + 1] - frame.x[column])
        y = frame.y[row] + 0.25 * (frame.y[row + 1] - frame.y[row])
        red, _, blue = image.getpixel((round(x), round(y)))
        assert (blue > red) == shown[row, column], (row, column)  # brown is dry, blue-green is wet


def test_the_page_is_strict_and_every_text_is_escaped(page):
    text, _ = page(source=HOSTILE, commit="abc", short_record=HOSTILE, anything_new=HOSTILE, title=HOSTILE)
    tree = Tree(text)
    assert not re.search(r"url\(|@import|https?:", text)
    for tag, attributes in tree.elements:
        assert not any(name.startswith("on") or name in ("style", "srcset", "action") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:"), tag
    policy = tree.all("meta")[1]["content"]
    style, script = re.search(r"<style>(.*?)</style>", text, re.S)[1], re.findall(r"<script>(.*?)</script>", text, re.S)
    for kind, content in (("style", style), ("script", script[-1])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert len(tree.all("script")) == 2 and "".join(tree.text).count(HOSTILE) == 3
    assert "anything new" in tree.text
    assert any("SYNTHETIC data" in part for part in tree.text)
    ids = [attributes["id"] for _, attributes in tree.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_what_the_file_lacks_is_left_out(page, tmp_path):
    text, _ = page(scores=PastScores(["No scores."], []), synthetic="false")
    assert "SYNTHETIC" not in text and "Brier" not in text and "day of issue" not in text
    assert len(Tree(text).all("img")) == 2 * 5


def test_the_day_of_issue_and_the_newest_inputs_are_told_where_the_file_has_them(tmp_path):
    data = tiny()
    write_prepared(data, tmp_path / "smap.nc")
    forecast = made_forecast(data["lat"].values, data["lon"].values, old_inputs="Inputs are old.")
    newest = {
        "newest_soil_moisture": np.datetime64("2015-07-28", "ns"),
        "newest_rain": np.datetime64("2015-07-26", "ns"),
    }
    forecast = forecast.assign_coords(issue_time=np.datetime64("2015-07-31", "ns"), **newest)
    write_page(tmp_path / "page.html", forecast, tmp_path / "smap.nc", SCORES)
    text = "".join(Tree((tmp_path / "page.html").read_text()).text)
    assert "The day of issue is 2015-07-31: 2015-08-02 lies after it." in text
    assert "The newest day of each input is: soil moisture 2015-07-28, rain 2015-07-26." in text
    assert text.count("Inputs are old.") == 1


@pytest.mark.parametrize("shape", [(1, 1), (2, 3)])
def test_few_cells_are_chosen_by_their_place(tmp_path, shape):
    data = tiny().isel(lat=slice(shape[0]), lon=slice(shape[1]))
    write_prepared(data, tmp_path / "site.nc")
    forecast = made_forecast(data["lat"].values, data["lon"].values)
    forecast["soil_moisture"] = forecast["soil_moisture"].fillna(0.3)
    write_page(tmp_path / "site.html", forecast, tmp_path / "site.nc", SCORES)
    text = (tmp_path / "site.html").read_text()
    tree = Tree(text)
    assert len(tree.all("img")) == 1 and len(embedded(text)["cells"]) == shape[0] * shape[1]
    places = [attributes for attributes in tree.all("input") if attributes.get("name") == "place"]
    assert len(places) == shape[0] * shape[1] and "54°\N{NO-BREAK SPACE}N" in text
    assert len(embedded(text)["days"]) == 30


def test_a_record_shorter_than_the_days_that_are_shown(tmp_path):
    write_prepared(tiny().isel(time=slice(-5, None)), tmp_path / "short.nc")
    days = cells.read_last_days(tmp_path / "short.nc", np.datetime64("2015-07-28"), 30)
    assert len(days["time"]) == 5
    later = cells.read_last_days(tmp_path / "short.nc", np.datetime64("2015-12-01"), 30)  # issued long after the data
    assert len(later["time"]) == 5


@browser
def test_a_click_on_a_cell_shows_the_numbers_of_the_file(page, tmp_path):
    """And so do the arrow keys and a place that is typed in; on a phone nothing scrolls sideways."""
    text, forecast = page(point=(54, 74))
    row, column = 3, 5  # in the file, north first
    seen = in_browser(
        tmp_path,
        text,
        f"""
        const values = JSON.parse(page.getElementById("values").textContent), map = page.getElementById("map");
        const view = page.defaultView, seen = {{}};
        const rows = () => [page.getElementById("place").textContent,
          ...[...page.querySelectorAll("#numbers tr")].map((row) => [...row.cells].slice(1).map((c) => c.textContent))];
        seen.first = rows();
        const mark = page.querySelector(".mark"), box = mark.getBoundingClientRect(), whole = mark.viewBox.baseVal;
        const middle = (edges, at) => (edges[at] + edges[at + 1]) / 2;
        const up = values.lat.length - 1 - {row};
        map.dispatchEvent(new view.MouseEvent("click", {{ bubbles: true,
          clientX: box.left + middle(values.x, {column}) / whole.width * box.width,
          clientY: box.top + middle(values.y, up) / whole.height * box.height }}));
        seen.clicked = rows();
        map.dispatchEvent(new view.KeyboardEvent("keydown", {{ key: "ArrowLeft" }}));
        seen.west = rows()[0];
        map.dispatchEvent(new view.KeyboardEvent("keydown", {{ key: "ArrowUp" }}));
        seen.north = rows()[0];
        const form = page.getElementById("goto");
        form.lat.value = "41"; form.lon.value = "87"; form.requestSubmit();
        seen.typed = rows()[0];
        form.lat.value = "0"; form.requestSubmit();
        seen.outside = form.querySelector("output").textContent;
        const shown = () => [...map.querySelectorAll("img")].filter((i) => !i.hidden).map((i) => i.alt);
        seen.picture = shown();
        page.querySelector("input[value=anomaly]").click(); page.querySelector("#leads input[value='5']").click();
        seen.other = shown();
        seen.drawn = page.querySelectorAll("#chart circle.mean").length;
        seen.wide = page.documentElement.scrollWidth - page.documentElement.clientWidth;
        return seen;""",
        width=390,
    )

    def number(value, form=".3f"):
        return format(float(value), form).replace("-", "−")

    columns = []
    for lead in range(2):
        at = forecast.isel(lead_time=lead, lat=row, lon=column)
        quantile = at["soil_moisture_quantile"].sel
        low, quarter, upper, high = (number(quantile(quantile=q, method="nearest")) for q in (0.05, 0.25, 0.75, 0.95))
        chances = [f"{100 * float(at[name]):.0f} %" for name in ("probability_below_p10", "probability_above_p90")]
        day = f"{str(at['valid_time'].values)[:10]} {forecast['lead_time'].values[lead]} days ahead"
        moisture, anomaly = number(at["soil_moisture"]), number(at["anomaly"], "+.3f")
        columns.append([day, moisture, f"{quarter}–{upper}", f"{low}–{high}", anomaly, *chances])
    expected = [list(cells) for cells in zip(*columns, strict=True)]
    lat, lon = (f"{float(v):g}" for v in (forecast["lat"][row], round(float(forecast["lon"][column]), 4)))
    assert seen["clicked"] == [f"{lat}° N {lon}° E", *expected]
    assert seen["first"][0] == "54° N 74.2857° E"
    assert seen["west"].endswith(f"{float(forecast['lon'][column - 1]):.4f}".rstrip("0") + "° E")
    assert seen["north"].startswith(f"{float(forecast['lat'][row - 1]):.4f}".rstrip("0").rstrip(".") + "° N")
    assert seen["typed"] == "40° N 88° E"
    assert seen["outside"] == "outside the map"
    assert len(seen["picture"]) == len(seen["other"]) == 1
    assert "Soil moisture on 2015-07-31, 3 days" in seen["picture"][0]
    assert "Difference from usual on 2015-08-02, 5 days" in seen["other"][0] and "SYNTHETIC" in seen["other"][0]
    assert seen["drawn"] == 2 and seen["wide"] <= 0
