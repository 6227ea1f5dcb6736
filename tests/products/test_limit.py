"""The limit is the optimum where theory knows it, nothing of a forecast's own future is in it, and shares are right."""

from dataclasses import fields

import numpy as np
import pytest
import xarray as xr
from conftest import subprocess_script, tiny

from utils.common.files import file_hash
from utils.common.grid import Grid
from utils.dataset.prepared import write_prepared
from utils.products.land_model import Forcing, run_land_model
from utils.products.synthetic import predictability_limit
from utils.products.synthetic.predictability_limit import SHIFTS, ensemble_means, limit_of, other_years, write_limit
from utils.products.synthetic.weather_generator import Field, Waves
from utils.scores.significance import daily_sums, estimate, mse_difference
from utils.study.questions import predictability
from utils.study.questions.predictability import share, shares, squared_error
from utils.study.results import Results

DAYS = np.arange("2007-03-31", "2019-03-31", dtype="datetime64[D]")
YEAR = range(len(DAYS) - 365, len(DAYS))
DECAY, LEADS = 0.9, (1, 3, 7)


# --- theory: a soil that forgets, s(t+1) = DECAY s(t) + w(t+1), under white weather w of variance 1


class Toy:
    def __init__(self, members: int = 50, cells: int = 300):
        rng = np.random.default_rng(0)
        self.rng, self.members = rng, members
        self.rain = rng.standard_normal((len(DAYS), cells))
        self.soil = np.zeros_like(self.rain)
        for day in range(1, len(DAYS)):
            self.soil[day] = DECAY * self.soil[day - 1] + self.rain[day]

    def run(self, today: int, rain: np.ndarray) -> np.ndarray:
        soil, following = self.soil[today], []
        for day in rain:
            soil = DECAY * soil + day
            following.append(soil)
        return np.stack(following)

    def ensembles(self, today: int, ahead: int) -> dict[str, np.ndarray]:
        sampled = self.rng.standard_normal((ahead, self.members, self.rain.shape[1]))
        years = self.rain[other_years(DAYS, today, ahead)]
        return {"soil_moisture": self.run(today, sampled), "without_weather": self.run(today, years)}


def test_the_error_of_the_limit_is_that_of_theory():
    toy = Toy()
    found = ensemble_means(YEAR, LEADS, toy.ensembles)
    for row, lead in enumerate(LEADS):
        optimum = (1 - DECAY ** (2 * lead)) / (1 - DECAY**2)  # variance of what is added after today
        years = other_years(DAYS, YEAR[0], 7).shape[1]
        for kind, members in (("soil_moisture", toy.members), ("without_weather", years)):
            mse = ((found[kind][row] - toy.soil[YEAR]) ** 2).mean()
            assert mse == pytest.approx(optimum * (1 + 1 / members), rel=0.03), (kind, lead)


def test_no_forecast_changes_with_its_own_future():
    toy, other = Toy(), Toy()
    today = YEAR[100]
    other.rain[today + 1 : today + 8] = 100.0
    one, changed = (world.ensembles(today, 7)["without_weather"] for world in (toy, other))
    np.testing.assert_array_equal(one, changed)


@pytest.mark.parametrize("today", ["2018-03-24", "2018-12-30", "2019-02-27", "2019-03-27", "2012-02-29"])
def test_other_years_are_the_same_time_of_all_other_years(today):
    place = int((np.datetime64(today) - DAYS[0]).astype(int))
    years = other_years(DAYS, place, 7)
    assert len(years) == 7 and years.min() >= 0 and years.max() < len(DAYS)
    assert 10 * len(SHIFTS) <= years.shape[1] < 12 * len(SHIFTS)
    assert (np.diff(years, axis=0) == 1).all()  # weather in its own order
    away = np.abs(years - place)
    assert away.min() > 330  # nothing of this year
    season = (away + 182) % 365.25 - 182
    assert np.abs(season).max() < max(SHIFTS) + 7 + 3


# --- the latent weather

FIELDS = {
    "still": Field(length=6.0, memory=3.0),
    "moving": Field(length=6.0, memory=2.0, drift=5.0, compensation=6.0),
}


def waves() -> Waves:
    grid = Grid(np.arange(54, 3, -5.0), np.arange(72, 137, 5.0))
    return Waves.of(FIELDS, grid, np.ones(grid.shape, bool))


def test_weather_goes_on_from_the_present_as_a_markov_chain_of_variance_1():
    ours, ahead = waves(), 4
    history, modes = ours.history(np.random.default_rng(0), 400, keep_from=0)
    expected = np.stack([ours.forecast(today, ahead) for today in modes[:-ahead]])  # day, lead, field, cell
    deviations = ours.deviations(np.random.default_rng(1), 300, ahead)
    assert np.isclose(history["still"][0], ours.on_land(modes[0])[0]).all()
    for lead in range(1, ahead + 1):
        np.testing.assert_allclose(expected[:, lead - 1, 0], np.exp(-lead / 3) * history["still"][:-ahead], atol=1e-4)
        for i, (name, field) in enumerate(FIELDS.items()):
            left = 1 - np.exp(-2 * lead / field.memory)  # variance not known
            truth = history[name][lead : len(modes) - ahead + lead]
            assert ((truth - expected[:, lead - 1, i]) ** 2).mean() == pytest.approx(left, rel=0.05)
            assert deviations[lead - 1, :, i].var() == pytest.approx(left, rel=0.05)
            assert np.corrcoef(truth.ravel(), expected[:, lead - 1, i].ravel())[0, 1] ** 2 == pytest.approx(
                1 - left, abs=0.04
            )


def test_some_fields_alone_behave_as_among_all():
    ours = waves()
    part, rows = ours.only("moving"), ours.rows("moving")
    _, (modes,) = ours.history(np.random.default_rng(0), 1, keep_from=0)
    np.testing.assert_array_equal(part.forecast(modes[rows], 3), ours.forecast(modes, 3)[:, rows])


# --- the sample's limit


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """A sample of 10° and its limit."""
    folder = tmp_path_factory.mktemp("sample")
    for name, more in (("make_sample", ()), ("make_limit", ("--members", 20, "--lead-days", 3, 7))):
        done = subprocess_script(f"data/{name}.py", "--resolution", 10, "--out", folder, *more)
        assert done.code == 0, done.err
    return folder


def test_the_file_says_what_it_is_and_to_which_sample_it_belongs(coarse):
    sha256 = file_hash(coarse / "smap_l4_10deg.nc")
    ds = limit_of(sha256, coarse)
    assert ds["soil_moisture"].dims == ("lead_days", "time", "lat", "lon") and ds["soil_moisture"].units == "m3 m-3"
    assert list(ds["lead_days"].values) == [3, 7] and ds.sizes["time"] == 365
    assert ds.synthetic == "true" and ds.title.startswith("SYNTHETIC") and str(coarse) not in str(ds.attrs)
    assert limit_of(sha256[::-1], coarse) is None and limit_of(sha256, coarse / "nowhere") is None
    with xr.open_dataset(coarse / "smap_l4_10deg.nc") as sample:
        land = sample["soil_moisture"][-1].notnull().values
    for kind in predictability_limit.LIMITS:
        np.testing.assert_array_equal(np.isfinite(ds[kind].values), np.broadcast_to(land, ds[kind].shape))


def test_nothing_is_better_than_the_limit_and_the_weather_is_worth_something(coarse):
    ds = limit_of(file_hash(coarse / "smap_l4_10deg.nc"), coarse)
    with xr.open_dataset(coarse / "smap_l4_10deg.nc") as sample:
        moisture = sample["soil_moisture"].load()
    observed = moisture[-365:].values
    for lead in (3, 7):
        at = ds.sel(lead_days=lead)
        best = at["soil_moisture"].values
        for rival in (at["without_weather"].values, moisture.shift(time=lead)[-365:].values):
            found = estimate([daily_sums(observed, best, rival, at["time"].values)], mse_difference)
            assert found.value < 0 and (found.significant or lead > 3), (lead, found)  # ten cells say little


def test_the_same_seed_gives_the_same_limit_on_any_number_of_threads(coarse, tmp_path, monkeypatch):
    for name in ("smap_l4_10deg.nc",):
        (tmp_path / name).write_bytes((coarse / name).read_bytes())
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    more = ("--resolution", 10, "--out", tmp_path, "--members", 20, "--lead-days", 7, 3)
    assert subprocess_script("data/make_limit.py", *more).code == 0
    assert file_hash(tmp_path / "limit_10deg.nc") == file_hash(coarse / "limit_10deg.nc")


def test_the_ensemble_is_as_wide_as_its_errors():
    targets = range(len(predictability_limit.DAYS) - 365, len(predictability_limit.DAYS) - 10)
    truth, square, spread = predictability_limit.Truth(10.0, 0, targets[0], members=40), [], []
    for today in targets[::3]:
        members = truth.ensembles(today, 5)["soil_moisture"][-1]
        square.append(((members.mean(0) - truth.observed[today + 5]) ** 2).mean())
        spread.append(members.var(0, ddof=1).mean())
    assert np.mean(square) == pytest.approx(np.mean(spread), rel=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", 2), "seed 2"),
        (("--resolution", 9), "python data/make_sample.py --resolution 9"),
        (("--members", 3), "--members 3"),
        (("--lead-days", 0), "--lead-days"),
    ],
)
def test_a_limit_for_another_sample_gets_one_sentence(coarse, script, arguments, message):
    before = file_hash(coarse / "limit_10deg.nc")
    assert message in script("data/make_limit.py", "--resolution", 10, "--out", coarse, *arguments).sentence()
    assert file_hash(coarse / "limit_10deg.nc") == before


# --- shares


def test_persistence_has_learned_nothing_the_limit_everything_and_half_is_half():
    rng = np.random.default_rng(0)
    observed = rng.standard_normal((365, 40))
    last, best = observed + 2 * rng.standard_normal(observed.shape), observed + rng.standard_normal(observed.shape)
    extra, days = ((best - observed) ** 2).sum(1), np.datetime64("2018-01-01") + np.arange(365)
    for forecast, expected in ((last, 0.0), (best, 1.0)):
        found = estimate([np.column_stack([daily_sums(observed, forecast, last, days), extra])], share)
        assert found.value == pytest.approx(expected, abs=1e-9) and found.high - found.low < 1e-9
    middling = observed + np.sqrt(2.5) * rng.standard_normal(observed.shape)
    found = estimate([np.column_stack([daily_sums(observed, middling, last, days), extra])], share)
    assert found.low < 0.5 < found.high and found.high - found.low < 0.2


class Study(Results):
    """What `shares` asks of a study's results: one lead, one model that is the limit itself, on gappy days."""

    models, leads, study = ["cnn"], [3], {"data_sha256": {"SMAPtest": "abc"}}

    def __init__(self, folder):
        ds = tiny(days=80)
        maps = ds["soil_moisture"]
        self.last = maps.shift(time=3)[3:]
        self.best = maps[3:] + 0.3 * (self.last - maps[3:])
        self.observed = maps[3:].where(np.random.default_rng(0).random(maps[3:].shape) > 0.4)
        write_prepared(ds, folder / "sample.nc")
        self.study = {"data_sha256": {"SMAPtest": file_hash(folder / "sample.nc")}}
        forecasts = {name: self.best.expand_dims(lead_days=[3, 5]) for name in predictability_limit.LIMITS}
        write_limit(xr.Dataset(forecasts), folder / "sample.nc", folder / "limit_x.nc", {"title": "SYNTHETIC"})

    def seeds_of(self, experiment, model, lead):
        return [0] * (model == "cnn")

    def predictions(self, experiment, model, lead, seed):
        assert lead == 3
        return {"observed": self.observed}

    def sums(self, experiment, model, lead):
        forecast = self.best if model == "cnn" else self.last
        days = self.observed["time"].values
        return [daily_sums(self.observed.values, forecast.values, self.last.values, days)]


def test_shares_of_a_study_are_of_the_cell_days_that_it_scores(tmp_path, monkeypatch):
    study = Study(tmp_path)
    monkeypatch.setattr(predictability, "limit_of", lambda sha256: limit_of(sha256, tmp_path))
    rows = shares(study).set_index(["experiment", "model"])
    assert rows.loc["SMAPtest", "persistence"]["share"] == pytest.approx(0, abs=1e-9)
    assert rows.loc["finetune-SMAPtest", "cnn"]["share"] == pytest.approx(1, abs=1e-5)
    valid = np.isfinite(study.observed.values)
    assert rows["n"].eq(valid.sum()).all()
    naive = np.sqrt(np.mean((study.best - study.observed).values[valid].astype(float) ** 2))
    assert rows["rmse_limit"].to_numpy() == pytest.approx(naive, rel=1e-5)


def test_without_a_limit_of_its_own_data_a_study_says_nothing(tmp_path, monkeypatch):
    study = Study(tmp_path)
    monkeypatch.setattr(predictability, "limit_of", lambda sha256: limit_of(sha256, tmp_path))
    write_prepared(tiny(days=80, seed=1), tmp_path / "sample.nc")  # another seed
    study.study = {"data_sha256": {"SMAPtest": file_hash(tmp_path / "sample.nc")}}
    assert shares(study) is None and predictability.learned(study, tmp_path) is None


def test_a_limit_that_lacks_a_scored_day_is_refused(tmp_path):
    study = Study(tmp_path)
    with pytest.raises(predictability.UserError, match="all days and cells"):
        squared_error(study.observed, study.best[5:])
    whole = squared_error(study.observed, study.best)
    np.testing.assert_allclose(squared_error(study.observed[5:], study.best), whole[5:])


def test_the_land_model_runs_ensembles_as_it_runs_each_member():
    first = len(predictability_limit.DAYS) - 20
    truth = predictability_limit.Truth(10.0, 0, first, members=4)
    today = first + 3
    places = other_years(predictability_limit.DAYS, today, 5)
    together = truth.ensembles(today, 5)["without_weather"]
    for member in (0, 7):
        one = {f.name: getattr(truth.forcing, f.name)[places[:, member]] for f in fields(truth.forcing)}
        alone, _ = run_land_model(truth.states[3], truth.soil, Forcing(**one))
        np.testing.assert_allclose(together[:, member], alone, rtol=1e-12)
    own, _ = run_land_model(truth.states[3], truth.soil, truth.forcing[today + 1 : today + 6])
    np.testing.assert_allclose(own, truth.moisture[today + 1 : today + 6], rtol=1e-12)  # true weather: the truth
