"""Antecedent features and the baselines built on them, against loops, scikit-learn and real observations."""

import numpy as np
import pytest
import xarray as xr
from conftest import REAL, tiny
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import utils.scores.fitting
from utils.common.periods import Split, spans
from utils.common.ridge import PENALTIES, Regression, sum_products
from utils.data_processing import Windows
from utils.dataset.antecedent_features import FEATURES as TABLE
from utils.dataset.antecedent_features import AntecedentFeatures
from utils.dataset.predictors import OLDEST
from utils.dataset.prepared import write_prepared
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.models.change_net import FEATURES as CHANGE_NET
from utils.scores.baseline_runs import FittedBaselines
from utils.scores.baselines import BASELINES, damped_persistence, decay_scale, ridge_memory
from utils.scores.fitting import FEATURES, Fitting

NAMES = ["persistence", "damped_persistence", "climatology", "ridge", "ridge_memory_train", "ridge_memory", "boosting"]
CONUS = REAL / "conus" / "smap_l3_conus.nc"
real = pytest.mark.skipif(not CONUS.exists(), reason="the real data are not part of the project")


def gappy(days: int = 120, share: float = 0.58, gap: slice = slice(50, 57)) -> xr.Dataset:
    """Much soil moisture missing, a week missing in `time`, a cell first observed on day 80, some rain missing."""
    ds = tiny(days)
    rng = np.random.default_rng(3)
    ds["soil_moisture"] = ds["soil_moisture"].where(rng.random(ds["soil_moisture"].shape) > share)
    ds["precipitation"] = ds["precipitation"].where(rng.random(ds["precipitation"].shape) > 0.02)
    ds["soil_moisture"][:80, 1, 1] = np.nan
    return ds.isel(time=np.delete(np.arange(days), gap))


def forecasts(training: Windows, test: Windows, days) -> dict[str, np.ndarray]:
    """Every baseline's, by its name."""
    fitting = Fitting(training, test, days)
    return {name: row.forecast(fitting) for name, row in BASELINES.items()}


def prepared(ds, train=("2015-03-31", "2015-06-15"), test=("2015-07-01", "2015-07-28"), lead=3):
    """Training and test windows, as many input days as lead days, and the training spans."""
    split = Split(spans("train", train), spans("val", train), spans("test", test))
    record = Record(ds, Statistics.fit(ds, split))
    return (
        Windows(record, periods=split.train, lead_days=lead, input_days=lead, name="training"),
        Windows(record, periods=split.test, lead_days=lead, input_days=lead, name="test"),
        split.train,
    )


def remembered(record: Record, day: int, row: int, column: int) -> dict[str, float]:
    """One cell's features of the past at the end of a day, found day by day backwards to the start or a gap."""
    mean = record.statistics.cell_mean[:, row, column].astype(float)
    low, span = record.statistics.low.astype(float), record.statistics.span.astype(float)
    filled = record.features[:, :, row, column].numpy() * span + low
    back = [day]
    while back[-1] > 0 and record.days[back[-1]] - record.days[back[-1] - 1] == np.timedelta64(1, "D"):
        back.append(back[-1] - 1)
    anomalies = [float(record.observed[d, row, column]) - mean[1] for d in back]
    rain = [max(filled[d, 0], 0) ** 0.5 for d in back]
    seen = [(age, value) for age, value in enumerate(anomalies) if np.isfinite(value)]
    found = {
        "last_anomaly": seen[0][1] if seen else 0,
        "last_anomaly_age": min(seen[0][0], OLDEST) if seen else OLDEST,
        "soil_temperature_anomaly": filled[day, 2] - mean[2],
        "near_freezing": np.clip(filled[day, 2] - 273.15, -10, 15),
    }
    for lag in (1, 2):
        before = back[min(lag, len(back) - 1)]
        known = [value for age, value in seen if back[age] <= before]
        found[f"moisture_change_{lag}"] = found["last_anomaly"] - (known[0] if known else 0)
        found[f"soil_temperature_change_{lag}"] = filled[day, 2] - filled[before, 2]
    weights = np.exp(-np.arange(len(back)) / 20)
    found["near_freezing_20"] = weights @ np.clip(filled[back, 2] - 273.15, -10, 15) / weights.sum()
    for scale in (5, 20, 60, 150):
        total = sum(value * np.exp(-age / scale) for age, value in seen)
        found[f"moisture_anomaly_{scale}"] = total / (1 + sum(np.exp(-age / scale) for age, _ in seen))
    for scale in (3, 10, 30, 90):
        weights = np.exp(-np.arange(len(rain)) / scale)
        found[f"root_rain_{scale}"] = weights @ rain / weights.sum()
    return found | {f"root_rain_lag_{lag}": rain[min(lag, len(rain) - 1)] for lag in range(5)}


def test_every_feature_of_the_past_is_what_a_loop_over_the_past_days_finds():
    training, _, _ = prepared(gappy())
    others = ("last_anomaly_age_7", "root_rain_since")  # of the compact model, whose tests have them
    names = [name for name in dict.fromkeys((*FEATURES, *CHANGE_NET)) if name not in others]
    names = tuple(name for name in names if TABLE[name].kind == "past")
    memory = AntecedentFeatures(training.record, names)
    for day in (0, 1, 4, 49, 50, 51, 60, 112):  # the week without days lies before day 50
        for row, column in ((0, 0), (1, 1), (4, 6)):
            expected = remembered(training.record, day, row, column)
            assert set(expected) == set(names)
            for name, value in expected.items():
                assert memory[name][day, row, column] == pytest.approx(value, rel=1e-4, abs=2e-4), (name, day)


def test_all_features_have_a_name_and_a_map_and_are_finite():
    training, _, _ = prepared(gappy())
    memory, index = AntecedentFeatures(training.record, FEATURES), np.array([0, 30, 100])
    found = dict(zip(FEATURES, np.moveaxis(memory.at(index), 1, 0), strict=True))
    assert len(found) == len(FEATURES) and all(np.isfinite(values).all() for values in found.values())
    assert all(feature.unit for feature in TABLE.values())
    scored, statistics = training.record.statistics.scored, training.record.statistics
    np.testing.assert_array_equal(found["mean_soil_moisture"][1][scored], statistics.cell_mean[1][scored])
    np.testing.assert_array_equal(found["last_anomaly"], memory["last_anomaly"][index])
    wave = found["season_cosine"][:, 0, 0] ** 2 + found["season_sine"][:, 0, 0] ** 2
    np.testing.assert_allclose(wave, 1, rtol=1e-6)
    assert not memory.at(index)[:, :, ~scored].any() and not scored.all()


def test_a_gap_in_time_starts_the_features_afresh():
    ds = gappy()
    changed = ds.copy(deep=True)
    for name, other in (("soil_moisture", 0.4), ("precipitation", 77.0), ("soil_temperature", 250.0)):
        changed[name][:50] = changed[name][:50].where(changed[name][:50].isnull(), other)
    training, _, _ = prepared(ds)
    statistics = training.record.statistics
    one, other = (AntecedentFeatures(Record(values, statistics), FEATURES).past for values in (ds, changed))
    np.testing.assert_array_equal(one[50:], other[50:])
    assert not np.array_equal(one[:50], other[:50])


@pytest.mark.parametrize("lead", [1, 4])
def test_a_forecast_knows_nothing_after_its_last_input_day(lead):
    ds = gappy()
    training, test, days = prepared(ds, lead=lead)
    cut = int(np.flatnonzero(test.record.days == test.init_time[10])[0]) + 1
    changed = ds.copy(deep=True)
    for name in changed:
        changed[name][cut:] = changed[name][cut:] * 0.5 + 1e-3
    before = forecasts(training, test, days)
    after = forecasts(*prepared(changed, lead=lead))
    assert list(before) == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(before[name][:11], after[name][:11], err_msg=name)
    assert not np.array_equal(before["ridge_memory"][11:], after["ridge_memory"][11:])


@pytest.mark.parametrize(
    "train", [("2015-03-31", "2015-06-15"), ("2015-06-10", "2015-06-24"), ("2015-06-10", "2015-06-15")]
)
def test_every_forecast_is_finite_where_there_is_an_observation(train):
    """With a cell that has no observation in the training period, and with hardly any training days."""
    ds = gappy(gap=slice(0, 0))
    ds["soil_moisture"][:88, 0, 2] = np.nan
    ds["soil_moisture"][:10, 3, 3] = np.float32(0.2)
    ds["soil_moisture"][10:88, 3, 3] = np.nan
    training, test, days = prepared(ds.sel(time=slice(train[0], None)), train)
    assert np.isfinite(test.observed[:, 0, 2]).any()
    for name, forecast in forecasts(training, test, days).items():
        assert forecast.dtype == np.float32 and forecast.shape == test.observed.shape
        assert np.isfinite(forecast[np.isfinite(test.observed)]).all(), name


def autoregressive(days: int, decay: float, share: float, shape=(4, 5)) -> xr.Dataset:
    """Soil moisture whose anomalies decay by the same factor every day, some of it missing."""
    rng = np.random.default_rng(5)
    ds = tiny(days, shape=shape)
    state = np.empty((days, *shape))
    state[0] = rng.normal(0, 0.03, shape)
    for day in range(1, days):
        state[day] = decay * state[day - 1] + rng.normal(0, 0.03 * (1 - decay**2) ** 0.5, shape)
    keep = rng.random(state.shape) > share
    ds["soil_moisture"] = ds["soil_moisture"].dims, np.where(keep, 0.25 + state, np.nan).astype("f4")
    return ds


@pytest.mark.parametrize("decay", [0.8, 0.95])
@pytest.mark.parametrize("share", [0, 0.6])
def test_the_decay_of_an_autoregressive_soil_is_found_again(decay, share):
    periods = {"train": ("2015-03-31", "2021-12-31"), "test": ("2022-01-01", "2022-01-31")}
    training, test, days = prepared(autoregressive(2600, decay, share), **periods)
    fitting = Fitting(training, test, days)
    scale = decay_scale(fitting)
    assert np.median(np.exp(-1 / scale)) == pytest.approx(decay, abs=0.02)
    np.testing.assert_allclose(np.exp(-1 / scale), decay, atol=0.05)
    forecast = damped_persistence(fitting)
    sample, last = 7, test.target_index[7] - 3
    values = test.record.observed[: last + 1, 2, 2]
    age = int(np.flatnonzero(np.isfinite(values)[::-1])[0])
    assert forecast[sample, 2, 2] == pytest.approx(0.25 + decay ** (age + 3) * (values[last - age] - 0.25), abs=6e-3)


def test_a_cell_with_few_samples_decays_as_the_others_do():
    ds = autoregressive(600, 0.9, 0)
    ds["soil_moisture"][:, 1, 1] = np.nan
    ds["soil_moisture"][::199, 1, 1] = np.float32([0.22, 0.28, 0.22, 0.28])
    scale = decay_scale(Fitting(*prepared(ds, ("2015-03-31", "2016-08-31"), ("2016-10-01", "2016-11-15"))))
    assert np.isfinite(scale).all() and scale[1, 1] == pytest.approx(np.median(scale), rel=0.3)


def naive_ridge(x, y, penalty, last):
    """scikit-learn's regression, drawn to the regression on column `last` alone; a function of other rows."""
    scaler, mean = StandardScaler().fit(x), y.mean()
    z = scaler.transform(x)
    alone = np.linalg.lstsq(z[:, [last]], y - mean, rcond=None)[0][0]
    model = Ridge(alpha=penalty).fit(z, y - mean - alone * z[:, last])
    return lambda rows: model.predict(scaler.transform(rows)) + alone * scaler.transform(rows)[:, last] + mean


def naive_best(x, y, part, penalties, last):
    """The best penalty by fits that know nothing of the part held out."""

    def error(penalty):
        fits = [(naive_ridge(x[part != i], y[part != i], penalty, last), part == i) for i in np.unique(part)]
        return sum(np.sum((fit(x[rest]) - y[rest]) ** 2) for fit, rest in fits)

    return min(penalties, key=error)


def naive_ridge_memory(training, test):
    """Without the samples that stand for the error of the mean, which scikit-learn's rows cannot say."""
    used = [i for i, name in enumerate(FEATURES) if "season" not in name and TABLE[name].unit != "K"]
    last = [FEATURES[i] for i in used].index("last_anomaly")

    def inputs(windows):
        memory = AntecedentFeatures(windows.record, FEATURES)
        return np.moveaxis(memory.at(windows.target_index - windows.lead_days)[:, used].astype(float), 1, -1)

    mean = training.record.statistics.cell_mean[1]
    target, part = training.observed - mean, np.empty(training.observed.shape, int)
    for i, block in enumerate(np.array_split(np.arange(len(training)), 3)):
        part[block] = i
    valid = np.isfinite(target)
    x, y = inputs(training)[valid], target[valid]
    penalty = naive_best(x, y, part[valid], np.array(PENALTIES) * len(y) / len(training), last)
    found = np.full(test.observed.shape, np.nan)
    scored = test.record.statistics.scored
    found[:, scored] = naive_ridge(x, y, penalty, last)(inputs(test)[:, scored].reshape(-1, len(used))).reshape(
        len(test), -1
    )
    return found + mean


def test_ridge_with_memory_agrees_with_scikit_learn(monkeypatch):
    monkeypatch.setattr(utils.scores.fitting, "CORRELATED_DAYS", 0)
    training, test, days = prepared(gappy(gap=slice(20, 23)), lead=4)
    found = ridge_memory(Fitting(training, test, days))
    np.testing.assert_allclose(found, naive_ridge_memory(training, test), atol=1e-5)


def test_the_penalty_is_chosen_by_fits_that_know_nothing_of_the_block_held_out():
    """The last block has another level and another slope: a fit that knew them would choose another penalty."""
    rng = np.random.default_rng(3)
    part = np.repeat([0, 1, 2], 40)
    x = rng.normal(size=(120, 6)) * np.where(part == 2, 4, 1)[:, None] + np.where(part == 2, 3, 0)[:, None]
    y = x @ rng.normal(size=6) * np.where(part == 2, -0.5, 1) + rng.normal(size=120)
    products = np.stack([sum_products(x[part == i], y[part == i]) for i in range(3)])
    penalties = np.geomspace(0.1, 1000, 9)
    assert Regression(products, towards=2).best(penalties) == naive_best(x, y, part, penalties, last=2)


def test_one_ridge_learns_from_training_days_and_the_other_from_validation_days_too(tmp_path, monkeypatch):
    monkeypatch.setattr(utils.scores.fitting, "CORRELATED_DAYS", 0)
    ds = gappy(gap=slice(0, 0))
    write_prepared(ds, tmp_path / "smap.nc")
    train, val = (("2015-03-31", "2015-05-31"), ("2015-06-01", "2015-06-30"))
    periods = {"train": spans("train", train), "val": spans("val", val)}
    periods["test"] = spans("test", ("2015-07-01", "2015-07-28"))
    path = tmp_path / "smap.nc"
    fitted = FittedBaselines(learn_from=path, data=path, **periods, lead_days=3, input_days=3, start=None)
    found = fitted.forecasts(fitted.test.blocks[0])
    for name, end in (("ridge_memory_train", "2015-05-31"), ("ridge_memory", "2015-06-30")):
        training, test, _ = prepared(ds, ("2015-03-31", end))
        np.testing.assert_allclose(found[name], naive_ridge_memory(training, test), atol=2e-5, err_msg=name)
    assert np.nanmax(np.abs(found["ridge_memory"] - found["ridge_memory_train"])) > 1e-3


def test_the_mean_of_fewer_days_is_less_certain():
    parts = [prepared(tiny(), ("2015-03-31", end)) for end in ("2015-06-15", "2015-04-20")]
    long = parts[0][0]
    found = [Fitting(*part).pooled.mean_error for part in parts]
    variance = np.nanvar(long.observed - long.record.statistics.cell_mean[1])
    assert found[0] == pytest.approx(variance * utils.scores.fitting.CORRELATED_DAYS / 77, rel=0.05)
    assert found[1] > found[0]


def rmse(windows: Windows, maps: dict) -> dict[str, float]:
    """Over the cell-days whose last observation is at most 7 days old at the last input day."""
    last = windows.target_index - windows.lead_days
    recent = np.any([np.isfinite(windows.record.observed[last - age]) for age in range(8)], axis=0)
    used = recent & np.isfinite(windows.observed)
    error = {name: (forecast - windows.observed)[used] for name, forecast in maps.items()}
    return {name: float(np.sqrt(np.mean(values.astype(float) ** 2))) for name, values in error.items()}


@real
@pytest.mark.parametrize(
    ("lead", "reference"),
    [
        (3, (0.0439, 0.0424, 0.0437, 0.0410)),
        (5, (0.0479, 0.0457, 0.0474, 0.0459)),
        (7, (0.0509, 0.0487, 0.0496, 0.0496)),
    ],
)
def test_on_real_observations_every_baseline_is_as_good_as_one_made_by_other_hands(lead, reference):
    with xr.open_dataset(CONUS) as ds:
        training, test, days = prepared(ds.load(), ("2015-04-01", "2015-12-31"), ("2016-01-01", "2016-03-31"), lead)
    found = rmse(test, forecasts(training, test, days))
    assert found["persistence"] == pytest.approx(reference[0], abs=6e-5)
    for name, best in zip(("damped_persistence", "ridge", "ridge_memory"), reference[1:], strict=True):
        assert found[name] < best, name


@real
@pytest.mark.parametrize("lead", [3, 5, 7])
def test_a_real_record_of_thirty_days_is_enough_to_be_no_worse_than_persistence(lead):
    """As `--target-days 30` cuts it: 24 days to learn from, and nothing before them."""
    with xr.open_dataset(CONUS) as ds:
        cut = ds.sel(time=slice("2015-12-02", None)).load()
    training, test, days = prepared(cut, ("2015-12-02", "2015-12-25"), ("2016-01-01", "2016-03-31"), lead)
    found = rmse(test, forecasts(training, test, days))
    assert found["damped_persistence"] < found["persistence"]
    assert found["ridge_memory"] < found["persistence"]
