"""The best possible forecast of a synthetic sample, where truth is known: means of ensembles that start from the truth.

The mean over all ways in which the weather may go on has the least mean squared error of all forecasts that know the
present and no future. Two kinds of weather ahead are told apart:

soil_moisture       weather sampled given the present weather. The sample's state is a Markov chain, so this is the
                    limit of every forecast: nobody who knows the past can expect a lower error.
without_weather     the weather of the same time of the other years, and no analysis error: what knowing the soil alone
                    is worth. A forecast that reads the present weather may beat it.

data/make_limit.py makes the file, utils.study.questions.predictability holds models against it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Complex, Float, Int
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import file_hash, whole_file
from utils.common.georeference import georeference
from utils.dataset.open import SAMPLES
from utils.dataset.prepared import AXES, DAYS_ENCODING, VARIABLES, is_synthetic, read_prepared
from utils.products.land_model import Forcing, first_state, land_days, run_land_model
from utils.products.synthetic.weather_generator import Waves
from utils.products.synthetic.world import (
    PRODUCTS,
    WEATHER,
    add_analysis_error,
    axes,
    china,
    day_of_year,
    draw_textures,
    on_map,
    product_forcing,
    product_soil,
    random_numbers,
    weather_days,
)

Members = Float[np.ndarray, "lead member cell"]
LIMITS = {"soil_moisture": "given the present weather", "without_weather": "under the weather of other years"}
SHIFTS = (-10, -5, 0, 5, 10)  # days, of the start of other years' weather


PRODUCT, DAYS = PRODUCTS[-1], weather_days()
TEST_DAYS = 365  # the limit is that of the record's last year, the study's test year
ERROR = "analysis error"
DRIVERS = (
    "synoptic",
    "mesoscale",
    "intraseasonal",
    "warmth",
    f"{PRODUCT.name} rain error",
    f"{PRODUCT.name} temperature error",
)
LONGEST = 30  # days ahead


@dataclass
class LimitSettings:
    """What data/make_limit.py is told."""

    resolution: float = 1.0  # of the sample, degrees
    seed: int = 1  # of the sample; the ensembles depend on it too
    lead_days: tuple[int, ...] = (3, 5, 7)
    members: int = 100  # of an ensemble, an even number
    out: Path = SAMPLES  # folder of the sample and of the limit


def make_limit(settings: LimitSettings) -> None:
    """Write the limit of a sample's test year and print its RMSE. Raises UserError where the sample is another one."""
    leads = sorted(set(settings.lead_days))
    if not leads or leads[0] < 1 or leads[-1] > LONGEST:
        raise UserError(f"--lead-days has {leads}, expected days from 1 to {LONGEST}.")
    if settings.members < 2 or settings.members % 2:
        raise UserError(f"--members {settings.members} is not possible, expected an even number from 2 on.")
    sample = settings.out / PRODUCT.file(settings.resolution)
    command = f"python data/make_sample.py --resolution {settings.resolution:g} --seed {settings.seed}"
    moisture = read_prepared(sample, made_by=command)["soil_moisture"]
    targets = range(len(DAYS) - TEST_DAYS, len(DAYS))
    truth = Truth(settings.resolution, settings.seed, targets[0] - leads[-1], settings.members)
    record = on_map(truth.land, truth.observed[-moisture.sizes["time"] :])
    if not np.array_equal(moisture.values, record, equal_nan=True):
        raise UserError(
            f"{sample} is not what seed {settings.seed} and this version of data/make_sample.py make; make it again "
            f"with: {command}"
        )
    means = ensemble_means(targets, leads, truth.ensembles)
    maps = {name: (("lead_days", "time", "lat", "lon"), on_map(truth.land, v)) for name, v in means.items()}
    path = settings.out / f"limit_{settings.resolution:g}deg.nc"
    ds = xr.Dataset(maps, {"lead_days": leads, **axes(truth.land, DAYS[targets])})
    write_limit(ds, sample, path, _attributes(settings))
    print(f"{path}: SYNTHETIC, the best possible forecasts {leads} days ahead, {DAYS[targets[0]]} to {DAYS[-1]}")
    _print_scores(moisture, ds)


def _print_scores(moisture: xr.DataArray, limit: xr.Dataset) -> None:
    """The RMSE of persistence and of both limits over the test year, a line a lead."""
    observed = moisture[-TEST_DAYS:]
    for lead in limit["lead_days"].values:
        forecasts = {"persistence": moisture.shift(time=lead)[-TEST_DAYS:], **limit.sel(lead_days=lead)[list(LIMITS)]}
        rmse = (f"{name} {float(((f - observed) ** 2).mean()) ** 0.5:.4f}" for name, f in forecasts.items())
        print(f"RMSE (m³ m⁻³) at {lead} days: {', '.join(rmse)}")


def _attributes(settings: LimitSettings) -> dict[str, str | int]:
    leads = " ".join(map(str, sorted(set(settings.lead_days))))
    return {
        "title": f"SYNTHETIC: the best possible forecasts of the sample's {PRODUCT.name}",
        "source": "the sample's own land model from its own state, ensemble means over the weather ahead",
        "comment": f"SYNTHETIC: of a made-up world whose truth is known; says nothing about the real {PRODUCT.name}.",
        "references": "data/README.md, data/make_limit.py and utils/products/synthetic of this repository",
        "history": f"python data/make_limit.py --resolution {settings.resolution:g} --seed {settings.seed} "
        f"--lead-days {leads} --members {settings.members}",
        "seed": settings.seed,
        "members": settings.members,
    }


class Truth:
    """The product's own run, made again, with what a forecast of it may know at the end of each day from `first` on."""

    def __init__(self, resolution: float, seed: int, first: int, members: int):
        self.land, self.seed, self.first, self.members = china(resolution), seed, first, members
        weather_rng, texture_rng = random_numbers(seed)
        self.soil = product_soil(PRODUCT, self.land, draw_textures(texture_rng, self.land))
        self.waves = Waves.of(WEATHER, self.land.grid, self.land.mask)
        self.error, self.unknown = self.waves.only(ERROR), self.waves.only(*DRIVERS)
        latent, self.modes = self.waves.history(weather_rng, len(DAYS), keep_from=first)
        self.forcing = product_forcing(PRODUCT, self.land, day_of_year(DAYS), latent)
        run = list(land_days(first_state(self.soil, self.forcing), self.soil, self.forcing))
        self.states = [state for state, _, _ in run[first:]]
        self.moisture = np.stack([moisture for _, moisture, _ in run])
        temperature = np.stack([temperature for _, _, temperature in run])
        self.observed = add_analysis_error(PRODUCT, self.moisture, temperature, latent[ERROR])

    def ensembles(self, today: int, ahead: int) -> dict[str, Members]:
        """Daily soil moisture of the next days, by kind of weather: see the top of this module."""
        state, present = self.states[today - self.first], self.modes[today - self.first]
        rng = np.random.default_rng([self.seed, today])
        sampled = self.forcing_ahead(present[self.waves.rows(*DRIVERS)], rng, DAYS[today] + np.arange(1, ahead + 1))
        moisture, temperature = run_land_model(state, self.soil, sampled)
        error = self.error.forecast(present[self.waves.rows(ERROR)], ahead)  # its mean is enough, it is independent
        without_weather, _ = run_land_model(state, self.soil, self.forcing[other_years(DAYS, today, ahead)])
        return {
            "soil_moisture": add_analysis_error(PRODUCT, moisture, temperature, error),
            "without_weather": without_weather,
        }

    def forcing_ahead(
        self, present: Complex[np.ndarray, "field ky kx"], rng: np.random.Generator, days: np.ndarray
    ) -> Forcing:
        """The product's forcing on the next `days`, [lead, member, cell], sampled given today's modes of DRIVERS.

        Members come in pairs of opposite noise: their means need fewer of them.
        """
        expected = self.unknown.forecast(present, len(days))[:, None]
        noise = self.unknown.deviations(rng, self.members // 2, len(days))
        latent = np.concatenate([expected + noise, expected - noise], axis=1)
        shape = (len(days), self.members, self.land.lat.size)
        flat = {name: latent[:, :, i].reshape(-1, shape[-1]) for i, name in enumerate(DRIVERS)}
        forcing = product_forcing(PRODUCT, self.land, day_of_year(np.repeat(days, self.members)), flat)
        return Forcing(*(getattr(forcing, field.name).reshape(shape) for field in fields(forcing)))


def other_years(days: np.ndarray, today: int, ahead: int) -> Int[np.ndarray, "lead member"]:
    """The places in `days` (daily, datetime64[D]) of the `ahead` days after this calendar day of each other year.

    And after the days around it, SHIFTS, as a mean over a dozen years alone is still off by a tenth of their variance.
    Years whose days are not all there are left out, and so is the year of `today` itself.
    """
    month, day = days[today].astype("datetime64[M]"), days[today] - days[today].astype("datetime64[M]")
    years = len(days) // 365 + 1
    same = [(month + 12 * k).astype("datetime64[D]") + day for k in range(-years, years + 1) if k]
    starts = np.concatenate([(start - days[0]).astype(int) + np.array(SHIFTS) for start in same])
    starts = starts[(starts >= -1) & (starts + ahead < len(days))]
    return starts + np.arange(1, ahead + 1)[:, None]


def ensemble_means(
    targets: Sequence[int], leads: Sequence[int], members: Callable[[int, int], dict[str, Members]]
) -> dict[str, Float[np.ndarray, "lead time cell"]]:
    """Ensemble means by kind of weather, for every lead and target day.

    `members(today, ahead)` are the ensembles that start at the end of day `today`, for the `ahead` days after it.
    """
    place = {target: i for i, target in enumerate(targets)}
    starts = sorted({target - lead for target in targets for lead in leads})
    means: dict[str, np.ndarray] = {}
    for today in tqdm(starts, desc="limit", unit="day", disable=None):
        for kind, ensemble in members(today, max(leads)).items():
            empty = np.full((len(leads), len(targets), ensemble.shape[-1]), np.nan, np.float32)
            maps = means.setdefault(kind, empty)
            for row, lead in enumerate(leads):
                if today + lead in place:
                    maps[row, place[today + lead]] = ensemble[lead - 1].mean(0)
    return means


def write_limit(ds: xr.Dataset, sample: Path, path: Path, attributes: dict[str, Any]) -> None:
    """Write the forecasts (lead_days, time, lat, lon) of the data set `sample`, whole or not at all."""
    ds = ds.copy()
    for name, how in LIMITS.items():
        long_name = f"best possible forecast of soil moisture {how}: mean of an ensemble from the true state"
        ds[name].attrs = {**VARIABLES["soil_moisture"].attributes, "units": "m3 m-3", "long_name": long_name}
    ds["lead_days"].attrs = {"long_name": "days from the last known day to the target day", "units": "days"}
    for name, known in AXES.items():
        ds[name].attrs.update(known)
    ds.attrs = {"Conventions": "CF-1.11", "synthetic": "true", **attributes, "sample_sha256": file_hash(sample)}
    ds = georeference(ds)
    encoding = {name: {"_FillValue": None} for name in ("lat", "lon", "lead_days")} | {"time": DAYS_ENCODING}
    encoding |= {name: {"zlib": True, "complevel": 1, "shuffle": True} for name in LIMITS}
    with whole_file(path) as partial:
        ds.to_netcdf(partial, engine="netcdf4", encoding=encoding)


def limit_of(sha256: str, folder: Path = SAMPLES) -> xr.Dataset | None:
    """The limit of the data set with this hash, in memory; None where there is none.

    A limit of another data set, of another seed, say, or of a sample made by another version, is never taken for it.
    """
    for path in sorted(folder.glob("limit_*.nc")):
        try:
            with xr.open_dataset(path, engine="netcdf4") as ds:
                if ds.attrs.get("sample_sha256") == sha256 and is_synthetic(ds):
                    return ds.load()
        except Exception as error:  # every layer below raises its own kinds
            raise UserError(
                f"{path} cannot be read, it may be damaged; make it again: python data/make_limit.py"
            ) from error
    return None
