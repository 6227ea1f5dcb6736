"""The SYNTHETIC sample: two daily products over China that differ the way ERA5-Land and SMAP L4 differ.

`make_sample` writes the files, `describe_sample` prints the tables of data/README.md that say how they behave.
"""

import calendar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.dataset.open import SAMPLES
from utils.dataset.prepared import open_prepared, read_prepared, write_prepared
from utils.products.land_model import Days
from utils.products.synthetic.world import PRODUCTS, Product, china, make_products

REGIONS = {  # south, north, west, east, in degrees
    "north-west, arid": (36, 48, 76, 96),
    "north, semi-arid": (36, 45, 102, 116),
    "Tibetan Plateau": (29, 35, 80, 100),
    "north-east": (42, 53, 120, 135),
    "south-east, humid": (22, 32, 108, 122),
}


@dataclass
class SampleSettings:
    """What data/make_sample.py is told."""

    resolution: float = 1.0  # degrees between cell centres, 0.5 to 10
    seed: int = 1  # the same seed gives the same files; 1: the first whose SMAP years are all within 10 % of its mean
    out: Path = SAMPLES  # folder of the two files
    describe: bool = False  # print how the files behave instead of making them


def make_sample(settings: SampleSettings) -> None:
    """Write both products into `settings.out`, or print how those there behave. Raises UserError for bad settings."""
    if not 0.5 <= settings.resolution <= 10:
        raise UserError(f"--resolution {settings.resolution:g} is not possible, expected 0.5 to 10 degrees.")
    if settings.seed < 0:
        raise UserError(f"--seed {settings.seed} is not possible, expected 0 or more.")
    paths = {product.name: settings.out / product.file(settings.resolution) for product in PRODUCTS}
    if settings.describe:
        command = f"python data/make_sample.py --resolution {settings.resolution:g}"
        print(describe_sample({name: read_prepared(path, made_by=command) for name, path in paths.items()}))
        return
    land = china(settings.resolution)
    for product, ds in make_products(land, settings.seed):
        ds = ds.assign_attrs(_attributes(product, settings))
        write_prepared(ds, paths[product.name])
        print(
            f"{paths[product.name]}: SYNTHETIC {product.name}, {product.first_day} to {product.last_day}, "
            f"{land.grid}, {land.lat.size} of them land"
        )


def make_source_of_other_weather(sample: Path, weather_seed: int, out: Path, **attributes: str) -> None:
    """Write the ERA5-Land of a sample once more, over the same soils and in the same climate: other weather alone.

    `sample` is a file of the sample; `attributes` are added to those of the new file.
    """
    with open_prepared(sample) as ds:
        settings = SampleSettings(resolution=float(abs(ds["lat"][1] - ds["lat"][0])), seed=int(ds.attrs["seed"]))
    product, source = next(make_products(china(settings.resolution), settings.seed, weather_seed))
    own = {
        "title": f"SYNTHETIC control: the sample's {product.name} under the weather of seed {weather_seed}",
        "history": "python reproduce.py --controls",
        "weather_seed": weather_seed,
    }
    write_prepared(source.assign_attrs(_attributes(product, settings) | own | attributes), out)


def _attributes(product: Product, settings: SampleSettings) -> dict[str, str | int]:
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
    """The values of the cells that are never missing, [time, cell]."""
    return values.stack(cell=("lat", "lon")).dropna("cell").transpose("time", "cell").values


def standardise(values: Days) -> Days:
    """Each cell's values with mean 0 and variance 1 in time."""
    return (values - values.mean(0)) / values.std(0)


def _region_row(region: str, name: str, ds: xr.Dataset) -> str:
    """A row of the table by region: how a product's rain and soil moisture behave there."""
    south, north, west, east = REGIONS[region]
    box = ds.sel(lat=slice(north, south), lon=slice(west, east))
    moisture, rain, month = land_values(box.soil_moisture), land_values(box.precipitation).mean(1), ds.time.dt.month
    if not moisture.size:
        return f"| {region} | {name} | no cell" + " |" * 7
    monthly = [moisture[month == m].mean() for m in range(1, 13)]
    wettest, driest = (calendar.month_abbr[int(extreme(monthly)) + 1] for extreme in (np.argmax, np.argmin))
    z = standardise(moisture)
    memory = ", ".join(f"{np.mean(z[lag:] * z[:-lag]):.2f}" for lag in (1, 5, 10))
    low, high = np.percentile(moisture, (5, 95))
    summer = rain[(month >= 5) & (month <= 9)].sum() / rain.sum()
    return (
        f"| {region} | {name} | {rain.mean() * 365.25:.0f} | {summer:.0%} | {moisture.mean():.2f} "
        f"| {low:.2f}–{high:.2f} | {wettest}, {driest} | {np.ptp(monthly):.2f} | {memory} |"
    )


def describe_sample(sample: dict[str, xr.Dataset]) -> str:
    """Markdown: both products by region, the RMSE of persistence over all land, and how the products agree."""
    lines = [
        "| region | product | rain, mm a⁻¹ | May–Sep | mean, m³ m⁻³ | 5–95 % | wettest, driest month | amplitude "
        "| autocorrelation at 1, 5, 10 days |",
        "|---" * 9 + "|",
        *(_region_row(region, name, ds) for region in REGIONS for name, ds in sample.items()),
        "",
        "| product | mean, m³ m⁻³ | deviation in time | RMSE of persistence: 1 day | 3 days | 5 days | 7 days |",
        "|---" * 7 + "|",
    ]
    for name, ds in sample.items():
        x = land_values(ds.soil_moisture)
        rmse = " | ".join(f"{np.sqrt(np.mean((x[lead:] - x[:-lead]) ** 2)):.4f}" for lead in (1, 3, 5, 7))
        lines.append(f"| {name} | {x.mean():.3f} | {x.std(0).mean():.3f} | {rmse} |")
    months = (ds.soil_moisture.groupby("time.month") for ds in xr.align(*sample.values()))
    one, other = (standardise(land_values(month - month.mean())) for month in months)
    low, middle, high = np.percentile(np.mean(one * other, 0), (5, 50, 95))
    agreement = f"median {middle:.2f}, 5–95 % of the cells {low:.2f}–{high:.2f}"
    return "\n".join([*lines, "", f"Correlation of the two products, monthly means removed: {agreement}."])
