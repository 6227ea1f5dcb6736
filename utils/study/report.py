"""What a study leaves behind: table.csv, comparisons.csv, answers.md, figures, report.html and provenance.json.

A study of transfer strategies leaves strategies.csv too, one with days held out uncertainty.csv.

python -m utils.study.report [RESULTS]    draw it all again from the runs' predictions.nc, without training
"""

import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tyro.conf import Positional

from utils.common.cli import one_sentence, parse
from utils.common.files import ROOT, read_json, whole_file, write_json
from utils.figures.style import BASELINES
from utils.scores import significance
from utils.scores.score_table import show
from utils.study.html_page import Column, Section, Table, write_page
from utils.study.plan import PAPERS_BEST
from utils.study.questions import answers
from utils.study.questions.predictability import share_tables
from utils.study.questions.transfer_strategies import scores, strategy_tables
from utils.study.questions.uncertainty import probability_tables, scores_of_quantiles
from utils.study.results import SCRATCH, TRANSFERRED, Results
from utils.training.loop import keep_freed_memory

COLUMNS = {
    "lead_days": Column("lead", "days"),
    "rmse": Column("RMSE", "m³ m⁻³", ".4f"),
    "rmse_low": Column("from", "", ".4f"),
    "rmse_high": Column("to", "", ".4f"),
    "r2": Column("R²", "", ".3f"),
    "skill_over_persistence": Column("skill over persistence", "", ".3f"),
    "bias": Column("bias", "m³ m⁻³", ".4f"),
    "ubrmse": Column("ubRMSE", "m³ m⁻³", ".4f"),
    "kge": Column("KGE", "", ".3f"),
    "acc": Column("anomaly correlation", "", ".3f"),
    "r2_median_cell": Column("R² of the median cell", "", ".3f"),
    "vs_persistence": Column("against persistence"),
    "vs_ridge_memory": Column("against ridge with memory"),
    "vs_scratch": Column("against no transfer"),
    "n": Column("cell-days"),
}
COMPARED = {
    "lead_days": Column("lead", "days"),
    "mse_difference": Column("MSE difference", "m⁶ m⁻⁶", ".2e"),
    "low": Column("from", "", ".2e"),
    "high": Column("to", "", ".2e"),
    "rmse_change": Column("RMSE change", "%", ".1f"),
    "p": Column("p", "", ".3f"),
}
NOTICE = "Every number on this page is of a SYNTHETIC sample and says nothing about real SMAP."
CLAIMED = {"lead_days": Column("lead", "days")}
CLAIMED |= {f"R² {where}": Column(form=".3f") for where in ("in the paper", "here")}
CLAIMED |= {f"RMSE {where}": Column(f"RMSE {where}", "m³ m⁻³", ".4f") for where in ("in the paper", "here")}
CHANCE = "the difference may be chance"


def write_report(out: Path) -> pd.DataFrame:
    """Draw and write everything from the runs below `out`, as its study.json lists them; return the table."""
    keep_freed_memory()  # a page's picture in a PDF has 600 dpi, and each map brings its own
    results = Results(out)
    long, compared = results.table, comparisons(results)
    tables = {"table.csv": long, "comparisons.csv": compared, "strategies.csv": scores(results)}
    for name, frame in (tables | {"uncertainty.csv": scores_of_quantiles(results)}).items():
        if frame is None:  # a study without such runs
            (out / name).unlink(missing_ok=True)
            continue
        with whole_file(out / name) as partial:
            frame.to_csv(partial, index=False, float_format="%.8g")
    sections = answers(results, out / "figures")
    with whole_file(out / "answers.md") as partial:
        partial.write_text(_in_words(results, sections), encoding="utf-8")
    provenance = {**results.study, "runs": [_provenance(results, folder) for folder in results.study["runs"]]}
    write_json(out / "provenance.json", provenance)
    shown = ["model", "experiment", "lead_days", "seed", *(c for c in COLUMNS if c != "lead_days")]
    unclear = (long["vs_persistence"] == "not significant").to_numpy()
    different = (compared["verdict"] == "not significant").to_numpy()
    write_page(
        out / "report.html",
        title=results.title("Soil-moisture forecasts with and without transfer"),
        sections=sections,
        tables=[
            Table("The paper's claims", "ConvLSTM with transfer on SMAP over China.", claims(results), CLAIMED),
            Table("Scores", f"95 % intervals. n.s., against persistence: {CHANCE}.", long[shown], COLUMNS, unclear),
            Table("Comparisons", f"Models over all seeds, paired. n.s.: {CHANCE}.", compared, COMPARED, different),
            *share_tables(results),
            *probability_tables(results),
            *strategy_tables(results),
        ],
        provenance=_made_by(results, provenance),
        citation=(ROOT / "CITATION.cff").read_text(encoding="utf-8"),
        protocol=(ROOT / "docs" / "protocol.md").read_text(encoding="utf-8"),
        notice=NOTICE if results.synthetic else "",
    )
    return long


def _in_words(results: Results, sections: list[Section]) -> str:
    """The answers alone, as Markdown."""
    parts = [f"**{NOTICE}**\n"] if results.synthetic else []
    for section in sections:
        parts.append(f"## {section.question}\n\n{section.answer}\n" + (f"\n*{section.note}*\n" if section.note else ""))
    return "\n".join(parts)


def comparisons(results: Results) -> pd.DataFrame:
    """Each model against each baseline, the others, and itself without transfer: over all seeds, same samples."""
    rows = []
    for experiment in (SCRATCH, TRANSFERRED):
        for model in results.models:
            rivals = [(SCRATCH, name, name) for name in BASELINES]
            rivals += [(experiment, name, name) for name in results.models if name != model]
            rivals += [(SCRATCH, model, f"{model} without transfer")] if experiment == TRANSFERRED else []
            for lead, (place, rival, name) in product(results.leads, rivals):
                sums = results.sums(experiment, model, lead, rival=(place, rival))
                found = significance.estimate(sums, significance.mse_difference)
                change = significance.estimate(sums, significance.rmse_change).value
                rows.append(
                    {"model": model, "experiment": experiment, "against": name, "lead_days": lead}
                    | {"seeds": len(sums), "mse_difference": found.value, "low": found.low, "high": found.high}
                    | {"rmse_change": 100 * change, "p": found.p, "verdict": significance.verdict(found)}
                )
    return pd.DataFrame(rows)


def claims(results: Results) -> pd.DataFrame:
    """The abstract's figures beside ours on the same setting, and persistence. Nothing is comparable to the digit."""
    comparable = "no: synthetic data" if results.synthetic else "not exactly: period and cells differ"
    rows = []
    for lead, r2, rmse in ((3, 0.916, 0.0239), (5, None, None), (7, 0.909, 0.0247)):
        for model, name in ((PAPERS_BEST, f"{PAPERS_BEST} with transfer"), ("persistence", "persistence")):
            if (key := (TRANSFERRED, model, lead)) in results.rows.index:
                ours = results.rows.loc[key]
                paper = {"R² in the paper": r2, "RMSE in the paper": rmse} if model == PAPERS_BEST else {}
                rows.append(
                    {"forecast": name, "lead_days": lead, **paper, "R² here": ours["r2"], "RMSE here": ours["rmse"]}
                    | {"comparable": comparable}
                )
    return pd.DataFrame(rows)


def _made_by(results: Results, provenance: dict[str, Any]) -> dict[str, Any]:
    """What a reader needs to make the page again; every run's own record is in provenance.json."""
    runs, study = provenance["runs"], results.study
    return {
        "command": study["command"],
        "seconds": study["seconds"],
        "commit": ", ".join(sorted({run.get("commit", "unknown") for run in runs})),
        "data (SHA-256)": study["data_sha256"],
        "models": ", ".join(results.models),
        "leads (days)": ", ".join(map(str, results.leads)),
        "seeds": ", ".join(map(str, results.seeds)),
        "epochs": "published" if study["full"] else "at most a third of the published ones, early stopping",
        "periods": {name: json.dumps(periods) for name, periods in study["periods"].items()},
        "versions": runs[0].get("versions", {}),
        "machine": runs[0].get("machine", {}),
    }


def _provenance(results: Results, folder: str) -> dict[str, Any]:
    """run.json without the place of the data on the machine that ran it; a permuted run has that of its model."""
    experiment, model, *place = folder.split("/")
    content = read_json(results.out.joinpath("runs", experiment, model.split("_permuted_")[0], *place) / "run.json")
    return {"run": folder, **content, "data": Path(content.get("data", "")).name}


@dataclass
class Settings:
    results: Positional[Path] = ROOT / "results"  # the folder of a study


if __name__ == "__main__":
    with one_sentence():
        folder = parse(Settings, sys.argv[1:], __doc__).results
        print(show(write_report(folder)))
        print(f"\n{folder / 'report.html'}")
