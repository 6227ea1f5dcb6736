"""Copy what finished studies have found to where it is committed: tables, answers, provenance and figures.

python -m utils.study.publish results docs/results --figures study limit     one study, and its periods.png
python -m utils.study.publish results-evidence docs/results/evidence         each study below a folder, and README.md
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm
from tyro.conf import Positional

from utils.common.cli import UserError, one_sentence, parse
from utils.common.files import read_json, whole_file
from utils.figures.periods import draw_periods
from utils.study.results import Results

KEPT = ("*.csv", "answers.md", "provenance.json")


@dataclass
class Settings:
    study: Positional[Path]  # the folder of a study, or one with a folder for each of several studies
    into: Positional[Path]  # where the copies go
    figures: tuple[str, ...] = ()  # names of the figures to copy, without .png; none: all


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


def publish_all(folder: Path, into: Path) -> None:
    """Copy each study below a folder, and write README.md with their commands and the time they took."""
    studies = sorted(path.parent for path in folder.glob("*/study.json"))
    if not studies:
        raise UserError(f"{folder} holds no study; make them with: make evidence")
    rows = ["| study | command | time |", "|---|---|---|"]
    for study in studies:
        publish_study(study, into / study.name, ())
        content = read_json(study / "study.json")
        hours = tqdm.format_interval(content["seconds"])
        rows.append(f"| [{study.name}]({study.name}/answers.md) | `{content['command']}` | {hours} |")
    text = "# What `make evidence` has found\n\nEach study with its command and the time it took, h:mm:ss or mm:ss.\n\n"
    with whole_file(into / "README.md") as partial:
        partial.write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


def main(settings: Settings) -> None:
    if (settings.study / "study.json").exists():
        publish_study(settings.study, settings.into, settings.figures)
    else:
        publish_all(settings.study, settings.into)
    print(settings.into)


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
