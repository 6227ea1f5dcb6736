"""A finished study, read back from its files alone: study.json, and predictions.nc, metrics.json of every run."""

from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from utils.common.cli import UserError, fold
from utils.common.files import read_json
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.scores.score_table import TRANSFER, table
from utils.scores.significance import Estimate
from utils.settings import run_folder

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
        self.predictions = lru_cache(maxsize=6)(self._predictions)
        self.sums = lru_cache(maxsize=None)(self._sums)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a run or baseline; a model with several seeds has a row of their means, without a seed.

        Fine-tuned runs say what transfer changed; intervals and tests of a row of means speak about the model.
        """
        found = [self._metrics(folder) for folder in self.study["runs"]]
        long = table(found, [self._metrics(folder) for folder in self.study["baselines"]])
        runs = long[long["seed"].notna()]
        means = []
        for (experiment, model, lead), rows in runs.groupby(["experiment", "model", "lead_days"], sort=False):
            if len(rows) > 1:
                row = rows.iloc[0].to_dict() | rows.mean(numeric_only=True).to_dict()
                row |= {"seed": None, "best_epoch": None, "n": rows["n"].iloc[0], "note": f"mean of {len(rows)} seeds"}
                for score in ("rmse", "r2", "skill"):
                    found = self.estimate(getattr(significance, score), experiment, model, lead)
                    row |= {f"{score}_low": found.low, f"{score}_high": found.high}
                row |= {f"vs_{name}": self.verdict(experiment, model, lead, (SCRATCH, name)) for name in BASELINES}
                means.append(row | self._transfer(experiment, model, lead))
        return pd.concat([long, pd.DataFrame(means).astype(long.dtypes)], ignore_index=True) if means else long

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table with one row a model or baseline: of its only seed, or of the mean over seeds; by its names."""
        seeds = self.table.groupby(["experiment", "model", "lead_days"])["seed"].transform("count")
        return self.table[(seeds == 1) | self.table["seed"].isna()].set_index(["experiment", "model", "lead_days"])

    def main(self) -> pd.DataFrame:
        """The rows of the main study: every model and baseline at every lead, without variants."""
        rows = self.table[self.table["model"].isin([*self.models, *BASELINES])]
        return rows[rows["lead_days"].isin(self.leads)]

    def verdict(self, experiment: str, model: str, lead: int, rival: tuple[str, str]) -> str:
        """Whether a model, over its seeds, is better or worse than another or than a baseline."""
        return significance.verdict(self.estimate(significance.mse_difference, experiment, model, lead, rival=rival))

    @property
    def synthetic(self) -> bool:
        return bool((self.table["data"] == "SYNTHETIC sample").any())

    def title(self, text: str) -> str:
        return f"{text} (SYNTHETIC sample)" if self.synthetic else text

    def reservations(self, more: str = "") -> str:
        """What an answer has to be read with: `more`, then what holds for the whole study."""
        reduced = "" if self.study["full"] else REDUCED
        return " ".join(filter(None, [more, reduced, ONE_SEED if len(self.seeds) == 1 else ""]))

    def seeds_of(self, experiment: str, model: str, lead: int) -> list[int]:
        """The seeds a model was run with: none for baselines and for what was not run."""
        return [s for s in self.seeds if run_folder(experiment, model, lead, s).as_posix() in self.study["runs"]]

    def has(self, experiment: str, model: str, lead: int) -> bool:
        return bool(self.seeds_of(experiment, model, lead))

    def estimate(self, score: Callable[[Tensor], Tensor], *which, **how) -> Estimate:
        """A score of a model over all its seeds, with its interval; `_sums` says what may be asked for."""
        return significance.estimate(self.sums(*which, **how), score)

    def _sums(
        self,
        experiment: str,
        model: str,
        lead: int,
        rival: tuple[str, str] | None = None,
        season: str | None = None,
        cells_of: str | None = None,
    ) -> list[Float[np.ndarray, "time moment"]]:
        """Daily sums of each seed against persistence, or against the same seed of the run `rival`.

        In a season alone, or on the cells that SMAPtest's baseline `cells_of` scores, if asked for.
        """
        found = []
        for seed in self.seeds_of(experiment, model, lead) or [None]:
            one = self.predictions(experiment, model, lead, seed)
            reference = self.predictions(*rival, lead, seed)["predicted"] if rival else one["persistence"]
            observed = one["observed"]
            if season:
                observed = observed.where(observed["time"].dt.season == season)
            if cells_of:
                observed = observed.where(self.predictions(SCRATCH, cells_of, lead, seed)["observed"].notnull())
            found.append(significance.daily_sums(observed.values, one["predicted"].values, reference.values))
        return found

    def transfer_by_cell(self, model: str, lead: int) -> xr.Dataset:
        """What transfer changed [lat, lon], mean over seeds: `mse`, `better`, `worse` (significant), `tested`."""
        difference, seeds = 0, self.seeds_of(TRANSFERRED, model, lead)
        for seed in seeds:
            runs = [self.predictions(e, model, lead, seed) for e in (TRANSFERRED, SCRATCH)]
            tuned, scratch = (((run["predicted"] - run["observed"]) ** 2).astype(np.float64) for run in runs)
            difference = difference + (tuned - scratch) / len(seeds)
        names = ("better", "worse", "tested")
        maps = significance.better_and_worse(difference.transpose("time", "lat", "lon").values)
        return xr.Dataset(
            {"mse": difference.mean("time")}
            | {name: (("lat", "lon"), values) for name, values in zip(names, maps, strict=True)}
        )

    def _transfer(self, experiment: str, model: str, lead: int) -> dict[str, Any]:
        """The table's columns of transfer; nothing where there is no model to compare with."""
        if experiment != TRANSFERRED or not self.has(SCRATCH, model, lead):
            return {}
        change = self.estimate(significance.rmse_change, experiment, model, lead, rival=(SCRATCH, model))
        tested = self.estimate(significance.mse_difference, experiment, model, lead, rival=(SCRATCH, model))
        cells = self.transfer_by_cell(model, lead)
        count = max(int(cells["tested"].sum()), 1)
        shares = [(cells["tested"] & part) for part in (cells["mse"] < 0, cells["better"], cells["worse"])]
        values = [change.value, change.low, change.high, tested.p, significance.verdict(tested)]
        return dict(zip(TRANSFER, [*values, *(int(share.sum()) / count for share in shares)], strict=True))

    def _predictions(self, experiment: str, model: str, lead: int, seed: int | None = None) -> xr.Dataset:
        """predictions.nc of a run or of a baseline, whatever the seed; SMAP's baselines serve both its experiments."""
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
            raise UserError(f"{path} cannot be read, it may be damaged: {fold(error)[:150]}.") from error

    def _metrics(self, folder: str) -> dict[str, Any]:
        """metrics.json of a run, which must be of the study's own test period and data."""
        path = self.out / "runs" / folder / "metrics.json"
        found = read_json(path)
        if not found:
            raise UserError(f"{path} is missing or damaged; make it with: {self.study['command']}")
        parts = folder.split("/")
        experiment, model, lead = parts[0], parts[1], int(parts[2].removeprefix("lead"))
        asked = self.study["periods"][experiment]["test"], self.study["data_sha256"][experiment]
        state = found.get("state", found)
        if (state.get("test"), state.get("data_sha256")) != ([list(asked[0])], asked[1]):
            raise UserError(
                f"{path.parent} was evaluated on other days or data; restore it with: {self.study['command']}"
            )
        found |= {"model": model} | self.study["runs"].get(folder, {})
        if len(self.seeds_of(experiment, model, lead)) == 1:
            return found | self._transfer(experiment, model, lead)
        return found
