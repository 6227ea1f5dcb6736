"""Copy what finished studies have found to where it is committed: tables, answers, provenance and figures.

python -m utils.study.publish results docs/results --figures study limit     one study, and its periods.png
python -m utils.study.publish results-evidence docs/results/evidence         each study below a folder, and README.md
python -m utils.study.publish results-conus docs/results/conus --page README.md --rows 7-days      and a page's table
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm
from tyro.conf import Positional

from utils.common.cli import UserError, one_sentence, parse
from utils.common.files import read_json, whole_file
from utils.common.text import format_days, format_number
from utils.figures.periods import draw_periods
from utils.scores.baselines import BASELINES
from utils.study.results import SCRATCH, TRANSFERRED, Results

KEPT = ("*.csv", "answers.md", "provenance.json")


@dataclass
class Settings:
    study: Positional[Path]  # the folder of a study, or one with a folder for each of several studies
    into: Positional[Path]  # where the copies go
    figures: tuple[str, ...] = ()  # names of the figures to copy, without .png; none: all
    page: Path | None = None  # a page whose table of RMSE is filled from one of several studies
    rows: str = ""  # the folder of that study


def publish_study(study: Path, into: Path, figures: tuple[str, ...]) -> None:
    """Copy KEPT and the figures, and draw the study's periods; a table that the study lacks is removed from `into`.

    Raises UserError where a figure is missing.
    """
    drawn = [study / "figures" / f"{name}.png" for name in figures] or sorted((study / "figures").glob("*.png"))
    files = [*(path for pattern in KEPT for path in sorted(study.glob(pattern))), *drawn]
    for path in files:
        if not path.exists():
            raise UserError(f"{path} is missing; make it with: python -m utils.study.report {study}")
    into.mkdir(parents=True, exist_ok=True)
    for path in into.glob("*.csv"):
        path.unlink()
    for path in files:
        shutil.copyfile(path, into / path.name)
    results = Results(study)
    title = results.title("Data and periods of the study")
    draw_periods(results.study["periods"], into / "periods.png", title, results.source_name, results.target_name)


def publish_all(folder: Path, into: Path, figures: tuple[str, ...] = ()) -> None:
    """Copy each study below a folder, with those of the figures that it has, and write README.md with their commands.

    Raises UserError where no study has one of the figures.
    """
    studies = sorted(path.parent for path in folder.glob("*/study.json"))
    if not studies:
        raise UserError(f"{folder} holds no study; make them with: make evidence")
    for name in figures:
        if not list(folder.glob(f"*/figures/{name}.png")):
            raise UserError(f"No study below {folder} has the figure {name}.")
    rows = ["| study | command | time |", "|---|---|---|"]
    for study in studies:
        there = tuple(name for name in figures if (study / "figures" / f"{name}.png").exists())
        publish_study(study, into / study.name, there)
        content = read_json(study / "study.json")
        hours = tqdm.format_interval(content["seconds"])
        rows.append(f"| [{study.name}]({study.name}/answers.md) | `{content['command']}` | {hours} |")
    text = f"# What `make {folder.name.removeprefix('results-')}` has found\n\n"
    text += "Each study with its command and the time of its last call, h:mm:ss or mm:ss. It takes the runs that "
    text += "earlier calls and studies have made.\n\n"
    with whole_file(into / "README.md") as partial:
        partial.write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


def fill_table(page: Path, study: Path) -> None:
    """Write the RMSE of a published study into the page's table of its data: each row names a model or a baseline.

    The table is the one whose first heading starts with the label of the study's target. The heading takes the days
    that were scored, a model's cells have the RMSE without and with transfer. Raises UserError where the page has no
    such table, or the study no such row.
    """
    scores = pd.read_csv(study / "table.csv")
    label = scores.loc[scores["experiment"] == SCRATCH, "data"].iloc[0]
    first, last = read_json(study / "provenance.json")["periods"][SCRATCH]["test"]
    lines = page.read_text(encoding="utf-8").split("\n")
    start = next((number for number, line in enumerate(lines) if line.startswith(f"| {label}")), None)
    if start is None:
        raise UserError(f"{page} has no table that starts with: | {label}")
    _, *headings = _cells_of(lines[start])
    leads = [int(heading.split()[0]) for heading in headings]
    lines[start] = _table_row([f"{label}, {first} to {last}", *headings])
    for number, line in enumerate(lines[start + 2 :], start + 2):
        if not line.startswith("|"):
            break
        model = _cells_of(line)[0]
        lines[number] = _table_row([model, *(_rmse(scores, model, lead) for lead in leads)])
    with whole_file(page) as partial:
        partial.write_text("\n".join(lines), encoding="utf-8")


def _cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rmse(scores: pd.DataFrame, model: str, lead: int) -> str:
    """The RMSE of a baseline, or of a model without and with transfer, as the page has it."""
    rows = scores[(scores["model"] == model) & (scores["lead_days"] == lead)]
    rmse = rows.groupby("experiment")["rmse"].last()  # of several seeds, their mean stands last
    ways = [SCRATCH] if model in BASELINES else [SCRATCH, TRANSFERRED]
    if not set(ways) <= set(rmse.index):
        raise UserError(f"The study has no {model} at {format_days(lead)}.")
    return " → ".join(format_number(rmse[way], 4) for way in ways)


def main(settings: Settings) -> None:
    if (settings.study / "study.json").exists():
        publish_study(settings.study, settings.into, settings.figures)
    else:
        publish_all(settings.study, settings.into, settings.figures)
    if settings.page:
        fill_table(settings.page, settings.into / settings.rows)
    print(settings.into)


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
