"""A question about the weather: what knowing that of the days ahead is worth, by how well it is known."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.cli import UserError, fold
from utils.common.text import format_days, format_number
from utils.dataset.prepared import in_brackets, label_of
from utils.dataset.weather_forecasts import kind_of_run
from utils.figures import forest, style
from utils.figures.style import UNITS
from utils.scores import significance
from utils.scores.significance import Estimate
from utils.settings import run_folder
from utils.study.claims import format_change, read_changes
from utils.study.html_page import Figure, Section
from utils.study.plan import WEATHER, closer_models
from utils.study.results import TRANSFERRED, Results

KINDS = {  # what is known of the weather ahead: name in the legend, look
    "none": ("no weather ahead", {"color": "#0072b2", "marker": "o"}),
    "degraded": ("degraded forecast", {"color": "#e69f00", "marker": "s"}),
    "perfect": ("perfect forecast: an upper bound", {"color": "#009e73", "marker": "D"}),
}


def weather_of_study(results: Results, figures: Path) -> Section | None:
    """Of each model that a study has such runs of, with transfer."""
    sections: list[Section] = []
    for model in closer_models(results.detail):
        variants = {"none": "", "degraded": WEATHER["degraded"], "perfect": WEATHER["perfect"]}
        runs = {kind: _run_dirs(results, model + variant) for kind, variant in variants.items()}
        if runs["perfect"] and runs["degraded"]:
            name = f"weather_{model}" if sections else "weather"
            sections.append(weather(**runs, figures=figures, name=name))
    if not sections:
        return None
    drawn = [figure for section in sections for figure in section.figures]
    return Section(
        sections[0].question,
        sections[0].answer,
        drawn,
        sections[0].note,
        points=[point for section in sections for point in section.points],
        in_short=" ".join(section.in_short for section in sections),
    )


def _run_dirs(results: Results, model: str) -> list[Path]:
    """The runs of a model with transfer, of all leads and seeds."""
    return [
        results.out / "runs" / run_folder(TRANSFERRED, model, lead, seed)
        for lead in results.leads
        for seed in results.seeds_of(TRANSFERRED, model, lead)
    ]


def weather(
    none: Sequence[Path], degraded: Sequence[Path], perfect: Sequence[Path], figures: Path, name: str = "weather"
) -> Section:
    """From evaluated runs of one model: blind to the weather ahead, with a degraded and with a perfect forecast.

    Each sequence has the run directories of all leads and seeds; runs of one lead are compared on the same samples. The
    figure is called `name`.
    Raises UserError where a run is not what it is given for, or runs cannot be paired.
    """
    runs = {"none": _read(none, "none"), "degraded": _read(degraded, "degraded"), "perfect": _read(perfect, "perfect")}
    for kind, predictions in runs.items():
        if predictions.keys() != runs["none"].keys():
            raise UserError(f"The runs with {kind} weather ahead have other leads or seeds than those without any.")
    leads = sorted({lead for lead, _ in runs["none"]})
    table = pd.DataFrame([row for lead in leads for row in _rows(runs, lead)])
    first = next(iter(runs["none"].values()))
    model = first.attrs["model"]
    path = figures / f"{name}.png"
    title = f"What knowing the weather ahead is worth: {model}" + in_brackets(label_of(first.attrs))
    draw_weather(table, title, path)
    known = next(iter(runs["degraded"].values())).attrs["future"]
    return Section(
        "What is knowing the weather of the days ahead worth?",
        "RMSE (m³ m⁻³) without the weather ahead; with degraded forecasts of it, and the change; with perfect "
        "forecasts, and the change:",
        [Figure(path, "RMSE by lead without, with degraded and with perfect forecasts of the weather", "95 % bars.")],
        f"A perfect forecast is an upper bound that nobody has. The degraded one {known}.",
        points=_points(model, table),
        in_short=_worth(model, table),
    )


def _rows(runs: dict[str, dict[tuple[int, int], xr.Dataset]], lead: int) -> list[dict]:
    """The table's rows of one lead."""
    seeds = [seed for at, seed in runs["none"] if at == lead]
    rows = []
    for kind, predictions in runs.items():
        own = [predictions[lead, seed] for seed in seeds]
        score = significance.estimate([_sums(run, run, "persistence") for run in own], significance.rmse)
        row = {"kind": kind, "lead_days": lead, "rmse": score.value, "low": score.low, "high": score.high}
        if kind != "none":
            others = [runs["none"][lead, seed] for seed in seeds]
            sums = [np.stack([_sums(run, other) for other in others]) for run in own]  # each learned independently
            change = significance.estimate(sums, significance.rmse_change)
            row |= change.to_per_cent("change", "change_low", "change_high") | {"p": change.p}
        rows.append(row)
    blind = runs["none"][lead, seeds[0]]
    persistence = blind["persistence"].values
    sums = significance.daily_sums(blind["observed"].values, persistence, persistence, days=blind["time"].values)
    simple = significance.estimate([sums], significance.rmse)
    return [*rows, {"kind": "persistence", "lead_days": lead, "rmse": simple.value}]


def _sums(one: xr.Dataset, other: xr.Dataset, against: str = "predicted") -> np.ndarray:
    """Daily sums of a run against another run's forecasts, on the same samples."""
    if not one["observed"].identical(other["observed"]):
        raise UserError(f"{one.attrs['model']} and {other.attrs['model']} were not evaluated on the same samples.")
    fields = (one["observed"].values, one["predicted"].values, other[against].values)
    return significance.daily_sums(*fields, days=one["time"].values)


def _changes(table: pd.DataFrame) -> dict[Hashable, Estimate]:
    """The changes by knowing the weather ahead, by the table's row; p is corrected for the number of all of them."""
    known = table[table["kind"].isin(["degraded", "perfect"])]
    changes = read_changes(known, ("change", "change_low", "change_high", "p"))
    return dict(zip(known.index, changes, strict=True))


def _worth(model: str, table: pd.DataFrame) -> str:
    """What knowing the weather ahead is worth to a model, in a sentence."""
    changes, said = _changes(table), []
    for kind in ("perfect", "degraded"):
        rows = table[table["kind"] == kind]
        own = [changes[row] for row in rows.index]
        better = sum(significance.verdict(change) == "better" for change in own)
        most = int(np.argmin([change.value for change in own]))
        ahead = f"{format_days(int(rows['lead_days'].iloc[most]))} ahead"
        said.append(
            f"in {better} of {len(own)} cases with {kind} forecasts, where the largest change is "
            + format_change(own[most], ahead)
        )
    return f"Knowing the weather ahead lowers the RMSE of {model} significantly {', and '.join(said)}."


def _points(model: str, table: pd.DataFrame) -> list[str]:
    """The errors of each lead in words, and their changes."""
    words = {row: format_change(change) for row, change in _changes(table).items()}
    points = []
    for lead, rows in table[table["kind"] != "persistence"].groupby("lead_days"):
        errors = [
            format_number(row.rmse, 4) + (f", {words[row.Index]}" if row.Index in words else "")
            for row in rows.itertuples()
        ]
        points.append(f"{model}, {format_days(int(lead))} ahead: {'; '.join(errors)}")
    return points


def _read(run_dirs: Sequence[Path], kind: str) -> dict[tuple[int, int], xr.Dataset]:
    """Each run's predictions.nc, by lead and seed. Raises UserError where a run has another kind of weather ahead."""
    predictions = {}
    for run_dir in run_dirs:
        path = run_dir / "predictions.nc"
        try:
            with xr.open_dataset(path, engine="netcdf4") as ds:
                run = ds.load()
        except Exception as error:  # every layer below raises its own kinds
            raise UserError(f"{path} cannot be read ({fold(error)[:100]}); evaluate the run first.") from error
        if kind_of_run(run.attrs) != kind:
            raise UserError(
                f"{run.attrs['model']} was given as a run with {kind} weather ahead, but it "
                f"{run.attrs.get('future') or 'knows none of it'}."
            )
        predictions[int(run.attrs["lead_days"]), int(run.attrs["seed"])] = run
    if not predictions:
        raise UserError("What the weather ahead is worth needs evaluated runs of each kind.")
    return predictions


def draw_weather(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE against lead for each kind of weather ahead, and the change of RMSE by knowing it, per cent.

    `table`: kind (none, degraded, perfect, persistence), lead_days, rmse, low, high (95 %, m3 m-3; may be NaN), and of
    degraded and perfect: change, change_low, change_high (per cent; negative: better). Raises UserError when no RMSE is
    there.
    """
    style.save(_weather_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _weather_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: RMSE, change."""
    table = style.finite_rows(table, "rmse", "low", "high").sort_values("lead_days")
    if table.empty:
        raise UserError("What the weather ahead is worth cannot be drawn: the table holds no RMSE.")
    figure = style.new_figure(style.DOUBLE, 2.7, title)
    error, change = figure.subplots(1, 2)
    change.axhline(0, color=KINDS["none"][1]["color"], linewidth=1)
    handles = []
    for kind, dodge in zip(KINDS, (-0.08, 0, 0.08), strict=True):
        rows = table[table["kind"] == kind]
        if len(rows):
            handles.append(_draw_kind(error, change, rows, kind, dodge))
    simple = table[table["kind"] == "persistence"]
    if len(simple):
        line = style.baseline_line("persistence", width=0.8)
        handles += error.plot(simple["lead_days"], simple["rmse"], label="persistence", **line)
    error.set_ylim(*style.axis_limits(table[["rmse", "low", "high"]].to_numpy().ravel()))
    error.set(title="(a) RMSE", xlabel="lead (d)", ylabel=f"RMSE ({UNITS})")
    change.set(title="(b) what knowing the weather changes", xlabel="lead (d)", ylabel="change of RMSE (%)")
    for ax in (error, change):
        ax.set_xticks(sorted(table["lead_days"].unique()))
        ax.margins(x=0.1)
        ax.grid(**style.GRID)
    style.legend(figure, handles, forest.NOTES)
    return figure


def _draw_kind(error: Axes, change: Axes, rows: pd.DataFrame, kind: str, dodge: float) -> Line2D:
    """RMSE by lead and, where weather is known, what that changes; returns the entry of the legend."""
    name, look = KINDS[kind]
    line = {**look, **style.EDGE, "markersize": 4, "linewidth": 1.2, "zorder": 4}
    x = rows["lead_days"].to_numpy(float) + dodge
    error.vlines(x, rows["low"], rows["high"], color=look["color"], linewidth=1, zorder=3)
    error.plot(x, rows["rmse"], label=name, **line)
    if kind != "none":
        change.plot(x, rows["change"], color=look["color"], linewidth=1.2)
        points = rows[["change", "change_low", "change_high"]].set_axis(["value", "low", "high"], axis=1)
        forest.draw_upright_points(change, x, points, line)
    return Line2D([], [], label=name, **line)
