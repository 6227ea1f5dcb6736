"""From the published files to two prepared data sets: SMAP L3 as observed, and the simulated source."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.dataset.prepared import write_prepared
from utils.products.land_model import Forcing
from utils.products.report import report
from utils.products.smap_conus.download import folder_of
from utils.products.smap_conus.files import (
    CONSTANTS,
    SMAP,
    WEATHER,
    YEARS,
    Cells,
    complete_years,
    read_cells,
    read_constant,
    read_days,
    read_year,
)
from utils.products.smap_conus.simulation import potential_evaporation, simulate, soil_of

TEMPERATURE = (
    "soil temperature of the surface layer, an ESTIMATE: the project's land model driven by NLDAS-2 air temperature, "
    "radiation and rain; no observation of the soil"
)
MOISTURE = {  # of each data set
    "smap": "soil moisture of SMAP L3 passive (SPL3SMP), morning overpass at 06:00 local time; NaN: no retrieval",
    "source": "SIMULATED soil moisture of 0 to 5 cm, the project's land model driven by NLDAS-2 weather",
}
FURTHER = {  # published name (of wind: as made here): name here, CF attributes
    "TMP_2_FORA": ("air_temperature", {"units": "K", "standard_name": "air_temperature"}),
    "SPFH_2_FORA": ("specific_humidity", {"units": "kg kg-1", "standard_name": "specific_humidity"}),
    "wind": ("wind_speed", {"units": "m s-1", "standard_name": "wind_speed", "comment": "of the daily mean vector"}),
    "DSWRF_FORA": (
        "shortwave_radiation",
        {"units": "W m-2", "standard_name": "surface_downwelling_shortwave_flux_in_air"},
    ),
    "DLWRF_FORA": (
        "longwave_radiation",
        {"units": "W m-2", "standard_name": "surface_downwelling_longwave_flux_in_air"},
    ),
}
STATIC = {
    "Sand": ("sand", {"units": "percent", "long_name": "sand in the soil"}),
    "Silt": ("silt", {"units": "percent", "long_name": "silt in the soil"}),
    "Clay": ("clay", {"units": "percent", "long_name": "clay in the soil"}),
    "Bulk": ("bulk_density", {"units": "g cm-3", "long_name": "bulk density of the soil"}),
    "Capa": ("capacity", {"long_name": "water capacity of the soil", "comment": "published without a unit"}),
    "NDVI": ("ndvi", {"units": "1", "standard_name": "normalized_difference_vegetation_index"}),
}
SOURCE = (
    "NASA SMAP SPL3SMP and NASA NLDAS-2, as published in github.com/fkwai/geolearn (MIT licence) with Fang et al. 2017"
)


@dataclass
class CONUSPrepareSettings:
    """What data/prepare_smap_conus.py is told."""

    raw: Path = Path("data/raw/smap_conus")  # the published folder (data/download_smap_conus.py)
    out: Path = Path("data/smap_l3_conus.nc")  # SMAP as observed, with the weather
    source_out: Path = Path("data/land_model_conus.nc")  # the simulated source


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive days of the weather, all [time, cell], in the units of the published files."""

    days: np.ndarray  # datetime64[D]
    weather: dict[str, np.ndarray]
    smap: np.ndarray  # m3 m-3, NaN where nothing was retrieved


def prepare_conus(settings: CONUSPrepareSettings) -> None:
    """Prepare both data sets; print and draw the reports, and say how well the simulation agrees with SMAP.

    Raises UserError for a folder that is not the published one.
    """
    folder = folder_of(settings.raw)
    cells, years = read_cells(folder), complete_years(folder)
    constants = {name: read_constant(folder, name, cells.row.size) for name in CONSTANTS}
    soil = soil_of(*(_fill_from_nearest(constants[name], cells) for name in ("Sand", "Clay", "NDVI")))
    static = {STATIC[name][0]: (("lat", "lon"), cells.on_map(v), STATIC[name][1]) for name, v in constants.items()}
    observed, simulated = [], []  # stretches of each data set
    for stretch in _stretches(folder, years, cells.row.size):
        forcing = _forcing(stretch)
        moisture, temperature = simulate(forcing, soil)
        simulated.append(_data_set(cells, stretch, forcing, moisture, temperature))
        observed.append(_data_set(cells, stretch, forcing, stretch.smap, temperature))
    smap, source = xr.concat(observed, "time"), xr.concat(simulated, "time")
    smap = smap.sel(time=np.isin(smap["time"].dt.strftime("%Y-%m-%d"), _days_with_smap(folder, years)))
    absent = [year for year in YEARS if year not in years]
    reasons = {str(d): "not in the folder" for year in absent for d in _days_of(year)}
    for kind, ds, out in (("smap", smap, settings.out), ("source", source, settings.source_out)):
        write_prepared(_describe(ds.assign(static), kind), out)
        report(out, reasons, _agreement(smap, source) if kind == "source" else ())


def _days_of(year: str) -> np.ndarray:
    """The days from April of a year to the next March."""
    return np.arange(f"{year}-04-01", f"{int(year) + 1}-04-01", dtype="datetime64[D]")


def _days_with_smap(folder: Path, years: list[str]) -> list[str]:
    """The days of the years for which SMAP was published, as ISO dates. Raises UserError where there is none."""
    published = [year for year in years if (folder / year / f"{SMAP}.csv").exists()]
    if not published:
        raise UserError(f"{folder} has {SMAP}.csv in none of its years, expected it in {YEARS[0]}.")
    return [str(day) for year in published for day in read_days(folder, year)]


def _fill_from_nearest(values: np.ndarray, cells: Cells) -> np.ndarray:
    """Values [cell], a missing one taken from the nearest cell that has one; one cell was published without texture."""
    there = np.flatnonzero(np.isfinite(values))
    filled = values.copy()
    for cell in np.flatnonzero(np.isnan(values)):
        distance = np.hypot(cells.row[there] - cells.row[cell], cells.column[there] - cells.column[cell])
        filled[cell] = values[there[distance.argmin()]]
    return filled


def _stretches(folder: Path, years: list[str], cells: int) -> list[Stretch]:
    """The years that are there, joined where one follows the other."""
    stretches: list[Stretch] = []
    for year in years:
        days = read_days(folder, year)
        shape = (len(days), cells)
        weather = {name: read_year(folder, year, name, shape) for name in WEATHER}
        if missing := [name for name, values in weather.items() if np.isnan(values).any()]:
            raise UserError(f"{folder / year / missing[0]}.csv has missing values, expected weather on every day.")
        published = (folder / year / f"{SMAP}.csv").exists()
        smap = read_year(folder, year, SMAP, shape) if published else np.full(shape, np.nan)
        follows = stretches and days[0] == stretches[-1].days[-1] + 1
        before = stretches.pop() if follows else None
        this = Stretch(days, weather, smap)
        stretches.append(_join(before, this) if before else this)
    return stretches


def _join(first: Stretch, second: Stretch) -> Stretch:
    """Two stretches as one."""
    return Stretch(
        days=np.concatenate([first.days, second.days]),
        weather={name: np.concatenate([first.weather[name], second.weather[name]]) for name in WEATHER},
        smap=np.concatenate([first.smap, second.smap]),
    )


def _forcing(stretch: Stretch) -> Forcing:
    """The weather as the land model takes it."""
    weather = stretch.weather
    air = weather["TMP_2_FORA"]
    return Forcing(
        precipitation=24 * weather["APCP_FORA"],  # published as a mean per hour
        air_temperature=air,
        potential_evaporation=potential_evaporation(air, weather["DSWRF_FORA"], weather["DLWRF_FORA"]),
    )


def _data_set(
    cells: Cells, stretch: Stretch, forcing: Forcing, moisture: np.ndarray, temperature: np.ndarray
) -> xr.Dataset:
    """A stretch as maps, with the further weather."""
    wind = np.hypot(stretch.weather["UGRD_10_FORA"], stretch.weather["VGRD_10_FORA"])
    published = stretch.weather | {"wind": wind}
    fields = {
        "precipitation": (forcing.precipitation, {"long_name": "NLDAS-2 precipitation of the day"}),
        "soil_moisture": (moisture, {}),
        "soil_temperature": (temperature, {"long_name": TEMPERATURE}),
        **{name: (published[key], attributes) for key, (name, attributes) in FURTHER.items()},
    }
    axes = {"time": stretch.days.astype("datetime64[ns]"), "lat": cells.grid.lat, "lon": cells.grid.lon}
    maps = {name: (("time", "lat", "lon"), cells.on_map(v), attributes) for name, (v, attributes) in fields.items()}
    return xr.Dataset(maps, axes)


def _describe(ds: xr.Dataset, kind: str) -> xr.Dataset:
    """The data set with what CF wants to know of it."""
    ds["soil_moisture"].attrs["long_name"] = MOISTURE[kind]
    attributes = {
        "smap": {
            "title": "REAL SMAP L3 over the United States, and its weather",
            "product": "SMAP L3",
            "label": "REAL SMAP L3 over the United States",
            "source": SOURCE,
        },
        "source": {
            "title": "A land model over the United States: SIMULATED soil moisture, real weather",
            "product": "land model",
            "label": "soil moisture SIMULATED by a land model with real weather",
            "source": f"the project's two-layer land model, not calibrated, driven by NLDAS-2; weather: {SOURCE}",
            "comment": "Soil moisture is simulated and is no reanalysis. No SMAP value went into it.",
        },
    }[kind]
    grid = "every fourth row and column of EASE-Grid 2.0 at 36 km: cells of 36 km, 144 km apart"
    return ds.assign_attrs(attributes | {"references": "https://doi.org/10.1002/2017GL075619", "grid": grid})


def _agreement(smap: xr.Dataset, source: xr.Dataset) -> list[str]:
    """How the simulation agrees with SMAP on the days of both, over time in each cell: median and quartiles."""
    observed, simulated = xr.align(smap["soil_moisture"], source["soil_moisture"], join="inner")
    simulated = simulated.where(observed.notnull())
    bias = (simulated - observed).mean("time")
    scores = {
        "correlation": xr.corr(observed, simulated, "time"),
        "bias (m3 m-3)": bias,
        "ubRMSE (m3 m-3)": np.sqrt(((simulated - observed - bias) ** 2).mean("time")),
    }
    lines = ["  agreement of the simulation with SMAP in a cell: median (quartiles)"]
    for name, values in scores.items():
        low, middle, high = np.nanquantile(values, [0.25, 0.5, 0.75])
        lines.append(f"    {name}: {middle:.3f} ({low:.3f} to {high:.3f})")
    return lines
