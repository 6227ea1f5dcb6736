"""What a study leaves behind: table.csv, comparisons.csv, answers.md, figures, report.html and provenance.json.

Some studies leave more: record_lengths.csv (fewer SMAP days to learn from), strategies.csv (ways of transfer),
uncertainty.csv (days held out), worlds.csv (other worlds).

python -m utils.study.report [RESULTS]    draw it all again from the runs' predictions.nc, without training
python -m utils.study.report RUNS ...     one table of runs outside a study, and what transfer changes among them
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from tyro.conf import Positional, arg

from utils.common.cli import one_sentence, parse
from utils.common.files import ROOT, read_json, whole_file, write_json
from utils.common.glibc import keep_freed_memory
from utils.common.periods import format_periods, spans
from utils.common.text import format_days, format_number, format_unit
from utils.evaluation import holds_runs, print_last_scores
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.scores.metrics import METRICS
from utils.scores.score_table import metric_columns, show, verdict_columns
from utils.study.claims import format_change
from utils.study.html_page import Column, Section, Table, write_page
from utils.study.plan import PAPERS_BEST
from utils.study.product_names import name_target
from utils.study.questions import answers
from utils.study.questions.predictability import share_tables
from utils.study.questions.predictors import compare_variants
from utils.study.questions.record_length import compare_record_lengths, record_length_tables, score_record_lengths
from utils.study.questions.transfer_strategies import scores, strategy_tables
from utils.study.questions.uncertainty import probability_tables, scores_of_quantiles
from utils.study.questions.worlds import world_tables
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results
from utils.study.worlds import compare_worlds

FIRST = ("model", "experiment", "lead_days", "seed", "rmse", "rmse_low", "rmse_high", "r2", "bias")  # columns of scores
FIRST += ("vs_persistence", "vs_ridge_memory", "vs_scratch")
COMPARED = {
    "lead_days": Column("lead", "days"),
    "mse_difference": Column("MSE difference", "m⁶ m⁻⁶", ".2e"),
    "rmse_change": Column("RMSE change", "%", ".1f"),
    "low": Column("from", "%", ".1f"),
    "high": Column("to", "%", ".1f"),
    "p": Column("p", "", ".3f"),
}
NOTICE = "Every number on this page is of a SYNTHETIC sample and says nothing about real SMAP."
CLAIMED = {
    "lead_days": Column("lead", "days"),
    "R² in the paper": Column(form=".3f"),
    "R² here": Column(form=".3f"),
    "RMSE in the paper": Column("", "m³ m⁻³", ".4f"),
    "RMSE here": Column("", "m³ m⁻³", ".4f"),
}
PAPERS_SCORES = ((3, 0.916, 0.0239), (5, None, None), (7, 0.909, 0.0247))  # lead in days, R², RMSE in m³ m⁻³
CHANCE = "no significant difference"


def write_report(out: Path) -> Results:
    """Draw and write everything from the runs below `out`, as its study.json lists them; return the results."""
    keep_freed_memory()  # a page's picture in a PDF has 600 dpi, and each map brings its own
    results = Results(out)
    long = results.table  # first, since it refuses runs of other days or data
    compared = compare_models(results)
    _write_csv(out / "table.csv", long)
    _write_csv(out / "comparisons.csv", compared)
    _write_csv(out / "record_lengths.csv", score_record_lengths(results))
    _write_csv(out / "strategies.csv", scores(results))
    _write_csv(out / "uncertainty.csv", scores_of_quantiles(results))
    _write_csv(out / "worlds.csv", compare_worlds(results))
    sections = answers(results, out / "figures")
    with whole_file(out / "answers.md") as partial:
        partial.write_text(_write_markdown(results, sections), encoding="utf-8")
    provenance = {**results.study, "runs": [_read_provenance(results, folder) for folder in results.study["runs"]]}
    write_json(out / "provenance.json", provenance)
    write_page(
        out / "report.html",
        title=results.title("Soil-moisture forecasts with and without transfer"),
        notice=write_notice(results),
        summary=[*summarise(results), *list_answers(sections)],
        caveats=results.preface,
        sections=sections,
        tables=[_tabulate_claims(results), *name_target(_list_tables(results, compared), results.label)],
        protocol=(ROOT / "docs" / "protocol.md").read_text(encoding="utf-8"),
        provenance=_shorten_provenance(results, provenance),
        citation=(ROOT / "CITATION.cff").read_text(encoding="utf-8"),
    )
    return results


def print_results(results: Results) -> None:
    """The table for a terminal, and what it says in sentences."""
    print(show(results.table))
    print("\n" + "\n".join(summarise(results)))


def summarise(results: Results) -> list[str]:
    """What the table says of each lead: the best model with transfer, and how the models compare with persistence."""
    statements = []
    for lead in results.leads:
        rows = results.rows.xs((TRANSFERRED, lead), level=("experiment", "lead_days"))
        models = rows.loc[results.models]
        best = models["rmse"].idxmin()
        lowest, persistence = (format_number(rows.loc[name, "rmse"], 4) for name in (best, "persistence"))
        rivals = [Comparison(TRANSFERRED, model, lead, (SCRATCH, "persistence")) for model in results.models]
        changes = dict(zip(results.models, results.compare(rivals), strict=True))
        verdicts = list(map(significance.verdict, changes.values()))
        better, worse = _count(verdicts.count("better")), _count(verdicts.count("worse"))
        statements.append(
            f"{format_days(lead)} ahead, {best} has the lowest RMSE of the models with transfer: {lowest} m³ m⁻³ "
            f"against {persistence} of persistence, a change of {format_change(changes[best])}. Of the {len(models)} "
            f"models, {better} significantly better than persistence and {worse} significantly worse."
        )
    return statements


def list_answers(sections: list[Section]) -> list[str]:
    """The answers in short, of the questions that belong at the top."""
    return [section.in_short for section in sections if section.in_short]


def _count(number_of: int) -> str:
    """A number of models as the start of a predicate."""
    return {0: "none is", 1: "1 is"}.get(number_of, f"{number_of} are")


def compare_models(results: Results) -> pd.DataFrame:
    """Each model against the baselines, the other models and itself without transfer: all seeds, the same samples."""
    rows = []
    for experiment, model in product((SCRATCH, TRANSFERRED), results.models):
        rivals = [(SCRATCH, name, name) for name in BASELINES]
        rivals += [(experiment, name, name) for name in results.models if name != model]
        if experiment == TRANSFERRED:
            rivals.append((SCRATCH, model, f"{model} without transfer"))
        for lead, (place, rival, name) in product(results.leads, rivals):
            rows.append(_compare(results, Comparison(experiment, model, lead, (place, rival)), name))
    rows += [_compare(results, comparison, results.detail) for comparison in compare_variants(results)]
    for comparison in compare_record_lengths(results):
        rows.append(_compare(results, comparison, f"{comparison.rival[1]} without transfer, whole record"))
    return pd.DataFrame(rows)


def _compare(results: Results, comparison: Comparison, against: str) -> dict[str, Any]:
    """A row of the table of comparisons."""
    experiment, model, lead = comparison.experiment, comparison.model, comparison.lead
    change = results.rmse_change(comparison)
    rival = {"rival": comparison.rival, "paired": comparison.paired}
    return {
        "model": model,
        "experiment": experiment,
        "against": against,
        "lead_days": lead,
        "seeds": len(results.seeds_of(experiment, model, lead)),
        "mse_difference": results.estimate(significance.mse_difference, experiment, model, lead, **rival).value,
        **change.to_per_cent("rmse_change"),
        "p": change.p,
        "verdict": significance.verdict(change),
    }


def write_notice(results: Results) -> str:
    """What data the numbers are of, in a sentence; empty for data sets without a label."""
    if results.synthetic:
        return NOTICE
    if not results.label:
        return ""
    source = results.source_label
    return f"Every number on this page is of {results.label}." + (f" Pre-training: {source}." if source else "")


def list_claims(results: Results) -> pd.DataFrame:
    """The scores of the paper's abstract beside ours in the same setting, and persistence; none is quite comparable."""
    comparable = "no: synthetic data" if results.synthetic else "not exactly: period and cells differ"
    rows = []
    for lead, r2, rmse in PAPERS_SCORES:
        for model, name in ((PAPERS_BEST, f"{PAPERS_BEST} with transfer"), ("persistence", "persistence")):
            if (TRANSFERRED, model, lead) not in results.rows.index:
                continue
            ours = results.rows.loc[(TRANSFERRED, model, lead)]
            row = {"forecast": name, "lead_days": lead}
            if model == PAPERS_BEST:
                row |= {"R² in the paper": r2, "RMSE in the paper": rmse}
            rows.append(row | {"R² here": ours["r2"], "RMSE here": ours["rmse"], "comparable": comparable})
    return pd.DataFrame(rows)


def _write_csv(path: Path, frame: pd.DataFrame | None) -> None:
    """A table as CSV; one that this study does not have is removed, since it is of an earlier study."""
    if frame is None:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as partial:
        frame.to_csv(partial, index=False, float_format="%.8g")


def _write_markdown(results: Results, sections: list[Section]) -> str:
    """The answers alone, as Markdown."""
    parts = []
    if notice := write_notice(results):
        parts.append(f"**{notice}**\n")
    parts.append(f"*{results.preface}*\n")
    if said := list_answers(sections):
        parts.append("## In short\n\n" + "".join(f"- {answer}\n" for answer in said))
    for section in sections:
        parts.append(f"## {section.question}\n\n{section.answer}\n")
        if section.points:
            parts.append("".join(f"- {point}\n" for point in section.points))
        if section.note:
            parts.append(f"*{section.note}*\n")
    return "\n".join(parts)


def _tabulate_claims(results: Results) -> Table:
    """The paper's scores, which are of SMAP whatever the target is here."""
    return Table("The paper's claims", "ConvLSTM with transfer on SMAP over China.", list_claims(results), CLAIMED)


def _list_tables(results: Results, compared: pd.DataFrame) -> list[Table]:
    """The tables of the study's own results."""
    return [
        tabulate_scores(results.table),
        Table(
            "Comparisons",
            f"Pairs of models, each over all its seeds. n.s.: {CHANCE}.",
            compared,
            COMPARED,
            not_significant=(compared["verdict"] == "not significant").to_numpy(),
        ),
        *share_tables(results),
        *probability_tables(results),
        *record_length_tables(results),
        *strategy_tables(results),
        *world_tables(results),
    ]


def tabulate_scores(long: pd.DataFrame) -> Table:
    """The page's table of the scores of all runs and baselines; the verdicts stand beside the RMSE."""
    columns = score_columns()
    others = [name for name in columns if name not in FIRST]
    return Table(
        "Scores",
        f"With 95 % intervals. n.s.: {CHANCE} from persistence.",
        long[[*FIRST, *others]],
        columns,
        not_significant=(long["vs_persistence"] == "not significant").to_numpy(),
    )


def score_columns() -> dict[str, Column]:
    """The columns of the table of scores, from the rows of METRICS and BASELINES that have a heading."""
    shown: dict[str, Column] = {"lead_days": Column("lead", "days")}
    for name in metric_columns():
        if name != "n" and (row := METRICS[name]).heading:
            shown[name] = Column(row.heading, format_unit(row.unit), f".{row.digits}f")
        if name == "rmse":
            shown |= {"rmse_low": Column("from", "", ".4f"), "rmse_high": Column("to", "", ".4f")}
    shown["r2_median_cell"] = Column("R² of the median cell", "", ".3f")
    headings = {column: BASELINES[name].heading for column, name in verdict_columns().items()}
    shown |= {column: Column(heading) for column, heading in headings.items() if heading}
    return shown | {"vs_scratch": Column("against no transfer"), "n": Column(METRICS["n"].heading)}


def _shorten_provenance(results: Results, provenance: dict[str, Any]) -> dict[str, Any]:
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
        "training": _describe_training(study),
        "periods": {name: _describe_periods(periods) for name, periods in study["periods"].items()},
        "versions": runs[0].get("versions", {}),
        "machine": runs[0].get("machine", {}),
    }


def _describe_training(study: dict[str, Any]) -> str:
    if epochs := study.get("settings", {}).get("epochs"):
        return f"{epochs} epochs"
    return "published epochs" if study["full"] else "until the validation RMSE stopped improving"


def _describe_periods(periods: dict[str, list[str]]) -> str:
    return ", ".join(f"{name} {format_periods(spans(name, tuple(days)))}" for name, days in periods.items())


def _read_provenance(results: Results, folder: str) -> dict[str, Any]:
    """run.json without the place of the data on the machine that ran it; a permuted run has that of its model."""
    experiment, model, *place = folder.split("/")
    content = read_json(results.out.joinpath("runs", experiment, model.split("_permuted_")[0], *place) / "run.json")
    return {"run": folder, **content, "data": Path(content.get("data", "")).name}


Folders = Annotated[Positional[tuple[Path, ...]], arg(metavar="[FOLDER ...]")]


@dataclass
class Settings:
    results: Folders = (ROOT / "results",)  # the folder of a study; or run directories, or folders with runs below them


def main(folders: Sequence[Path]) -> None:
    first = folders[0]
    is_study = len(folders) == 1 and ((first / "study.json").exists() or not holds_runs(first))
    if not is_study:
        print_last_scores(folders)
        return
    print_results(write_report(first))
    print(f"\n{first / 'report.html'}")


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__).results)
