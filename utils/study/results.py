"""A finished study, read back from its files alone: study.json, and predictions.nc and metrics.json of every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from utils.common.cli import UserError, fold
from utils.common.files import read_json, refuse_locked
from utils.common.text import format_days
from utils.dataset.prepared import SYNTHETIC, in_brackets, label_of
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.scores.score_table import AGAINST_MATCHED, AGAINST_SCRATCH, LESS_THAN_A_YEAR, TRAINING, table
from utils.scores.significance import WITH_INTERVALS, Estimate
from utils.settings import run_folder
from utils.study.plan import MATCHED, PRETRAINING, SCRATCH, TRANSFERRED
from utils.study.product_names import name_target

LEARNED_FROM = (  # which days: see docs/protocol.md
    "compact, change_net, ridge_memory and boosting learn from training and validation days, the other baselines from "
    "training days alone. "
    "Networks learn from training days and choose their epoch on validation days."
)
RIVALS = ("persistence", "ridge_memory")  # baselines that every forecast is compared with
ONE_SEED = "One seed: the statements are about these trained networks, not about their architecture."
CASES = (
    "A case is a model at a lead. Behind a change of RMSE stand its 95 % interval and its p. Each p of a sentence or a "
    "list is corrected for the number of comparisons made there (Benjamini–Hochberg), and so is what they call "
    "significant. The tables hold p and verdict of each comparison by itself."
)


@dataclass(frozen=True)
class Comparison:
    """A model at a lead against a rival (experiment and model); `Results.estimate` says what `paired` is."""

    experiment: str
    model: str
    lead: int
    rival: tuple[str, str]
    paired: bool = False


class Results:
    """Scores and forecasts of a study below `out`. Raises UserError where there is none, or a part of it is missing."""

    def __init__(self, out: Path):
        self.out = out
        self.study = read_json(out / "study.json")
        if not self.study:
            raise UserError(f"{out} holds no study; make it with: python reproduce.py --out {out}")
        self.models: list[str] = self.study["models"]
        self.leads: list[int] = self.study["lead_days"]
        self.seeds: list[int] = self.study["seeds"]
        self.lead = self.leads[0]  # of the closer questions
        self.detail: str = self.study["detail"]  # model of the closer questions
        self.best: str = self.study["best"]  # model of the question about more leads
        # the questions ask for the same forecasts and sums again and again
        self.predictions = lru_cache(maxsize=6)(self._read_predictions)
        self.sums = lru_cache(maxsize=None)(self._daily_sums)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a run or baseline; a model with several seeds has a row of their means, without a seed.

        Fine-tuned runs say what transfer changed. Intervals and tests of a row of means are those of the model.
        """
        runs = [self._read_metrics(folder) for folder in self.study["runs"]]
        baselines = [self._read_metrics(folder) for folder in self.study["baselines"]]
        long = table(runs, baselines)
        groups = long[long["seed"].notna()].groupby(["experiment", "model", "lead_days"], sort=False)
        means = [self._mean_over_seeds(rows) for _, rows in groups if len(rows) > 1]
        return pd.concat([long, pd.DataFrame(means).astype(long.dtypes)], ignore_index=True) if means else long

    def _mean_over_seeds(self, rows: pd.DataFrame) -> dict[str, Any]:
        """The table's row of a model with several seeds."""
        first = rows.iloc[0]
        experiment, model, lead = first["experiment"], first["model"], int(first["lead_days"])
        row = first.to_dict() | rows.mean(numeric_only=True).to_dict()
        row |= dict.fromkeys(TRAINING)
        row |= {"seed": None, "n": first["n"], "note": f"mean of {len(rows)} seeds"}
        estimates = {name: self.estimate(score, experiment, model, lead) for name, score in WITH_INTERVALS.items()}
        for name, found in estimates.items():
            row |= {f"{name}_low": found.low, f"{name}_high": found.high}
        # of the mean over seeds of the logarithm, as its interval
        row["skill_over_persistence"] = estimates["skill"].value
        for name in BASELINES:
            row[f"vs_{name}"] = self.verdict(experiment, model, lead, rival=(SCRATCH, name))
        return row | self._compare_with_scratch(experiment, model, lead)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table with one row a model or baseline: of its only seed, or of the mean over seeds; by its names."""
        seeds = self.table.groupby(["experiment", "model", "lead_days"])["seed"].transform("count")
        return self.table[(seeds == 1) | self.table["seed"].isna()].set_index(["experiment", "model", "lead_days"])

    def main(self) -> pd.DataFrame:
        """The rows of the main study: every model and baseline at every lead, without variants."""
        rows = self.table[self.table["model"].isin([*self.models, *BASELINES])]
        return rows[rows["lead_days"].isin(self.leads)]

    @property
    def synthetic(self) -> bool:
        return self.label == SYNTHETIC

    @cached_property
    def label(self) -> str:
        """The label of the target's data set (dataset/prepared.py); empty where it has none."""
        return label_of(self.predictions(SCRATCH, "persistence", self.lead).attrs)

    @property
    def source_label(self) -> str:
        """The label of the data set that pre-training learned from; empty where it has none."""
        return self._read_any_metrics(PRETRAINING).get("label", "")

    @property
    def source_name(self) -> str:
        """The source in a sentence: its label; ERA5-Land where it has none, or is synthetic and stands for it."""
        return self.source_label if self.source_label not in ("", SYNTHETIC) else "ERA5-Land"

    @property
    def target_name(self) -> str:
        """The target in the same way."""
        return self.label if self.label not in ("", SYNTHETIC) else "SMAP"

    def title(self, text: str) -> str:
        return name_target(text, self.label) + in_brackets(self.label)

    @property
    def caveats(self) -> str:
        """What limits every answer of the study, in sentences; empty where nothing does."""
        sentences = []
        if cut_short := self._describe_cut_short():
            sentences.append(cut_short)
        if not self._read_any_metrics(SCRATCH).get("spans_a_year", True):
            sentences.append(f"{LESS_THAN_A_YEAR.capitalize()}.")
        left_out = self.study.get("left_out", {})
        sentences += [f"{model} was left out: {reason.rstrip('.')}." for model, reason in left_out.items()]
        if len(self.seeds) == 1:
            sentences.append(ONE_SEED)
        if (oldest := self.study.get("max_input_age")) is not None:
            sentences.append(f"Scored where the last observation of the cell is at most {format_days(oldest)} old.")
        return " ".join(sentences)

    @property
    def preface(self) -> str:
        """How the answers are to be read, and what limits them all."""
        seeds = f"Maps, scatter plots and time series show seed {self.seeds[0]}."
        if len(self.seeds) > 1:
            seeds += (
                f" Scores are means over {len(self.seeds)} seeds, and their intervals hold the chance of the seeds."
            )
        return " ".join(filter(None, (self.caveats, CASES, seeds)))

    def _describe_cut_short(self) -> str:
        """How many runs ended at the cap of their steps; empty where none did."""
        is_run = ~self.table["model"].str.contains("_permuted_", regex=False)
        stopped = self.table.loc[is_run, "stopped"].value_counts()
        capped, all_runs = stopped.get("cap", 0), stopped.get("cap", 0) + stopped.get("validation", 0)
        if not capped:
            return ""
        return f"{capped} of {all_runs} network runs ended at the cap of their steps and may still have improved."

    def seeds_of(self, experiment: str, model: str, lead: int) -> list[int]:
        """The seeds a model was run with: none for baselines and for what was not run."""
        return [s for s in self.seeds if run_folder(experiment, model, lead, s).as_posix() in self.study["runs"]]

    def has(self, experiment: str, model: str, lead: int) -> bool:
        return bool(self.seeds_of(experiment, model, lead))

    def estimate(
        self,
        score: significance.Score,
        experiment: str,
        model: str,
        lead: int,
        *,
        rival: tuple[str, str] | None = None,
        paired: bool = False,
        season: str | None = None,
        cells_of: str | None = None,
    ) -> Estimate:
        """A score of a model over all its seeds, with its interval.

        `rival` is the experiment and model to compare with, persistence by default. Its seeds are other draws than
        those of the model, of the same number too. With `paired`, each seed is compared with the same seed of the
        rival: for forecasts of one and the same trained network. `season` (DJF, MAM, JJA or SON) and `cells_of` choose
        days and cells: those that the baseline `cells_of` of SMAPtest scores.
        """
        sums = self.sums(experiment, model, lead, rival=rival, paired=paired, season=season, cells_of=cells_of)
        return significance.estimate(sums, score)

    def compare(self, comparisons: Sequence[Comparison]) -> list[Estimate]:
        """The relative change of RMSE in each comparison of one sentence, with p corrected for their number."""
        return significance.correct([self.rmse_change(comparison) for comparison in comparisons])

    def rmse_change(self, comparison: Comparison) -> Estimate:
        """The relative change of RMSE in a comparison by itself."""
        return self.estimate(
            significance.rmse_change,
            comparison.experiment,
            comparison.model,
            comparison.lead,
            rival=comparison.rival,
            paired=comparison.paired,
        )

    def verdict(self, experiment: str, model: str, lead: int, rival: tuple[str, str]) -> str:
        """What the test says of a model, over its seeds, against another or a baseline; see significance.verdict."""
        return significance.verdict(self.estimate(significance.rmse_change, experiment, model, lead, rival=rival))

    def _daily_sums(
        self,
        experiment: str,
        model: str,
        lead: int,
        rival: tuple[str, str] | None = None,
        paired: bool = False,
        season: str | None = None,
        cells_of: str | None = None,
    ) -> list[Float[np.ndarray, "*rival time moment"]]:
        """Daily sums of each seed, beside every seed of the rival; `estimate` says what the arguments are."""
        observed = self.predictions(experiment, model, lead, next(iter(self.seeds_of(experiment, model, lead)), None))[
            "observed"
        ]
        if season:
            observed = observed.where(observed["time"].dt.season == season)
        if cells_of:
            observed = observed.where(self.predictions(SCRATCH, cells_of, lead)["observed"].notnull())
        if not rival:
            return self.sums_on(observed, experiment, model, lead)
        choice = {"season": season, "cells_of": cells_of}
        own = self.sums(experiment, model, lead, rival=None, paired=False, **choice)
        others = self.sums(*rival, lead, rival=None, paired=False, **choice)
        if not np.array_equal(own[0][:, : significance.ERROR_2], others[0][:, : significance.ERROR_2]):
            others = self.sums_on(observed, *rival, lead)  # it was scored on other samples
        crossed = significance.cross_seeds(own, others)
        return [rivals[number] for number, rivals in enumerate(crossed)] if paired else crossed

    def sums_on(
        self, observed: xr.DataArray, experiment: str, model: str, lead: int
    ) -> list[Float[np.ndarray, "time moment"]]:
        """Daily sums of each seed against persistence, where `observed` has a value."""
        sums, days = [], observed["time"].values
        for seed in self.seeds_of(experiment, model, lead) or [None]:
            run = self.predictions(experiment, model, lead, seed)
            fields = (observed.values, run["predicted"].values, run["persistence"].values)
            sums.append(significance.daily_sums(*fields, days=days))
        return sums

    def transfer_by_cell(self, model: str, lead: int) -> xr.Dataset:
        """What transfer changes in each cell [lat, lon], on the mean over seeds.

        `mse` is the change of the mean squared error, m6 m-6. `better` and `worse` are true where it is significant,
        `tested` where there are enough days for a test.
        """
        tuned, scratch = (self._squared_errors(experiment, model, lead) for experiment in (TRANSFERRED, SCRATCH))
        days = tuned["time"].values
        better, worse, tested = significance.better_and_worse(tuned.values, scratch.values, days)
        cells = ("lat", "lon")
        return xr.Dataset(
            {
                "mse": (tuned.mean("seed") - scratch.mean("seed")).mean("time"),
                "better": (cells, better),
                "worse": (cells, worse),
                "tested": (cells, tested),
            }
        )

    def _squared_errors(self, experiment: str, model: str, lead: int) -> xr.DataArray:
        """Of each seed's cell-days [seed, time, lat, lon], m6 m-6, in double precision."""
        runs = (self.predictions(experiment, model, lead, seed) for seed in self.seeds_of(experiment, model, lead))
        errors = [((run["predicted"] - run["observed"]) ** 2).astype(np.float64) for run in runs]
        return xr.concat(errors, dim="seed").transpose("seed", "time", "lat", "lon")

    def _compare_with_scratch(self, experiment: str, model: str, lead: int) -> dict[str, Any]:
        """The table's columns of transfer (score_table.TRANSFER); without those that there is no rival for."""
        if experiment != TRANSFERRED or not self.has(SCRATCH, model, lead):
            return {}
        cells = self.transfer_by_cell(model, lead)
        tested = cells["tested"]
        count = int(tested.sum()) or np.nan  # no share where no cell has enough days
        shares = {
            "cells_gain": int((tested & (cells["mse"] < 0)).sum()) / count,
            "cells_better": int((tested & cells["better"]).sum()) / count,
            "cells_worse": int((tested & cells["worse"]).sum()) / count,
        }
        row = self._compare_transfer(model, lead, rival=model, columns=AGAINST_SCRATCH) | shares
        if self.has(SCRATCH, model + MATCHED, lead):
            row |= self._compare_transfer(model, lead, rival=model + MATCHED, columns=AGAINST_MATCHED)
        return row

    def _compare_transfer(self, model: str, lead: int, *, rival: str, columns: Sequence[str]) -> dict[str, Any]:
        """A model with transfer against one from scratch: change of RMSE, low, high, p and verdict as these columns."""
        change = self.rmse_change(Comparison(TRANSFERRED, model, lead, (SCRATCH, rival)))
        found = (change.value, change.low, change.high, change.p, significance.verdict(change))
        return dict(zip(columns, found, strict=True))

    def _read_predictions(self, experiment: str, model: str, lead: int, seed: int | None = None) -> xr.Dataset:
        """predictions.nc of a run, or of a baseline, for which any seed will do.

        Baselines are stored under SMAPtest and serve finetune-SMAPtest too: the samples are the same.
        """
        if seed in self.seeds_of(experiment, model, lead):
            folder = run_folder(experiment, model, lead, seed)
        else:
            folder = Path(SCRATCH if experiment == TRANSFERRED else experiment, model, f"lead{lead}")
        path = self.out / "runs" / folder / "predictions.nc"
        if not path.exists():
            raise UserError(f"{path} is missing; make it with: {self.study['command']}")
        try:
            with xr.open_dataset(path, engine="netcdf4") as ds:
                return ds.load()
        except Exception as error:  # every layer below raises its own kinds
            refuse_locked(path)
            raise UserError(f"{path} cannot be read, it may be damaged: {fold(error)[:150]}.") from error

    def _read_any_metrics(self, experiment: str) -> dict[str, Any]:
        """metrics.json of the first run of an experiment; empty where there is none."""
        return next((self._read_metrics(run) for run in self.study["runs"] if run.startswith(experiment)), {})

    def _read_metrics(self, folder: str) -> dict[str, Any]:
        """metrics.json of a run, which must be of the study's own test period and data, and what its row adds."""
        path = self.out / "runs" / folder / "metrics.json"
        metrics = read_json(path)
        if not metrics:
            raise UserError(f"{path} is missing or damaged; make it with: {self.study['command']}")
        experiment, model, lead_folder = folder.split("/")[:3]
        evaluated = metrics.get("state", metrics)  # baselines have what they were made from in a part of its own
        same_days = evaluated.get("test") == [list(self.study["periods"][experiment]["test"])]
        own = self.study["runs"].get(folder, {})  # a control run has learned from another source
        same_data = evaluated.get("data_sha256") == own.get("data_sha256", self.study["data_sha256"][experiment])
        same_age = evaluated.get("max_input_age") == self.study.get("max_input_age")
        if not (same_days and same_data and same_age):
            raise UserError(
                f"{path.parent} was evaluated on other days, ages or data; restore it with: {self.study['command']}"
            )
        metrics |= {"model": model} | own
        lead = int(lead_folder.removeprefix("lead"))
        if len(self.seeds_of(experiment, model, lead)) == 1:
            metrics |= self._compare_with_scratch(experiment, model, lead)
        return metrics
