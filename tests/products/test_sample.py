"""The synthetic sample: its physics by hand, its climate by region, its label, and the numbers of its data card."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from conftest import subprocess_script

from utils.common.files import ROOT, file_hash
from utils.common.grid import Grid
from utils.dataset.prepared import VARIABLES, is_synthetic, read_prepared
from utils.products import land_model
from utils.products.synthetic import world
from utils.products.synthetic.sample import REGIONS, land_values, standardise
from utils.products.synthetic.weather_generator import Field, Waves

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def sample() -> dict[str, xr.Dataset]:
    return {product.name: ds for product, ds in world.make_products(world.china(4.0), seed=0)}


def region(ds: xr.Dataset, name: str) -> xr.Dataset:
    south, north, west, east = REGIONS[name]
    return ds.sel(lat=slice(north, south), lon=slice(west, east))


def random_columns(cells: int = 20_000) -> tuple[land_model.State, land_model.Soil, land_model.Forcing]:
    """Soils of every texture in every state, half of them near an end of their range, under any weather."""

    def anything(low: float, high: float) -> np.ndarray:
        return low + (high - low) * np.clip(RNG.uniform(-0.5, 1.5, cells), 0, 1)

    sand = anything(0.05, 0.92)
    clay = np.clip(anything(0.03, 0.6), 0.03, 0.95 - sand)
    soil = land_model.soil_of_texture(sand, clay, anything(0, 0.8), depth=50.0, diffusion=8.0)
    pores, root_pores = soil.porosity * 50, soil.porosity * 950
    state = land_model.State(
        anything(0, 1) * pores, anything(0, 1) * root_pores, anything(0, 100), anything(240, 310), anything(260, 300)
    )
    return state, soil, land_model.Forcing(anything(0, 300), anything(230, 315), anything(0, 9))


# --- the land model


def test_water_balance_closes_to_round_off():
    state, soil, day = random_columns()
    after, out = land_model.land_step(state, soil, day)
    stored = sum(getattr(after, part) - getattr(state, part) for part in ("surface", "root", "snow"))
    np.testing.assert_allclose(day.precipitation, out.evaporation + out.runoff + out.drainage + stored, atol=1e-9)


def test_soil_stays_between_empty_and_saturated_and_no_flux_is_negative():
    state, soil, day = random_columns()
    after, out = land_model.land_step(state, soil, day)
    for water, depth in ((after.surface, 50), (after.root, 950)):
        assert (water >= -1e-9).all() and (water <= soil.porosity * depth + 1e-9).all()
    assert (after.snow >= 0).all()
    for flux in (out.evaporation, out.runoff, out.drainage):
        assert (flux >= -1e-9).all()


def test_evaporation_exceeds_neither_the_energy_nor_the_water():
    state, soil, day = random_columns()
    _, out = land_model.land_step(state, soil, day)
    assert (out.evaporation <= day.potential_evaporation + 1e-9).all()
    assert (out.evaporation <= state.surface + state.root + state.snow + day.precipitation + 1e-9).all()
    assert land_model.evaporate(np.array([3.0]), np.array([1e6])) == pytest.approx(3.0, rel=1e-5)  # energy-limited
    assert land_model.evaporate(np.array([1e6]), np.array([3.0])) == pytest.approx(3.0)  # water-limited


def test_dry_soil_under_a_dry_sky_does_not_evaporate():
    state, soil, day = random_columns()
    dry = replace(state, surface=soil.wilting_point / 4 * 50, root=soil.wilting_point * 950, snow=0 * state.snow)
    _, out = land_model.land_step(dry, replace(soil, diffusion=0.0), replace(day, precipitation=0 * day.precipitation))
    assert out.evaporation.max() < 1e-6


def test_drainage_is_the_solution_of_its_equation():
    water, pores, conductivity, exponent = (np.array([v]) for v in (18.0, 22.0, 200.0, 15.0))
    w = 18.0
    for _ in range(100_000):
        w -= 200.0 * (w / 22.0) ** 15.0 / 100_000
    assert land_model.drain(water, pores, conductivity, exponent) == pytest.approx(18.0 - w, rel=1e-3)


def test_cold_precipitation_lies_as_snow_and_runs_when_it_thaws():
    state, soil, day = random_columns()
    bare = replace(state, snow=0 * state.snow)
    frost, thaw = (replace(day, air_temperature=0 * day.air_temperature + t) for t in (263.15, 283.15))
    after, _ = land_model.land_step(bare, soil, frost)
    np.testing.assert_allclose(after.snow, day.precipitation)
    melting, _ = land_model.land_step(after, soil, replace(thaw, precipitation=0 * day.precipitation))
    np.testing.assert_allclose(after.snow - melting.snow, np.minimum(after.snow, 30.0))


def test_frozen_soil_moves_less():
    state, soil, day = random_columns()
    change = {}
    for temperature in (263.15, 288.15):
        ground = replace(state, temperature=0 * state.temperature + temperature, snow=0 * state.snow)
        weather = replace(day, precipitation=day.precipitation / 30, air_temperature=ground.temperature)
        after, _ = land_model.land_step(ground, soil, weather)
        change[temperature] = np.abs(after.surface - state.surface).mean()
    assert change[263.15] < 0.1 * change[288.15]


# --- the weather


def test_a_cell_is_wet_as_often_and_as_much_as_its_climate_says():
    ranks = (np.arange(200_000) + 0.5)[:, None] / 200_000
    rain = world.precipitation(ranks, np.array([[0.3, 0.7]]), np.array([[4.0, 12.0]]))
    np.testing.assert_allclose((rain > 0).mean(0), [0.3, 0.7], atol=1e-4)
    np.testing.assert_allclose([rain[rain[:, i] > 0, i].mean() for i in (0, 1)], [4.0, 12.0], rtol=0.01)
    wet = rain[rain[:, 0] > 0, 0] / 4.0
    assert wet.std() == pytest.approx(0.7**-0.5, rel=0.02)  # of a gamma distribution of shape 0.7 and mean 1


def test_weather_fields_are_standard_normal_with_the_stated_memory_and_length():
    land = world.china(2.0)
    waves = Waves.of({"x": Field(length=4.0, memory=3.0)}, land.grid, land.mask)
    field = waves.history(np.random.default_rng(1), days=1500)[0]["x"]
    assert field.mean() == pytest.approx(0, abs=0.05) and field.std() == pytest.approx(1, abs=0.03)
    assert (field[1:] * field[:-1]).mean() == pytest.approx(np.exp(-1 / 3), abs=0.05)
    west = np.flatnonzero((land.lat == 34) & (land.lon == 100))[0]
    east = np.flatnonzero((land.lat == 34) & (land.lon == 104))[0]
    assert (field[:, west] * field[:, east]).mean() == pytest.approx(np.exp(-0.5), abs=0.08)


def test_a_compensated_field_is_correlated_as_its_formula_says():
    rng, lag, size = np.random.default_rng(2), 5, 40
    grid = Grid(np.arange(0, size, 1.0)[::-1], np.arange(0, size, 1.0))
    field = Field(length=2.0, memory=1.0, compensation=3.0)
    waves = Waves.of({"x": field}, grid, np.ones(grid.shape, bool))
    maps = waves.history(rng, days=600)[0]["x"].reshape(600, size, size)
    share = 2.0**2 / (2.0**2 + 3.0**2)  # L²/M²
    expected = (np.exp(-(lag**2) / 8) - share * np.exp(-(lag**2) / 26)) / (1 - share)
    assert expected < -0.05  # there is too little around what is too much
    assert maps.std() == pytest.approx(1, abs=0.02)
    assert (maps[:, lag:] * maps[:, :-lag]).mean() == pytest.approx(expected, abs=0.02)
    assert (maps[:, :, lag:] * maps[:, :, :-lag]).mean() == pytest.approx(expected, abs=0.02)


def test_annual_rain_varies_between_years_as_over_the_real_china():
    """By 4 to 7 % of its mean over the country, whose extremes since 1951 lie near ±10 %, and by 15 to 40 % in a cell.

    The figures are those of the data card.
    """
    land, days, seeds = world.china(4.0), world.weather_days()[-12 * 365 :], range(5)
    area = np.cos(np.deg2rad(land.lat))
    worlds = []  # annual rain by seed, year and cell
    for seed in seeds:
        rng, _ = world.random_numbers(seed)
        latent, _ = Waves.of(world.WEATHER, land.grid, land.mask).history(rng, len(days))
        forcing = world.product_forcing(world.PRODUCTS[-1], land, world.day_of_year(days), latent)
        worlds.append(forcing.precipitation.reshape(12, 365, -1).sum(axis=1))
    country = np.average(worlds, axis=-1, weights=area)
    spread = np.sqrt(country.var(axis=1, ddof=1).mean()) / country.mean()
    assert 0.04 < spread < 0.07
    cells = np.std(worlds, axis=(0, 1)) / np.mean(worlds, axis=(0, 1))
    assert np.percentile(cells, 5) > 0.15 and np.percentile(cells, 95) < 0.40


def test_rain_lasts_for_days_but_cannot_be_foretold_for_a_week(sample):
    rain = land_values(sample["SMAP L4"].precipitation)
    summer = np.isin(sample["SMAP L4"].time.dt.month, (6, 7, 8))
    z = standardise(rain[summer])
    assert (z[1:] * z[:-1]).mean() > 0.2
    assert (z[7:] * z[:-7]).mean() < 0.12


def test_potential_evaporation_knows_season_and_latitude():
    land = world.china(1.0)
    wuhan, mohe = (np.flatnonzero((land.lat == lat) & (land.lon == lon))[0] for lat, lon in ((30, 114), (52, 123)))
    days, warm = np.array([15, 196]), np.array([[278.0], [302.0]])
    evaporation = world.potential_evaporation(land, days, warm + 0 * land.lat, np.full((2, 1), 0.5))
    assert 0.3 < evaporation[0, wuhan] < 1.5 and 4.0 < evaporation[1, wuhan] < 6.5
    assert evaporation[0, mohe] < 0.5 * evaporation[0, wuhan]


# --- the place


def test_default_grid_is_the_published_one_and_2_degrees_a_quarter():
    assert world.china(1.0).grid.shape == (52, 65) and world.china(2.0).grid.shape == (26, 33)
    grid = world.china(1.0).grid
    assert (grid.lat[0], grid.lat[-1], grid.lon[0], grid.lon[-1]) == (54, 3, 72, 136)


@pytest.mark.parametrize(
    ("place", "lat", "lon", "inside"),
    [
        ("Beijing", 40, 116, True),
        ("Lhasa", 30, 91, True),
        ("Hainan", 19, 110, True),
        ("Taiwan", 24, 121, True),
        ("Mohe", 53, 122, True),
        ("Taiwan Strait", 24, 119, False),
        ("Bohai Sea", 39, 120, False),
        ("South China Sea", 15, 114, False),
        ("Ulaanbaatar", 48, 107, False),
        ("Seoul", 38, 127, False),
        ("Delhi", 29, 77, False),
    ],
)
def test_land_is_china_without_sea(place, lat, lon, inside):
    land = world.china(1.0)
    assert land.mask[list(land.grid.lat).index(lat), list(land.grid.lon).index(lon)] == inside, place


def test_land_covers_the_area_of_china():
    land = world.china(1.0)
    area = (111.2**2 * np.cos(np.deg2rad(land.lat))).sum()
    assert area == pytest.approx(9.6e6, rel=0.03)  # km²


# --- the products


@pytest.mark.parametrize("name", ["ERA5-Land", "SMAP L4"])
def test_monsoon_wet_southeast_summers_and_a_dry_northwest(sample, name):
    rain = {area: region(sample[name], area).precipitation.mean(("lat", "lon")) for area in REGIONS}
    by_month = {area: values.groupby("time.month").mean() for area, values in rain.items()}
    humid, dry, north = (by_month[area] for area in ("south-east, humid", "north-west, arid", "north, semi-arid"))
    assert humid.sel(month=7) > 2 * humid.sel(month=1)
    assert humid.mean() > 5 * dry.mean()
    assert north.sel(month=[6, 7, 8]).mean() > 10 * north.sel(month=[12, 1, 2]).mean()
    assert humid.sel(month=slice(4, 6)).mean() / humid.mean() > north.sel(month=slice(4, 6)).mean() / north.mean()


@pytest.mark.parametrize("name", ["ERA5-Land", "SMAP L4"])
def test_soils_are_wet_in_the_southeast_dry_in_the_northwest_and_still_when_frozen(sample, name):
    moisture = {area: region(sample[name], area).soil_moisture for area in REGIONS}
    assert 0.03 < moisture["north-west, arid"].mean() < 0.12
    assert 0.22 < moisture["south-east, humid"].mean() < 0.42
    change = abs(moisture["north-east"].diff("time")).groupby("time.month").mean(...)
    assert change.sel(month=1) < 0.2 * change.sel(month=7)


@pytest.mark.parametrize("name", ["ERA5-Land", "SMAP L4"])
def test_memory_and_persistence_are_those_of_daily_soil_moisture(sample, name):
    moisture = land_values(sample[name].soil_moisture)
    z = standardise(moisture)
    memory = (z[1:] * z[:-1]).mean(0)
    assert np.percentile(memory, 5) > 0.85 and np.percentile(memory, 95) < 0.985
    rmse = {lead: np.sqrt(np.mean((moisture[lead:] - moisture[:-lead]) ** 2)) for lead in (1, 3, 5, 7)}
    assert 0.010 < rmse[1] < rmse[3] < 0.033 and 0.025 < rmse[5] < rmse[7] < 0.043


def test_products_see_the_same_weather_but_differ_in_mean_and_range(sample):
    era5, smap = (ds.soil_moisture for ds in xr.align(*sample.values()))
    months = (moisture.groupby("time.month") for moisture in (era5, smap))
    one, other = (standardise(land_values(month - month.mean())) for month in months)
    assert 0.6 < np.median((one * other).mean(0)) < 0.85
    assert float(era5.mean() - smap.mean()) > 0.02  # ERA5-Land is the wetter
    narrow, wide = (moisture.std("time") for moisture in (era5, smap))
    assert float(wide.mean()) > float(narrow.mean())  # SMAP L4 varies more, and more still for its mean
    assert float((wide / smap.mean("time")).mean()) > 1.2 * float((narrow / era5.mean("time")).mean())


def test_products_miss_and_invent_rain_days(sample):
    era5, smap = (land_values(ds.precipitation) for ds in xr.align(*sample.values()))
    disagree = (era5 > 1) != (smap > 1)
    assert 0.02 < disagree.mean() < 0.2
    assert smap[disagree].mean() < 0.5 * smap[smap > 1].mean()  # on the small events


# --- the files


def test_files_are_prepared_data_sets_labelled_synthetic_with_whole_records(tmp_path):
    done = subprocess_script("data/make_sample.py", "--resolution", 8, "--out", tmp_path)
    assert done.code == 0 and "SYNTHETIC" in done.out, done.err
    mask = world.china(8.0).mask
    for name, first, last in (("era5_land", "2009-03-31", "2018-03-30"), ("smap_l4", "2015-03-31", "2019-03-30")):
        path = tmp_path / f"{name}_8deg.nc"
        ds = read_prepared(path)
        assert is_synthetic(ds) and ds.title.startswith("SYNTHETIC") and ds.seed == 1
        assert {"source", "comment", "references", "history", "Conventions"} <= ds.attrs.keys()
        assert str(tmp_path) not in str(ds.attrs)
        days = np.arange(np.datetime64(first), np.datetime64(last) + 1)
        np.testing.assert_array_equal(ds.time.values.astype("datetime64[D]"), days)
        for variable in VARIABLES:
            assert ds[variable].dtype == np.float32
            np.testing.assert_array_equal(np.isfinite(ds[variable].values), np.broadcast_to(mask, ds[variable].shape))


def test_the_same_seed_gives_the_same_file_on_any_number_of_threads_and_another_seed_another(tmp_path, monkeypatch):
    path, hashes = tmp_path / "smap_l4_10deg.nc", []
    for threads, seed in ((1, 0), (2, 0), (1, 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        assert subprocess_script("data/make_sample.py", "--resolution", 10, "--seed", seed, "--out", tmp_path).code == 0
        hashes.append(file_hash(path))
    assert hashes[0] == hashes[1] != hashes[2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["era5_land_10deg.nc", "smap_l4_10deg.nc"]


@pytest.mark.parametrize("arguments", ["--resolution 0", "--resolution -1", "--resolution 11", "--resolution nan"])
def test_an_impossible_resolution_gets_one_sentence(script, tmp_path, arguments):
    assert "0.5 to 10 degrees" in script("data/make_sample.py", *arguments.split(), "--out", tmp_path).sentence()
    assert not list(tmp_path.glob("*.nc"))


def test_other_bad_settings_get_one_sentence(script, tmp_path):
    assert "--seed -1" in script("data/make_sample.py", "--seed", -1, "--out", tmp_path).sentence()
    missing = script("data/make_sample.py", "--describe", "--resolution", 2, "--out", tmp_path).sentence()
    assert "python data/make_sample.py --resolution 2" in missing


def test_the_numbers_of_the_data_card_are_those_of_a_fresh_sample(tmp_path):
    assert subprocess_script("data/make_sample.py", "--out", tmp_path).code == 0
    fresh = subprocess_script("data/make_sample.py", "--describe", "--out", tmp_path).out.splitlines()
    card = (ROOT / "data" / "README.md").read_text().splitlines()
    rows = [line for line in fresh if line and not line.startswith("|---")]
    assert len(rows) == 1 + 10 + 1 + 2 + 1
    for row in rows:  # the card adds a last column, what is published
        assert any(line.startswith(row) for line in card), row
