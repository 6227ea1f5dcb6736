"""The study's runs: which there are, in which order, and how each differs from its train script's own settings.

Besides every model at every lead, three questions need runs of their own, told by the model's name:
convlstm_without_precipitation, convlstm_with_season; convlstm_30days (learned from the last 30 SMAP days before the
test); and more leads of the best model. Two more are asked for by a flag: convlstm_l2sp_90days (strategies of transfer
by SMAP days), convlstm_forecast_rain (the weather of the days ahead).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from utils import experiment
from utils.common.cli import UserError
from utils.common.files import ROOT
from utils.common.periods import Periods
from utils.dataset.prepared import SEASON, VARIABLES, open_prepared
from utils.settings import (
    EXPERIMENTS,
    FinetuneSettings,
    RunSettings,
    complete,
    run_folder,
    split_of,
)
from utils.training.inference import load_script

YEAR = 365  # days of the test period, and of the validation period before it
TARGET_DAYS = (30, 90, 180, 365)  # of the SMAP record; the whole of it is the main study
LEADS = tuple(range(1, 11))  # of the best model and the baselines
FEW_LEADS = (1, 2, 3, 5, 7, 10)  # of the best model in the reduced study
PAPERS_BEST = "convlstm"
COMPACT = "compact"
STRATEGIES: dict[str, dict[str, Any]] = {  # settings of a fine-tuning; all but full add their name to the model's
    "full": {},  # all weights learn, as published
    "zero_shot": {"epochs": 0},
    "head": {"transfer": "head"},
    "gradual": {"transfer": "gradual"},
    "discriminative": {"transfer": "discriminative"},
    "l2sp": {"transfer": "l2sp"},
    "mean_variance": {"match": "mean_variance"},  # all weights, on SMAP carried to the source's climate
}
OF_COMPACT = ("full", "zero_shot", "head")  # the strategies that it has
WEATHER = {"perfect": "_future_rain", "degraded": "_forecast_rain"}  # what is known of the days ahead, in the name


@dataclass(frozen=True)
class Task:
    """One run. `variant` is what its name adds to the model's, for all that follows may differ from the script's."""

    experiment: str
    model: str
    lead_days: int
    seed: int
    variant: str = ""
    predictors: tuple[str, ...] = tuple(VARIABLES)
    target_days: int | None = None
    strategy: str = "full"  # of STRATEGIES
    weather: str = ""  # of WEATHER; empty: nothing is known of the days ahead

    @property
    def folder(self) -> Path:
        """Where the run is below the study's runs."""
        return run_folder(self.experiment, self.model + self.variant, self.lead_days, self.seed)

    @property
    def source(self) -> "Task":
        """The pre-training that a fine-tuning starts from: it sees the same, whatever the target days and strategy."""
        variant = "" if self.target_days or self.strategy != "full" else self.variant
        return replace(self, experiment="ERA5test", variant=variant, target_days=None, strategy="full")

    @property
    def note(self) -> str:
        """What its row of the table says of the strategy."""
        return " ".join(f"--{name} {value}" for name, value in list(STRATEGIES[self.strategy].items())[:1])


def main_tasks(models: Sequence[str], leads: Sequence[int], seeds: Sequence[int]) -> list[Task]:
    """Every experiment of every model; a fine-tuning follows its pre-training."""
    return [Task(e, m, lead, seed) for lead, seed, m, e in product(leads, seeds, models, EXPERIMENTS)]


def predictor_tasks(model: str, lead: int, seeds: Sequence[int]) -> list[Task]:
    """With transfer, without each predictor and with the season added."""
    changes = {f"_without_{name}": tuple(v for v in VARIABLES if v != name) for name in VARIABLES}
    changes["_with_season"] = (*VARIABLES, SEASON)
    return [
        Task(e, model, lead, seed, variant, predictors)
        for seed, (variant, predictors), e in product(seeds, changes.items(), ("ERA5test", "finetune-SMAPtest"))
    ]


def target_day_tasks(model: str, lead: int, seeds: Sequence[int], most: int) -> list[Task]:
    """From scratch and with transfer on the last N days, for each N below the `most` there are."""
    return [
        Task(e, model, lead, seed, suffix(days), target_days=days)
        for seed, days, e in product(seeds, TARGET_DAYS, ("SMAPtest", "finetune-SMAPtest"))
        if days < most
    ]


def strategy_tasks(model: str, leads: Sequence[int], seeds: Sequence[int], most: int) -> list[Task]:
    """From scratch and by every strategy, on the last N days for each N below the `most` there are, and on all."""
    lengths = [days for days in TARGET_DAYS if days < most] + [None]
    tasks = []
    for lead, seed in product(leads, seeds):
        tasks.append(Task("ERA5test", model, lead, seed))
        for days in lengths:
            tasks.append(Task("SMAPtest", model, lead, seed, suffix(days), target_days=days))
            tasks += [
                Task(
                    "finetune-SMAPtest",
                    model,
                    lead,
                    seed,
                    variant_of(strategy, days),
                    target_days=days,
                    strategy=strategy,
                )
                for strategy in (OF_COMPACT if model == COMPACT else STRATEGIES)
            ]
    return tasks


def variant_of(strategy: str, days: int | None) -> str:
    """What a strategy and the days it learns from add to a model's name."""
    return ("" if strategy == "full" else f"_{strategy}") + suffix(days)


def suffix(days: int | None) -> str:
    """What the days it learns from add to a model's or a baseline's name: nothing for the whole record."""
    return f"_{days}days" if days else ""


def weather_tasks(model: str, leads: Sequence[int], seeds: Sequence[int]) -> list[Task]:
    """With transfer, blind to the rain of the days ahead, and knowing it from degraded and from perfect forecasts."""
    experiments = ("ERA5test", "finetune-SMAPtest")
    return lead_tasks(model, leads, seeds) + [
        Task(e, model, lead, seed, variant, weather=weather)
        for lead, seed, (weather, variant), e in product(leads, seeds, WEATHER.items(), experiments)
    ]


def lead_tasks(model: str, leads: Sequence[int], seeds: Sequence[int]) -> list[Task]:
    """With transfer at more leads."""
    return [Task(e, model, lead, seed) for lead, seed, e in product(leads, seeds, ("ERA5test", "finetune-SMAPtest"))]


@dataclass
class Plan:
    """What all tasks share: the two data sets, their periods, and how long to train."""

    data: dict[str, Path]  # of each experiment
    periods: dict[str, dict[str, Periods]]  # train, val and test of each experiment
    full: bool  # the scripts' own epochs and patience; else a third of the epochs and a patience of 5
    runs: Path  # the run directories are below this one
    forecasts: dict[str, Path] = field(default_factory=dict)  # degraded, of each experiment; where they are asked for

    @classmethod
    def of(cls, source: Path, target: Path, full: bool, runs: Path) -> "Plan":
        data = {name: source if name == "ERA5test" else target for name in EXPERIMENTS}
        return cls(data, study_periods(source, target), full, runs)

    def settings(self, task: Task) -> tuple[RunSettings, str, experiment.Build | None]:
        """Complete settings of a task's run, the name of its script, and the script's build function if it has one."""
        chosen, script, build = configured(task.experiment, task.model, self.full)
        chosen = replace(
            chosen,
            data=self.data[task.experiment],
            **self.periods[task.experiment],
            lead_days=task.lead_days,
            seed=task.seed,
            out=self.runs / task.folder,
            **self.changed(task),
        )
        if isinstance(chosen, FinetuneSettings):
            chosen.init_from = self.runs / task.source.folder
        if task.target_days and task.model == COMPACT:  # which knows by itself what to do with few days
            chosen.target_days = task.target_days
        elif task.target_days:
            complete(chosen)
            whole = days_of(split_of(chosen).train)
            chosen.target_days = task.target_days
            few = days_of(split_of(chosen).train)
            # as many steps as on the whole record, or few days would only mean little training
            factor = math.ceil(whole / chosen.batch_size) / math.ceil(few / chosen.batch_size)
            chosen.epochs, chosen.patience = round(chosen.epochs * factor), round(chosen.patience * factor)
            if task.strategy == "gradual":
                chosen.unfreeze_every = round(chosen.unfreeze_every * factor)
        return chosen, script, build

    def changed(self, task: Task) -> dict[str, Any]:
        """Settings by which the task's strategy, and what it knows of the weather ahead, differ from the script's."""
        settings = dict(STRATEGIES[task.strategy])
        if task.model != COMPACT:
            settings["predictors"] = task.predictors
        elif task.predictors != tuple(VARIABLES):
            raise UserError("--predictors means nothing to the compact model; give --no-details, or another model.")
        if task.weather:
            settings["future_precipitation"] = True
        if task.weather == "degraded":
            settings["future_from"] = self.forecasts[task.experiment]
        return settings

    @property
    def target_days(self) -> int:
        """SMAP days there are to learn from and to choose by."""
        periods = self.periods["SMAPtest"]
        return days_of([tuple(map(np.datetime64, (periods["train"][0], periods["val"][1])))])


def days_of(spans: Sequence[tuple[np.datetime64, np.datetime64]]) -> int:
    return sum(int((end - start).astype(int)) + 1 for start, end in spans)


def study_periods(source: Path, target: Path) -> dict[str, dict[str, Periods]]:
    """Target days of each experiment: the last year of the record for the test, the year before for validation.

    The source is used up to the day before SMAP's test year, so that no model has seen a day of it.
    """
    first, last = record_of(target)
    smap = periods_of(first, last, target)
    source_first, source_last = record_of(source)
    era5 = periods_of(source_first, min(source_last, np.datetime64(smap["test"][0]) - 1), source)
    return {"ERA5test": era5, "SMAPtest": smap, "finetune-SMAPtest": smap}


def record_of(path: Path) -> tuple[np.datetime64, np.datetime64]:
    """First and last day of a prepared data set."""
    with open_prepared(path) as ds:
        days = ds["time"].values.astype("datetime64[D]")
    return days[0], days[-1]


def periods_of(first: np.datetime64, last: np.datetime64, path: Path) -> dict[str, Periods]:
    test, val = last - YEAR + 1, last - 2 * YEAR + 1
    if val <= first:
        raise UserError(f"{path} offers {first} to {last} to this study, expected more than {2 * YEAR} days.")
    return {"train": (str(first), str(val - 1)), "val": (str(val), str(test - 1)), "test": (str(test), str(last))}


def configured(name: str, model: str, full: bool) -> tuple[RunSettings, str, experiment.Build | None]:
    """A train script's own settings with the study's epochs, the script's name, and its build function if any."""
    script, _, head = (model, "", "") if (ROOT / name / f"train_{model}.py").exists() else model.rpartition("_")
    path = ROOT / name / f"train_{script}.py"
    module = load_script(path) if path.exists() else None
    heads = get_args(get_type_hints(module.Settings).get("head")) if module else ()
    if module is None or (head and head not in heads):
        raise UserError(f"--models has {model!r}, but there is no {name}/train_{model}.py and no such --head.")
    settings = module.Settings(**({"head": head} if head else {}))
    if not full and script != "compact":  # which takes a minute as it is
        third = max(1, (settings.epochs or settings.published_epochs) // 3)
        settings = replace(settings, epochs=third, patience=5)
    return settings, script, getattr(module, "build", None)
