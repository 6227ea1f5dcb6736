"""A finished study, read back from its files alone: study.json, and predictions.nc, metrics.json of every run."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from utils import significance
from utils.console import UserError
from utils.drawing import BASELINES
from utils.files import read_json
from utils.significance import Estimate
from utils.tables import TRANSFER, table

REDUCED = "Reduced study: at most a third of the published epochs, early stopping."
ONE_SEED = "One seed: these are statements about these trained networks, not about their architecture."
SCRATCH, TRANSFERRED = "SMAPtest", "finetune-SMAPtest"


class Results:
    """Scores and forecasts of a study below `out`. Raises UserError where there is none, or a part of it is missing."""

    def __init__(self, out: Path):
        self.out = out
        self.study = read_json(out / "study.json")
        if not self.study:
            raise UserError(f"{out} holds no study; make it with: python reproduce.py --out {out}")
        self.models, self.leads, self.seeds = (self.study[name] for name in ("models", "lead_days", "seeds"))
        self.detail, self.best = self.study["detail"], self.study["best"]  # models of the closer questions
        self.lead = self.leads[0]  # of the closer questions
        self.predictions = lru_cache(maxsize=24)(self._predictions)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a run or baseline; fine-tuned runs with what transfer changed."""
        return table(self._metrics(folder) for folder in self.study["runs"])

    def main(self) -> pd.DataFrame:
        """The rows of contract 5's study: every model and baseline at every lead, without variants."""
        rows = self.table[self.table["model"].isin([*self.models, *BASELINES])]
        return rows[rows["lead_days"].isin(self.leads)]

    @property
    def synthetic(self) -> bool:
        return bool((self.table["data"] == "SYNTHETIC sample").any())

    def title(self, text: str) -> str:
        return f"{text} (SYNTHETIC sample)" if self.synthetic else text

    def reservations(self, more: str = "") -> str:
        """What an answer has to be read with: `more`, then what holds for the whole study."""
        reduced = (
            "" if self.study["full"] else "Reduced study: at most a third of the published epochs, early stopping."
        )
        seeds = ONE_SEED if len(self.seeds) == 1 else ""
        return " ".join(filter(None, [more, reduced, seeds]))

    def has(self, experiment: str, model: str, lead: int | None = None) -> bool:
        return all(self.folder(experiment, model, lead or self.lead, s) in self.study["runs"] for s in self.seeds[:1])

    def folder(self, experiment: str, model: str, lead: int, seed: int | None) -> str:
        return f"{experiment}/{model}/lead{lead}/seed{seed}"

    def seeds_of(self, experiment: str, model: str, lead: int) -> list[int]:
        """The seeds a model was run with; the closer questions may have fewer than the main study."""
        return [s for s in self.seeds if self.folder(experiment, model, lead, s) in self.study["runs"]]

    def sums(
        self,
        experiment: str,
        model: str,
        lead: int,
        rival: tuple[str, str] | None = None,
        season: str | None = None,
    ) -> list[Float[np.ndarray, "time moment"]]:
        """Daily sums of each seed against persistence, or against the same seed of the run `rival`, in a season."""
        found = []
        for seed in self.seeds_of(experiment, model, lead) or [None]:
            one = significance.calendar(self.predictions(experiment, model, lead, seed))
            reference = one["persistence"]
            if rival:
                reference = significance.calendar(self.predictions(*rival, lead, seed))["predicted"]
            observed = one["observed"].values
            if season:
                observed = one["observed"].where(one["time"].dt.season == season).values
            found.append(significance.daily_sums(observed, one["predicted"].values, reference.values))
        return found

    def estimate(self, score: Callable[[Tensor], Tensor], *which, **how) -> Estimate:
        """A score of a model over all its seeds, with its interval; `sums` says what may be asked for."""
        return significance.estimate(self.sums(*which, **how), score)

    def transfer_by_cell(self, model: str, lead: int, seeds: Sequence[int]) -> xr.Dataset:
        """Change of the squared error by transfer, mean over time and seeds [lat, lon], and where it is significant."""
        differences = []
        for seed in seeds:
            tuned, scratch = (
                significance.calendar(self.predictions(e, model, lead, seed)) for e in (TRANSFERRED, SCRATCH)
            )
            errors = [(run["predicted"] - tuned["observed"]) ** 2 for run in (tuned, scratch)]
            differences.append((errors[0] - errors[1]).transpose("time", "lat", "lon"))
        difference = sum(differences) / len(differences)
        better, worse = significance.better_and_worse(difference.values)
        maps = {"better": (("lat", "lon"), better), "worse": (("lat", "lon"), worse)}
        return xr.Dataset({"mse": difference.mean("time"), **maps})

    def _predictions(self, experiment: str, model: str, lead: int, seed: int | None = None) -> xr.Dataset:
        """predictions.nc of a run or of a baseline, whatever the seed; SMAP's baselines serve both its experiments."""
        folder = self.folder(experiment, model, lead, seed)
        if folder not in self.study["runs"]:
            folder = f"{SCRATCH if experiment == TRANSFERRED else experiment}/{model}/lead{lead}"
        path = self.out / "runs" / folder / "predictions.nc"
        if not path.exists():
            raise UserError(f"{path} is missing; make it with: {self.study['command']}")
        with xr.open_dataset(path, engine="netcdf4") as ds:
            return ds.load()

    def _metrics(self, folder: str) -> dict[str, Any]:
        path = self.out / "runs" / folder / "metrics.json"
        found = read_json(path)
        if not found:
            raise UserError(f"{path} is missing; make it with: {self.study['command']}")
        experiment, model, lead, seed = folder.split("/")
        lead, seed = int(lead.removeprefix("lead")), int(seed.removeprefix("seed"))
        found |= {"model": model, **self.study["runs"][folder]}
        if experiment == TRANSFERRED and self.folder(SCRATCH, model, lead, seed) in self.study["runs"]:
            sums = [significance.daily_sums(*self._pair(model, lead, seed))]
            change = significance.estimate(sums, significance.rmse_change)
            cells = self.transfer_by_cell(model, lead, [seed])
            valued = cells["mse"].notnull()
            count = max(int(valued.sum()), 1)
            shares = [(cells["mse"] < 0), cells["better"], cells["worse"]]
            words = significance.verdict(significance.estimate(sums, significance.mse_difference))
            values = [change.value, change.low, change.high, change.p, words, *(int(s.sum()) / count for s in shares)]
            found |= dict(zip(TRANSFER, values, strict=True))
        return found

    def _pair(self, model: str, lead: int, seed: int) -> list[np.ndarray]:
        tuned, scratch = (significance.calendar(self.predictions(e, model, lead, seed)) for e in (TRANSFERRED, SCRATCH))
        return [tuned["observed"].values, tuned["predicted"].values, scratch["predicted"].values]
