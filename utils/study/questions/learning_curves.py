"""The question about training: how each network learned, and whether it stopped by itself."""

from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.common.files import read_json
from utils.common.text import format_days
from utils.figures import style
from utils.figures.style import EXPERIMENTS, UNITS
from utils.settings import run_folder
from utils.study.html_page import Figure, Section
from utils.study.results import Results

ENDS = {  # how a run stopped, as metrics.json has it: name in the legend, marker of its last epoch
    "validation": ("stopped by itself", "|"),
    "cap": ("cut by the cap", "x"),
    "planned": ("planned end", "_"),
}
_BEST = {"marker": "o", "markersize": 3.5, "linestyle": "none", "zorder": 4}


def curves(results: Results, figures: Path) -> Section | None:
    """How the networks learned at the first lead; None where no run has logged several epochs."""
    logs = read_logs(results)
    if logs.empty:
        return None
    path, ahead = figures / "curves.png", f"{format_days(results.lead)} ahead"
    title = f"Loss on training days and RMSE on validation days by epoch, {ahead}"
    draw_curves(logs, results.title(title), path)
    runs = logs.groupby(["experiment", "model"])["stopped"].first()
    missing = _list_missing(results, logs)
    caption = "Dot: the epoch that is kept."
    if missing:
        caption += " A model that is fitted in one go, or in one epoch, has no curve."
    return Section(
        "Did the networks train long enough?",
        f"Of the {len(runs)} training runs shown, {ahead}, {int((runs == 'validation').sum())} stopped because the "
        f"validation RMSE no longer improved, and {int((runs == 'cap').sum())} were cut by the cap of steps.",
        [Figure(path, "Training loss and validation RMSE by epoch of every network", caption)],
        f"Not shown, since fewer than two epochs are logged: {', '.join(missing)}." if missing else "",
    )


def _list_missing(results: Results, logs: pd.DataFrame) -> list[str]:
    """The models without a curve, and of the other ones those runs that have none."""
    drawn = set(zip(logs["experiment"], logs["model"], strict=True))
    missing = []
    for model in results.models:
        made = [name for name in EXPERIMENTS if results.has(name, model, results.lead)]
        without = [name for name in made if (name, model) not in drawn]
        missing += [model] if without == made else [f"{model} ({name})" for name in without]
    return missing


def read_logs(results: Results) -> pd.DataFrame:
    """The log.csv of each run at the first lead and seed, with experiment, model and how it stopped."""
    logs = []
    for experiment in EXPERIMENTS:
        for model in results.models:
            folder = results.out / "runs" / run_folder(experiment, model, results.lead, results.seeds[0])
            if not (folder / "log.csv").exists():
                continue
            log = pd.read_csv(folder / "log.csv")
            if len(log) > 1:
                stopped = read_json(folder / "metrics.json").get("stopped")
                logs.append(log.assign(experiment=experiment, model=model, stopped=stopped))
    columns = ["experiment", "model", "epoch", "train_loss", "val_rmse", "stopped"]
    return pd.concat(logs, ignore_index=True)[columns] if logs else pd.DataFrame(columns=columns)


def draw_curves(logs: pd.DataFrame, title: str, path: Path) -> None:
    """Draw training loss (upper row) and validation RMSE (lower row) by epoch, a column an experiment; PNG and PDF.

    `logs`: experiment, model, epoch, train_loss (of the scaled target), val_rmse (m3 m-3), stopped (one of ENDS, or
    None where it is not known). Raises UserError when it is empty.
    """
    style.save(_curves_figure(logs, title), path, vector=True)


@rc_context(style.STYLE)
def _curves_figure(logs: pd.DataFrame, title: str) -> Plot:
    """Axes in order: the losses of each experiment, then the RMSE of each."""
    if logs.empty:
        raise UserError("Learning curves cannot be drawn: no run has logged several epochs.")
    experiments = style.ordered(logs["experiment"], EXPERIMENTS)
    looks = _looks(style.ordered(logs["model"], style.MODELS))
    figure = style.new_figure(style.DOUBLE, 3.9, title)
    losses, errors = figure.subplots(2, len(experiments), sharex="col", sharey="row", squeeze=False)
    losses[0].set(yscale="log", ylabel="training loss (–)")
    kept = logs.groupby(["experiment", "model"])["val_rmse"].min()  # of source and target, which may differ
    limits = style.axis_limits(logs["val_rmse"].to_numpy(), inside=kept)
    errors[0].set(ylabel=f"validation RMSE ({UNITS})", ylim=limits)
    letters = iter(ascii_lowercase)
    for axes, column in ((losses, "train_loss"), (errors, "val_rmse")):
        for ax, experiment in zip(axes, experiments, strict=True):
            ax.set_title(f"({next(letters)})")
            ax.grid(**style.GRID)
            for model, log in logs[logs["experiment"] == experiment].groupby("model", sort=False):
                _draw_run(ax, log.sort_values("epoch"), column, looks[model])
    for upper, lower, experiment in zip(losses, errors, experiments, strict=True):
        upper.set_title(f"{upper.get_title(loc='left')} {experiment}\n{EXPERIMENTS[experiment]}")
        lower.set_xlabel("epoch")
        lower.locator_params(axis="x", integer=True)
    keys = [Line2D([], [], label=model, **look) for model, look in looks.items()]
    notes = [Line2D([], [], color="0.3", label="epoch that is kept", **_BEST)]
    for end, (label, marker) in ENDS.items():
        if (logs["stopped"] == end).any():
            notes.append(Line2D([], [], label=label, **_end(marker)))
    style.legend(figure, *style.in_rows([*keys, *notes], 4))
    return figure


def _looks(models: list[str]) -> dict[str, dict]:
    """A colour and a line style for each model."""
    colours = ("#0072b2", "#e69f00", "#3fbf8f", "#cc79a7", "#56b4e9", "black")
    dashes = ("solid", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
    return {
        model: {"color": colours[i % len(colours)], "linestyle": dashes[i % len(dashes)], "linewidth": 1}
        for i, model in enumerate(models)
    }


def _draw_run(ax: Axes, log: pd.DataFrame, column: str, look: dict) -> None:
    """One run's curve, the epoch that is kept, and how it ended.

    First epochs off the axis have no numbers: those of several models would stand in one place.
    """
    epoch, values = log["epoch"].to_numpy(), log[column].to_numpy()
    ax.plot(epoch, values, label=log["model"].iloc[0], **look)
    style.mark_cut(ax, epoch, values, values, look["color"])
    best = int(np.argmin(log["val_rmse"].to_numpy()))
    ax.plot(epoch[best], values[best], color=look["color"], gid="best", **_BEST)
    stopped = log["stopped"].iloc[0]
    if stopped in ENDS:
        ax.plot(epoch[-1], values[-1], gid="end", **_end(ENDS[stopped][1]))


def _end(marker: str) -> dict:
    """How the last epoch is marked."""
    look = {"marker": marker, "color": "black", "linestyle": "none", "zorder": 4.5, "markeredgewidth": 0.9}
    return look | {"markersize": 8 if marker == "|" else 5}
