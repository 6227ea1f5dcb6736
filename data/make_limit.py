"""Make the limit of the SYNTHETIC sample: the best possible forecasts of its SMAP-like product's test year.

    python data/make_limit.py                   for the sample of 1°
    python data/make_limit.py --resolution 2    for that of 2°, about a minute

The sample's truth is known, so its own land model is run ahead from its own state at the end of each day, under many
ways in which its weather may go on. predictability_limit.py says what the means of these ensembles are,
data/README.md what the share of the predictable is.
"""

import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Complex

from utils.common.cli import UserError, one_sentence, parse
from utils.common.files import ROOT
from utils.dataset.prepared import read_prepared
from utils.products.synthetic.land_model import Forcing, first_state, land_days, run_land_model
from utils.products.synthetic.predictability_limit import SAMPLE, Members, hindcasts, other_years, write_limit
from utils.products.synthetic.weather_generator import Waves
from utils.study.plan import TEST_DAYS as YEAR
from utils.training.inference import load_script

twin = load_script(ROOT / "data" / "make_sample.py")
PRODUCT, DAYS = twin.PRODUCTS[-1], twin.weather_days()
ERROR = "analysis error"
DRIVERS = (
    "synoptic",
    "mesoscale",
    "intraseasonal",
    "warmth",
    *(f"{PRODUCT.name} {e} error" for e in ("rain", "temperature")),
)
LONGEST = 30  # days ahead


@dataclass
class Settings:
    resolution: float = 1.0  # of the sample, degrees
    seed: int = 0  # of the sample; the ensembles hang on it too
    lead_days: tuple[int, ...] = (3, 5, 7)
    members: int = 100  # of an ensemble, an even number
    out: Path = SAMPLE  # folder of the sample and of the limit


class Truth:
    """The product's own run, made again, with what a forecast of it may know at the end of each day from `first` on."""

    def __init__(self, resolution: float, seed: int, first: int, members: int):
        self.land, self.seed, self.first, self.members = twin.china(resolution), seed, first, members
        weather_rng, texture_rng = twin.random_numbers(seed)
        self.soil = twin.product_soil(PRODUCT, self.land, twin.textures(texture_rng, self.land))
        self.waves = Waves.of(twin.WEATHER, self.land.grid, self.land.mask)
        self.error, self.unknown = self.waves.only(ERROR), self.waves.only(*DRIVERS)
        latent, self.modes = self.waves.history(weather_rng, len(DAYS), keep_from=first)
        self.forcing = twin.product_forcing(PRODUCT, self.land, twin.day_of_year(DAYS), latent)
        run = list(land_days(first_state(self.soil, self.forcing), self.soil, self.forcing))
        self.states = [state for state, _, _ in run[first:]]
        self.moisture, temperature = (np.stack([day[i] for day in run]) for i in (1, 2))
        self.observed = twin.analysed(PRODUCT, self.moisture, temperature, latent[ERROR])

    def ensembles(self, today: int, ahead: int) -> dict[str, Members]:
        """Daily soil moisture of the next days, by kind of weather (see predictability_limit.py)."""
        state, present = self.states[today - self.first], self.modes[today - self.first]
        rng = np.random.default_rng([self.seed, today])
        sampled = self.forcing_ahead(present[self.waves.rows(*DRIVERS)], rng, DAYS[today] + np.arange(1, ahead + 1))
        error = self.error.expected(present[self.waves.rows(ERROR)], ahead)  # its mean is enough, it is independent
        others, _ = run_land_model(state, self.soil, self.forcing[other_years(DAYS, today, ahead)])
        return {
            "soil_moisture": twin.analysed(PRODUCT, *run_land_model(state, self.soil, sampled), error),
            "without_weather": others,
        }

    def forcing_ahead(
        self, present: Complex[np.ndarray, "field ky kx"], rng: np.random.Generator, days: np.ndarray
    ) -> Forcing:
        """The product's forcing on the next `days`, [lead, member, cell], sampled given today's modes of DRIVERS.

        Members come in pairs of opposite noise: their means need fewer of them.
        """
        expected = self.unknown.expected(present, len(days))[:, None]
        noise = self.unknown.deviations(rng, self.members // 2, len(days))
        latent = np.concatenate([expected + noise, expected - noise], axis=1)
        shape = (len(days), self.members, self.land.lat.size)
        flat = {name: latent[:, :, i].reshape(-1, shape[-1]) for i, name in enumerate(DRIVERS)}
        forcing = twin.product_forcing(PRODUCT, self.land, twin.day_of_year(np.repeat(days, self.members)), flat)
        return Forcing(*(getattr(forcing, field.name).reshape(shape) for field in fields(forcing)))


def main(settings: Settings) -> None:
    leads = sorted(set(settings.lead_days))
    if not leads or leads[0] < 1 or leads[-1] > LONGEST:
        raise UserError(f"--lead-days has {leads}, expected days from 1 to {LONGEST}.")
    if settings.members < 2 or settings.members % 2:
        raise UserError(f"--members {settings.members} is not possible, expected an even number from 2 on.")
    sample = settings.out / PRODUCT.file(settings.resolution)
    command = f"python data/make_sample.py --resolution {settings.resolution:g} --seed {settings.seed}"
    moisture = read_prepared(sample, made_by=command)["soil_moisture"]
    targets = range(len(DAYS) - YEAR, len(DAYS))
    truth = Truth(settings.resolution, settings.seed, targets[0] - leads[-1], settings.members)
    record = twin.on_map(truth.land, truth.observed[-moisture.sizes["time"] :])
    if not np.array_equal(moisture.values, record, equal_nan=True):
        raise UserError(
            f"{sample} is not what seed {settings.seed} and this version of data/make_sample.py make; make it again "
            f"with: {command}"
        )
    found = hindcasts(targets, leads, truth.ensembles)
    maps = {name: (("lead_days", "time", "lat", "lon"), twin.on_map(truth.land, v)) for name, v in found.items()}
    path = settings.out / f"limit_{settings.resolution:g}deg.nc"
    ds = xr.Dataset(maps, {"lead_days": leads, **twin.axes(truth.land, DAYS[targets])})
    write_limit(ds, sample, path, global_attributes(settings))
    print(f"{path}: SYNTHETIC, the best possible forecasts {leads} days ahead, {DAYS[targets[0]]} to {DAYS[-1]}")
    observed = moisture[-YEAR:]
    for lead in leads:
        forecasts = {"persistence": moisture.shift(time=lead)[-YEAR:], **ds.sel(lead_days=lead)[list(found)]}
        rmse = (f"{name} {float(((f - observed) ** 2).mean()) ** 0.5:.4f}" for name, f in forecasts.items())
        print(f"RMSE (m³ m⁻³) at {lead} days: {', '.join(rmse)}")


def global_attributes(settings: Settings) -> dict[str, str | int]:
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


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
