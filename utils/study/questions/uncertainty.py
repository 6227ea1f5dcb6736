"""The question about uncertainty: whether the intervals of forecast.py hold on the test days."""

from functools import lru_cache
from itertools import cycle
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import forest, style
from utils.figures.style import UNITS
from utils.forecasts.calibration import LEVELS, Calibration, OutOfSample, combination_weights
from utils.forecasts.climatology import Climatology
from utils.forecasts.event_scores import EventScores, score_events
from utils.forecasts.quantile_scores import QuantileScores
from utils.scores import significance
from utils.scores.changes import format_p
from utils.scores.metrics import SEASONS
from utils.scores.significance import Estimate
from utils.settings import run_folder
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.plan import closer_models
from utils.study.questions.drought import DROUGHT, describe_drought, draw_drought, drought_columns
from utils.study.results import TRANSFERRED, Results

SIMPLE = ("persistence", "climatology")
COLUMNS = {
    "lead_days": Column("lead", "days"),
    "crps": Column("CRPS", "m³ m⁻³", ".4f"),
    "against_climatology": Column("CRPS less climatology's", "m³ m⁻³", ".4f"),
    "low": Column("from", "", ".4f"),
    "high": Column("to", "", ".4f"),
    "coverage": Column("coverage of the 90 % interval", "%", ".1f"),
    "coverage_low": Column("from", "", ".1f"),
    "coverage_high": Column("to", "", ".1f"),
    "coverage_p": Column("p of 90 %", "", ".3f"),
    **{f"coverage_{season}": Column(season, "%", ".1f") for season in SEASONS},
    "width": Column("width of the 90 % interval", "m³ m⁻³", ".3f"),
    **DROUGHT,
    "n": Column("cell-days"),
}


@lru_cache(maxsize=1)
def probabilities(results: Results) -> pd.DataFrame | None:
    """A row for each lead and forecast: models with transfer, simple ones. None: no runs.

    `reliability` holds a share for each of LEVELS; utils/study/questions/drought.py names the columns of drought.
    """
    rows = []
    for lead in results.leads:
        found: dict[str, QuantileScores] = {}
        events: dict[str, dict[str, EventScores]] = {}
        for model in closer_models(results.detail):
            folders = [
                results.out / "runs" / run_folder(TRANSFERRED, model, lead, seed)
                for seed in results.seeds_of(TRANSFERRED, model, lead)
            ]
            held = [folder / "held_out" / "predictions.nc" for folder in folders]
            if not held or not all(path.exists() for path in held):
                continue
            weights = combination_weights(held)
            names = {model: "predicted"} | ({name: name for name in SIMPLE} if not found else {})
            for name, variable in names.items():
                held_out = OutOfSample.read(held, weights, variable)
                calibration = Calibration.of(held_out)
                tested = OutOfSample.read([folder / "predictions.nc" for folder in folders], weights, variable)
                found[name] = QuantileScores.of(tested, calibration)
                events[name] = score_events(tested, calibration, Climatology.of(held_out))
        for name, scores in found.items():
            covered = scores.covered
            change = significance.estimate([scores.daily_sums(found["climatology"])], significance.mse_difference)
            rows.append(
                {"model": name, "lead_days": lead, "crps": scores.mean_crps, "against_climatology": change.value}
                | {"low": change.low, "high": change.high}
                | covered.to_per_cent("coverage", "coverage_low", "coverage_high")
                | {"coverage_p": covered.p}
                | {f"coverage_{season}": 100 * scores.by_season.get(season, np.nan) for season in SEASONS}
                | {"width": scores.width, "n": int(scores.n.sum()), "reliability": scores.below}
                | drought_columns(events[name], events["persistence"])
            )
    return pd.DataFrame(rows) if rows else None


def how_sure(results: Results, figures: Path) -> Section | None:
    """How sure the forecasts are: coverage, width and CRPS; None where no run has intervals."""
    scores = probabilities(results)
    if scores is None:
        return None
    path = figures / "reliability.png"
    draw_reliability(scores, LEVELS, results.title("Reliability of the quantiles, and CRPS, on the test days"), path)
    models = scores[~scores["model"].isin(SIMPLE)]
    covered = [_coverage(str(model), rows) for model, rows in models.groupby("model", sort=False)]
    in_short = _describe_coverage(models)
    ranked = [_ranking(int(lead), rows) for lead, rows in scores.groupby("lead_days")]
    return Section(
        "How sure are the forecasts?",
        f"{in_short} They contain: {'; '.join(covered)}. CRPS (m³ m⁻³), lower is better:",
        [Figure(path, "Observed frequency of less soil moisture than each quantile, and CRPS by lead", "")],
        "With transfer. The intervals are conformal. They come from forecasts of training and validation days by "
        "models that were fine-tuned without these days, in four blocks of time. The pre-training may have seen the "
        f"same days of {results.source_name}. Persistence and climatology are treated in the same way."
        + (" All ages of the last observation went into them." if results.study.get("max_input_age") else ""),
        points=ranked,
        in_short=in_short,
    )


def how_dry(results: Results, figures: Path) -> Section | None:
    """How good the chances of unusually dry soil are; None where the runs learned from too few years to say it."""
    scores = probabilities(results)
    if scores is None or scores["dry_skill"].isna().all():
        return None
    path = figures / "drought.png"
    draw_drought(scores, results.title("Chance of unusually dry soil: reliability and skill on the test days"), path)
    answer, points = describe_drought(scores)
    return Section(
        "Do the forecasts warn of unusually dry soil?",
        answer,
        [Figure(path, "How often unusually dry soil came by the chance it was given, and Brier skill by lead", "")],
        "With transfer. The chances come from the quantiles of the question above, those of persistence as well. The "
        "percentiles come from training and validation days, each year compared with the cycle of the others.",
        points=points,
    )


def _describe_coverage(rows: pd.DataFrame) -> str:
    """Which share of the observations the intervals contain, and how often that is not 90 %, in a sentence."""
    estimates = [
        Estimate(*values) for values in rows[["coverage", "coverage_low", "coverage_high", "coverage_p"]].values
    ]
    corrected = significance.correct(estimates)
    off = sum(change.significant for change in corrected)
    order = np.argsort([change.value for change in corrected])
    ends = [_say_coverage(rows.iloc[at], corrected[at].p) for at in (order[0], order[-1])]
    return (
        f"The 90 % intervals contain {' to '.join(dict.fromkeys(ends))} of the observations of the test days, which in "
        f"{off} of {len(rows)} cases is significantly other than 90 %."
    )


def _say_coverage(row: pd.Series, p: float) -> str:
    """A coverage with its interval, its p, and whose it is."""
    low, value, high = (format_number(row[name], 1) for name in ("coverage_low", "coverage", "coverage_high"))
    return f"{value} % ({low} % to {high} %, {format_p(p)}; {row['model']}, {format_days(int(row['lead_days']))})"


def _coverage(model: str, rows: pd.DataFrame) -> str:
    """The coverage of a model's intervals by lead, and its range over the seasons."""
    shares = [
        f"{format_days(lead)} {format_number(coverage, 1)} %"
        for lead, coverage in zip(rows["lead_days"], rows["coverage"], strict=True)
    ]
    seasons = rows[[f"coverage_{season}" for season in SEASONS]]
    low, high = format_number(np.nanmin(seasons), 0), format_number(np.nanmax(seasons), 0)
    return f"{model} {', '.join(shares)} ({low} to {high} % in single seasons)"


def _ranking(lead: int, rows: pd.DataFrame) -> str:
    """The CRPS of every forecast at one lead, the best first."""
    rows = rows.sort_values("crps")
    scores = [f"{name} {format_number(crps, 4)}" for name, crps in zip(rows["model"], rows["crps"], strict=True)]
    return f"{format_days(lead)}: {', '.join(scores)}"


def scores_of_quantiles(results: Results) -> pd.DataFrame | None:
    """The table behind the answer; None where there are no such runs."""
    found = probabilities(results)
    return None if found is None else found.drop(columns=["reliability", "dry_bins"])


def probability_tables(results: Results) -> list[Table]:
    """The same for the page."""
    found = scores_of_quantiles(results)
    if found is None:
        return []
    caption = "Conformal quantiles on the test days. CRPS less climatology's with its 95 % interval."
    tables = [Table("Uncertainty", caption, found.drop(columns=list(DROUGHT)), COLUMNS)]
    if found["dry_skill"].notna().any():
        caption = "Chances of unusually dry and wet soil. Skills with their 95 % intervals."
        tables.append(Table("Drought", caption, found[["model", "lead_days", *DROUGHT]], COLUMNS))
    return tables


def draw_reliability(table: pd.DataFrame, levels: Float[np.ndarray, "level"], title: str, path: Path) -> None:
    """Draw how far quantiles are from reliable, a panel a lead, and CRPS less climatology's by lead; PNG and PDF.

    `table`: model, lead_days, reliability, the share of observations (Estimate) below the quantile at each of `levels`,
    and against_climatology, low, high (m3 m-3, 95 %; negative is better). Raises UserError when it is empty.
    """
    if table.empty:
        raise UserError("The reliability of quantiles cannot be drawn: there are none.")
    style.save(_reliability_figure(table, levels, title), path, vector=True)


@rc_context(style.STYLE)
def _reliability_figure(table: pd.DataFrame, levels: np.ndarray, title: str) -> Plot:
    """Axes in order: a diagram for each lead, the CRPS."""
    leads = sorted(table["lead_days"].unique())
    names = style.networks_first(table["model"])
    looks = {name: style.line_of(name, names) | {"marker": mark} for name, mark in zip(names, cycle(style.MARKERS))}
    figure = style.new_figure(style.DOUBLE, 2.3, title)
    *diagrams, errors = figure.subplots(1, len(leads) + 1)
    for ax, lead, letter in zip(diagrams, leads, ascii_lowercase, strict=False):
        ax.sharey(diagrams[0])
        ax.axhline(0, color="0.4", linewidth=0.6, zorder=1)
        for _, row in table[table["lead_days"] == lead].iterrows():
            shares = np.array([(share.value, share.low, share.high) for share in row["reliability"]]).T - levels
            ax.plot(levels, shares[0], markersize=2.2, **looks[row["model"]])
            ax.fill_between(levels, shares[1], shares[2], color=looks[row["model"]]["color"], alpha=0.2, linewidth=0)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set(xlim=(0, 1), title=f"({letter}) {format_days(int(lead))} ahead", xlabel="level of the quantile (–)")
        ax.tick_params(labelleft=lead == leads[0])
        ax.grid(**style.GRID)
    diagrams[0].set_ylabel("share of observations below\nthe quantile, less its level (–)")
    _draw_crps(errors, table[table["model"] != "climatology"], looks)
    errors.set_title(f"({ascii_lowercase[len(leads)]}) CRPS")
    keys = [Line2D([], [], markersize=3, label=name, **look) for name, look in looks.items()]
    reliable = Line2D([], [], color="0.4", linewidth=0.6, label="perfectly reliable")
    style.legend(figure, keys, [reliable, *forest.NOTES])
    return figure


def _draw_crps(ax: Axes, table: pd.DataFrame, looks: dict[str, dict]) -> None:
    """CRPS less climatology's of every forecast by lead, side by side."""
    table = style.finite_rows(table, "against_climatology", "low", "high")
    ax.set_ylim(style.axis_limits(np.append(table[["against_climatology", "low", "high"]].to_numpy().ravel(), 0.0)))
    ax.axhline(0, **style.baseline_line("climatology", width=0.8))
    for turn, (name, rows) in enumerate(table.groupby("model", sort=False)):
        x = rows["lead_days"].to_numpy(float) + 0.25 * (turn - 1)
        points = rows.rename(columns={"against_climatology": "value"})
        forest.draw_upright_points(ax, x, points, looks[name] | {"markersize": 3.5})
    ax.set(xlabel="lead (d)", ylabel=f"less climatology's ({UNITS});\nnegative is better")
    ax.set_xticks(sorted(table["lead_days"].unique()))
    ax.margins(x=0.15)
    ax.grid(**style.GRID)
