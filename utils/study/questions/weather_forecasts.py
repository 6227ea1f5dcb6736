"""A question about the weather: what knowing that of the days ahead is worth, by how well it is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from utils.common.cli import UserError, fold
from utils.common.text import days, number, percent
from utils.dataset.weather_forecasts import kind_of_run
from utils.scores import significance
from utils.settings import run_folder
from utils.study.html_page import Figure, Section
from utils.study.plan import COMPACT, WEATHER
from utils.study.questions.draw_weather import draw_weather
from utils.study.results import TRANSFERRED, Results


def weather_of_study(results: Results, figures: Path) -> Section | None:
    """Of each model that a study has such runs of, with transfer."""
    found = []
    for model in dict.fromkeys((results.detail, COMPACT)):
        runs = {}
        for kind, variant in {"none": "", "degraded": WEATHER["degraded"], "perfect": WEATHER["perfect"]}.items():
            cases = [(lead, s) for lead in results.leads for s in results.seeds_of(TRANSFERRED, model + variant, lead)]
            folders = [run_folder(TRANSFERRED, model + variant, *case) for case in cases]
            runs[kind] = [results.out / "runs" / folder for folder in folders]
        if runs["perfect"] and runs["degraded"]:
            found.append(weather(**runs, figures=figures, name="weather" if not found else f"weather_{model}"))
    if not found:
        return None
    shown = [figure for section in found for figure in section.figures]
    answer = " ".join(section.answer for section in found)
    return Section(found[0].question, answer, shown, results.reservations(found[0].note))


def weather(
    none: Sequence[Path], degraded: Sequence[Path], perfect: Sequence[Path], figures: Path, name: str = "weather"
) -> Section:
    """From evaluated runs of one model: blind to the weather ahead, with a degraded and with a perfect forecast.

    Each sequence has the run directories of all leads and seeds; runs are paired by both, on the same samples. The
    figure is called `name`.
    Raises UserError where a run is not what it is given for, or runs cannot be paired.
    """
    runs = {"none": _read(none), "degraded": _read(degraded), "perfect": _read(perfect)}
    for kind, found in runs.items():
        for ds in found.values():
            _check(kind, ds)
        if found.keys() != runs["none"].keys():
            raise UserError(f"The runs with {kind} weather ahead have other leads or seeds than those without any.")
    leads = sorted({lead for lead, _ in runs["none"]})
    rows = [row for lead in leads for row in _rows(runs, lead)]
    first = next(iter(runs["none"].values()))
    model, synthetic = first.attrs["model"], first.attrs["synthetic"] == "true"
    path = figures / f"{name}.png"
    title = f"What knowing the weather ahead is worth: {model}" + (" (SYNTHETIC sample)" if synthetic else "")
    table = pd.DataFrame(rows)
    draw_weather(table, title, path)
    by = table.set_index(["kind", "lead_days"])
    said = [
        f"{days(lead)}: {number(by.loc[('none', lead), 'rmse'], 4)} without, {_words(by.loc[('degraded', lead)])} with "
        f"degraded and {_words(by.loc[('perfect', lead)])} with perfect forecasts"
        for lead in leads
    ]
    known = next(iter(runs["degraded"].values())).attrs["future"]
    return Section(
        "What is knowing the weather of the days ahead worth?",
        f"RMSE (m³ m⁻³) of {model}: {'; '.join(said)}. In brackets the change against the model that knows nothing of "
        "it; n.s.: not significant.",
        [Figure(path, "RMSE by lead without, with degraded and with perfect forecasts of the weather", "95 % bars.")],
        f"A perfect forecast is an upper bound that nobody has. The degraded one {known}.",
    )


def _rows(runs: dict[str, dict[tuple[int, int], xr.Dataset]], lead: int) -> list[dict]:
    """The table's rows of one lead."""
    seeds = [seed for at, seed in runs["none"] if at == lead]
    rows = []
    for kind, found in runs.items():
        score = significance.estimate([_sums(found[lead, s], found[lead, s], "persistence") for s in seeds], _RMSE)
        row = {"kind": kind, "lead_days": lead, "rmse": score.value, "low": score.low, "high": score.high}
        if kind != "none":
            sums = [_sums(found[lead, seed], runs["none"][lead, seed]) for seed in seeds]
            change = significance.estimate(sums, significance.rmse_change)
            verdict = significance.verdict(significance.estimate(sums, significance.mse_difference))
            row |= {"change": 100 * change.value, "change_low": 100 * change.low, "change_high": 100 * change.high}
            row |= {"significant": verdict in ("better", "worse")}
        rows.append(row)
    blind = runs["none"][lead, seeds[0]]
    sums = significance.daily_sums(*(blind[name].values for name in ("observed", "persistence", "persistence")))
    simple = significance.estimate([sums], _RMSE).value
    return [*rows, {"kind": "persistence", "lead_days": lead, "rmse": simple}]


_RMSE = significance.rmse


def _sums(one: xr.Dataset, other: xr.Dataset, against: str = "predicted") -> np.ndarray:
    """Daily sums of a run against another run's forecasts, on the same samples."""
    if not one["observed"].identical(other["observed"]):
        raise UserError(f"{one.attrs['model']} and {other.attrs['model']} were not evaluated on the same samples.")
    return significance.daily_sums(one["observed"].values, one["predicted"].values, other[against].values)


def _words(row: pd.Series) -> str:
    change = f"{percent(row['change'] / 100)}{'' if row['significant'] else ', n.s.'}"
    return f"{number(row['rmse'], 4)} ({change})"


def _check(kind: str, ds: xr.Dataset) -> None:
    """Raises UserError where a run does not know of the weather ahead what it is given for."""
    if kind_of_run(ds.attrs) != kind:
        known = ds.attrs.get("future") or "knows none of it"
        raise UserError(f"{ds.attrs['model']} was given as a run with {kind} weather ahead, but it {known}.")


def _read(run_dirs: Sequence[Path]) -> dict[tuple[int, int], xr.Dataset]:
    """Each run's predictions.nc, by lead and seed."""
    found = {}
    for run_dir in run_dirs:
        path = run_dir / "predictions.nc"
        try:
            with xr.open_dataset(path, engine="netcdf4") as ds:
                found[int(ds.attrs["lead_days"]), int(ds.attrs["seed"])] = ds.load()
        except Exception as error:  # every layer below raises its own kinds
            raise UserError(f"{path} cannot be read ({fold(error)[:100]}); evaluate the run first.") from error
    if not found:
        raise UserError("What the weather ahead is worth needs evaluated runs of each kind.")
    return found
