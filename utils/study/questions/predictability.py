"""The question about the limit: how much of what can be foretold at all each model has learned."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from utils.common.cli import UserError
from utils.common.text import days, number
from utils.products.synthetic.predictability_limit import limit_of
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.scores.significance import ERROR_2, REFERENCE_2, N
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.questions import draw_limit
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
    found = shares(results)
    if found is None:
        return None
    path = figures / "limit.png"
    draw_limit.draw_shares(found, results.title("Share of the predictable that each model has learned"), path)
    said, limits = [], []
    for lead, rows in found.groupby("lead_days"):
        simple = rows[rows["model"].isin(BASELINES)].nlargest(1, "share").iloc[0]
        network = rows[~rows["model"].isin(BASELINES)].nlargest(1, "share").iloc[0]
        name = network["model"] + " with transfer" * (network["experiment"] == TRANSFERRED)
        said.append(f"{days(int(lead))}: {name} {_share(network)}, {simple['model']} {_share(simple)}")
        columns = ("rmse_persistence", "rmse_limit", "rmse_without_weather")
        limits.append(f"{days(int(lead))}: " + ", ".join(number(simple[name], 4) for name in columns))
    return Section(
        "How much of what can be foretold has each model learned?",
        "On a share where persistence is 0 and the best possible forecast 1, with 95 % intervals, the best network and "
        f"the best baseline reach: {'; '.join(said)}.",
        [Figure(path, "Share of the predictable of all models and baselines, by lead", "Bars: 95 % intervals.")],
        results.reservations(
            "Best possible: the sample's own land model from its own state, mean over the weather ahead given the "
            "present one; it knows what no observer can. RMSE (m³ m⁻³) of persistence, of this limit, and of the same "
            f"under the weather of other years: {'; '.join(limits)}."
        ),
    )


def share_tables(results: Results) -> list[Table]:
    """The table behind the answer; none where there is no limit."""
    found = shares(results)
    caption = "0: persistence, 1: the best possible forecast of the SYNTHETIC sample. 95 % intervals, over all seeds."
    return [] if found is None else [Table("Share of the predictable", caption, found, COLUMNS)]


def _share(row: pd.Series) -> str:
    value, low, high = (number(100 * row[name], 0) for name in ("share", "low", "high"))
    return f"{value} % ({low} to {high} %)"
