"""The question about the limit: how much of what can be foretold at all each model has learned."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot
from torch import Tensor

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import forest, style
from utils.products.synthetic.predictability_limit import limit_of
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.scores.significance import ERROR_2, REFERENCE_2, N
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.questions.forecasts_shown import forecast_rows
from utils.study.results import SCRATCH, TRANSFERRED, Results

LIMIT_2 = REFERENCE_2 + 1  # one more column of daily sums: the limit's squared error
COLUMNS = {
    "lead_days": Column("lead", "days"),
    "share": Column("share of the predictable", "", ".2f"),
    "low": Column("from", "", ".2f"),
    "high": Column("to", "", ".2f"),
    "rmse": Column("RMSE", "m³ m⁻³", ".4f"),
    "rmse_persistence": Column("RMSE of persistence", "m³ m⁻³", ".4f"),
    "rmse_limit": Column("RMSE of the limit", "m³ m⁻³", ".4f"),
    "rmse_without_weather": Column("RMSE of the limit without weather", "m³ m⁻³", ".4f"),
    "n": Column("cell-days"),
}


def share(mean: Tensor) -> Tensor:
    """(MSE of persistence − MSE) / (MSE of persistence − MSE of the limit): 0 is persistence, 1 is the limit."""
    return (mean[REFERENCE_2] - mean[ERROR_2]) / (mean[REFERENCE_2] - mean[LIMIT_2])


def squared_error(observed: xr.DataArray, limit: xr.DataArray) -> Float[np.ndarray, "time"]:
    """The limit's squared error day by day, summed over the cells that are scored. UserError where it lacks one."""
    error = ((limit.reindex_like(observed) - observed) ** 2).transpose("time", "lat", "lon").values
    if (np.isnan(error) & observed.transpose("time", "lat", "lon").notnull().values).any():
        raise UserError("the limit of this sample is not there for all days and cells that the study scores.")
    return np.nansum(error, axis=(1, 2), dtype=np.float64)


@lru_cache(maxsize=1)
def shares(results: Results) -> pd.DataFrame | None:
    """What each baseline and model has learned, at each lead that there is a limit of; None where there is none."""
    limit = limit_of(results.study["data_sha256"][SCRATCH])
    if limit is None:
        return None
    names = [(SCRATCH, name) for name in BASELINES] + [(e, m) for e in (SCRATCH, TRANSFERRED) for m in results.models]
    rows = []
    for lead in results.leads:
        if lead not in limit["lead_days"]:
            continue
        there = limit.sel(lead_days=lead, drop=True)
        for experiment, model in names:
            seeds, found = results.seeds_of(experiment, model, lead) or [None], []
            for seed, sums in zip(seeds, results.sums(experiment, model, lead), strict=True):
                observed = results.predictions(experiment, model, lead, seed)["observed"]
                extra = [squared_error(observed, there[kind]) for kind in ("soil_moisture", "without_weather")]
                found.append(np.column_stack([sums, *extra]))
            got, total = significance.estimate(found, share), np.mean([sums.sum(0) for sums in found], axis=0)
            rmse = np.sqrt(total[ERROR_2:] / total[N])
            errors = zip(("rmse", "rmse_persistence", "rmse_limit", "rmse_without_weather"), rmse, strict=True)
            rows.append(
                {"experiment": experiment, "model": model, "lead_days": lead, "seeds": len(found)}
                | {"share": got.value, "low": got.low, "high": got.high, **dict(errors), "n": int(total[N])}
            )
    return pd.DataFrame(rows) if rows else None


def learned(results: Results, figures: Path) -> Section | None:
    """How much of the predictable each model has learned; None for data without a known limit."""
    found = shares(results)
    if found is None:
        return None
    path = figures / "limit.png"
    draw_shares(found, results.title("Share of the predictable that each model has learned"), path)
    best, limits = [], []
    for lead, rows in found.groupby("lead_days"):
        simple = rows[rows["model"].isin(BASELINES)].nlargest(1, "share").iloc[0]
        network = rows[~rows["model"].isin(BASELINES)].nlargest(1, "share").iloc[0]
        best.append(f"{format_days(int(lead))}: {_share(network)}, {_share(simple)}")
        persistence, limit, blind = (
            format_number(simple[f"rmse_{name}"], 4) for name in ("persistence", "limit", "without_weather")
        )
        limits.append(f"{format_days(int(lead))}: {persistence}, {limit} and {blind}")
    return Section(
        "How much of what can be foretold has each model learned?",
        "On this scale persistence has 0 % and the best possible forecast 100 %. The best network and the best "
        "baseline reach, with 95 % intervals:",
        [Figure(path, "Share of the predictable of all models and baselines, by lead", "Bars: 95 % intervals.")],
        "The best possible forecast is the sample's own land model. It starts from the true state, which no observer "
        "can know, and is the mean over the weather that may follow the present one. RMSE (m³ m⁻³) of persistence, of "
        f"this limit, and of the same limit under the weather of other years: {'; '.join(limits)}.",
        points=best,
    )


def _share(row: pd.Series) -> str:
    """A forecast and its share with the interval, in words."""
    name = row["model"] + (" with transfer" if row["experiment"] == TRANSFERRED else "")
    value, low, high = (format_number(100 * row[column], 0) for column in ("share", "low", "high"))
    return f"{name} {value} % ({low} to {high} %)"


def share_tables(results: Results) -> list[Table]:
    """The table behind the answer; none where there is no limit."""
    found = shares(results)
    caption = "0: persistence, 1: the best possible forecast of the SYNTHETIC sample. 95 % intervals, over all seeds."
    return [] if found is None else [Table("Share of the predictable", caption, found, COLUMNS)]


def draw_shares(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the share of the predictable that baselines and models have learned, by lead, as a forest plot.

    `table`: experiment, model (baselines too), lead_days, share (0: persistence, 1: the limit), low, high (95 %).
    A share that would ruin the axis, in any case below −1, is an arrow on its edge with the numbers.
    Raises UserError when the table holds no share.
    """
    style.save(_shares_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _shares_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes: the one panel."""
    table = style.finite_rows(table, "share", "low", "high")
    table = table[table["model"] != "persistence"]  # which is 0 by definition
    if table.empty:
        raise UserError("Shares of the predictable cannot be drawn: the table holds none.")
    looks = forest.lead_looks(table["lead_days"])
    points = table.assign(row=table["experiment"] + " " + table["model"]).rename(columns={"share": "value"})
    rows, shaded = forecast_rows(points)
    figure = style.new_figure(style.DOUBLE, 1.1 + forest.row_height(looks) * len(rows), title)
    ax = figure.subplots()
    ax.set_xlim(style.axis_limits(np.append(table["share"].to_numpy(), [0.0, 1.05]), style.WORST_SKILL))
    forest.prepare_rows(ax, list(rows.values()), shaded)
    ends = [
        ax.axvline(0, **style.baseline_line("persistence", width=0.8), label="persistence (0)"),
        ax.axvline(1, color="0.2", linewidth=0.8, linestyle=(0, (4, 2)), label="best possible (1)"),
    ]
    clipped = forest.draw_points(ax, points, list(rows), looks, by="lead_days")
    ax.set_xlabel("share of the possible improvement over persistence (–); higher is better")
    style.legend(figure, *style.in_rows([*forest.keys(looks, table, clipped), *ends], 4))
    return figure
