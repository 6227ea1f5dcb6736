"""The study's runs: which there are, in which order, and how each differs from its train script's own settings.

The main study is every model in every experiment at every lead. Some questions need further runs, told by the model's
name: convlstm_without_precipitation and convlstm_with_season; convlstm_30days, which learns from the last 30 SMAP days
before the test; and more leads of the best model. Two flags add more: convlstm_l2sp_90days (strategies of transfer by
SMAP days) and convlstm_forecast_rain (the rain of the days ahead is known from forecasts). convlstm_matched learns from
scratch, for as many steps as its pre-training and its fine-tuning took together. convlstm_other_world starts from
another source than the study's (CONTROLS).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from utils import experiment
from utils.common.cli import UserError
from utils.common.files import ROOT
from utils.common.periods import Periods
from utils.dataset.predictors import SEASON, in_order
from utils.dataset.prepared import VARIABLES
from utils.settings import (
    EXPERIMENTS,
    FinetuneSettings,
    RunSettings,
    run_folder,
)
from utils.study.budgets import count_days, set_budget, set_days
from utils.study.controls import CONTROLS
from utils.study.periods import Asked, choose_periods
from utils.training.checkpoint import load_finished
from utils.training.inference import load_script

PRETRAINING, SCRATCH, TRANSFERRED = EXPERIMENTS
TARGET_DAYS = (30, 90, 180, 365)  # of the SMAP record; the whole of it is the main study
LEADS = tuple(range(1, 11))  # of the best model and the baselines
FEW_LEADS = (1, 2, 3, 5, 7, 10)  # of the best model in the reduced study
PAPERS_BEST = "convlstm"
OURS = ("compact", "change_net")  # they know by themselves how long to train, and learn from validation days too
STRATEGIES: dict[str, dict[str, Any]] = {  # settings of a fine-tuning; all but full add their name to the model's
    "full": {},  # all weights learn, as published
    "zero_shot": {"epochs": 0},
    "head": {"transfer": "head"},
    "gradual": {"transfer": "gradual"},
    "discriminative": {"transfer": "discriminative"},
    "l2sp": {"transfer": "l2sp"},
    "mean_variance": {"match": "mean_variance"},  # all weights, on SMAP carried to the source's climate
}
OF_EVERY_MODEL = ("input_days", "predictors", "static")  # settings asked for that OURS take too
OF_OURS = {
    "compact": ("full", "zero_shot", "head"),
    "change_net": ("full", "zero_shot"),
}  # their strategies
WITHOUT_STEPS = ("compact",)  # its networks and its regressions are fitted in turns
MATCHED = "_matched"  # in the name of a compute-matched run
WEATHER = {"perfect": "_future_rain", "degraded": "_forecast_rain"}  # what is known of the days ahead, in the name


@dataclass(frozen=True)
class Task:
    """One run of the study. Its name is the model's and the `variant`; the other fields say how it differs."""

    experiment: str
    model: str
    lead_days: int
    seed: int
    variant: str = ""
    predictors: tuple[str, ...] | None = None  # None: those of the study
    target_days: int | None = None
    strategy: str = "full"  # of STRATEGIES
    weather: str = ""  # of WEATHER; empty: nothing is known of the days ahead
    matched: bool = False  # as many steps as pre-training and fine-tuning took together
    control: str = ""  # of CONTROLS; empty: pre-trained on the study's own source

    @property
    def folder(self) -> Path:
        """Where the run is below the study's runs."""
        return run_folder(self.experiment, self.model + self.variant, self.lead_days, self.seed)

    @property
    def source(self) -> "Task":
        """The pre-training that a fine-tuning starts from. It is the same for all target days and strategies."""
        variant = "" if self.target_days or self.strategy != "full" else self.variant
        return replace(self, experiment=PRETRAINING, variant=variant, target_days=None, strategy="full")

    @property
    def tuned(self) -> "Task":
        """The fine-tuning whose steps a compute-matched run has, beside those of its pre-training."""
        return replace(self, experiment=TRANSFERRED, variant=self.variant.removesuffix(MATCHED), matched=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """Folders of the runs that must be done before."""
        if self.matched:
            return (self.tuned.folder.as_posix(),)
        return (self.source.folder.as_posix(),) if self.experiment == TRANSFERRED else ()

    @property
    def note(self) -> str:
        """For the table: what was matched, what a control learned from, or the strategy as flags of the script."""
        if self.control:
            return CONTROLS[self.control].note
        if self.matched:
            return "as many steps as pre-training and fine-tuning together"
        return " ".join(f"--{name} {value}" for name, value in STRATEGIES[self.strategy].items())


def closer_models(detail: str) -> tuple[str, ...]:
    """The models of the closer questions that take more than one: one network, and OURS."""
    return tuple(dict.fromkeys((detail, *OURS)))


def plan_main(models: Sequence[str], leads: Sequence[int], seeds: Sequence[int]) -> list[Task]:
    """Every experiment of every model; a fine-tuning follows its pre-training."""
    return [
        Task(experiment=experiment, model=model, lead_days=lead, seed=seed)
        for lead, seed, model, experiment in product(leads, seeds, models, EXPERIMENTS)
    ]


def plan_matched(tasks: Iterable[Task]) -> list[Task]:
    """Those from scratch again, with the steps of pre-training and fine-tuning, of the models that learn by steps."""
    return [
        replace(task, variant=task.variant + MATCHED, matched=True)
        for task in tasks
        if task.experiment == SCRATCH and task.model not in WITHOUT_STEPS
    ]


def plan_leads(model: str, leads: Sequence[int], seeds: Sequence[int]) -> list[Task]:
    """With transfer at more leads."""
    return [
        Task(experiment=experiment, model=model, lead_days=lead, seed=seed)
        for lead, seed, experiment in product(leads, seeds, (PRETRAINING, TRANSFERRED))
    ]


def plan_predictors(
    model: str, lead: int, seeds: Sequence[int], predictors: tuple[str, ...] = tuple(VARIABLES)
) -> list[Task]:
    """With transfer, without each of the three variables that is among the predictors, and with the season added."""
    removed = [name for name in predictors if name in VARIABLES]
    choices = {f"_without_{name}": tuple(other for other in predictors if other != name) for name in removed}
    choices["_with_season"] = in_order((*predictors, SEASON))
    if getattr(read_train_script(PRETRAINING, model).settings, "forecast", "") == "change":
        choices.pop("_without_soil_moisture", None)  # a change counts from it
    return [
        Task(
            experiment=experiment,
            model=model,
            lead_days=lead,
            seed=seed,
            variant=variant,
            predictors=choices[variant],
        )
        for seed, variant, experiment in product(seeds, choices, (PRETRAINING, TRANSFERRED))
    ]


def plan_target_days(model: str, lead: int, seeds: Sequence[int], record_days: int) -> list[Task]:
    """From scratch and with transfer on the last N days, for each N that is shorter than the record."""
    return [
        Task(experiment=experiment, model=model, lead_days=lead, seed=seed, variant=suffix(days), target_days=days)
        for seed, days, experiment in product(seeds, TARGET_DAYS, (SCRATCH, TRANSFERRED))
        if days < record_days
    ]


def plan_strategies(model: str, leads: Sequence[int], seeds: Sequence[int], record_days: int) -> list[Task]:
    """From scratch and by every strategy, on the last N days for each N shorter than the record, and on all of it."""
    strategies = OF_OURS.get(model, tuple(STRATEGIES))
    lengths = [days for days in TARGET_DAYS if days < record_days] + [None]
    tasks = []
    for lead, seed in product(leads, seeds):
        pretraining = Task(experiment=PRETRAINING, model=model, lead_days=lead, seed=seed)
        tasks.append(pretraining)
        for days in lengths:
            tasks.append(replace(pretraining, experiment=SCRATCH, variant=suffix(days), target_days=days))
            tasks += [
                replace(
                    pretraining,
                    experiment=TRANSFERRED,
                    variant=variant_of(strategy, days),
                    target_days=days,
                    strategy=strategy,
                )
                for strategy in strategies
            ]
    return tasks


def plan_weather(model: str, leads: Sequence[int], seeds: Sequence[int]) -> list[Task]:
    """With transfer, blind to the rain of the days ahead, and knowing it from degraded and from perfect forecasts."""
    return plan_leads(model, leads, seeds) + [
        Task(
            experiment=experiment,
            model=model,
            lead_days=lead,
            seed=seed,
            variant=WEATHER[weather],
            weather=weather,
        )
        for lead, seed, weather, experiment in product(leads, seeds, WEATHER, (PRETRAINING, TRANSFERRED))
    ]


def plan_controls(model: str, lead: int, seeds: Sequence[int], controls: Iterable[str]) -> list[Task]:
    """With transfer from each control source."""
    return [
        Task(experiment=experiment, model=model, lead_days=lead, seed=seed, variant=f"_{control}", control=control)
        for seed, control, experiment in product(seeds, controls, (PRETRAINING, TRANSFERRED))
    ]


def variant_of(strategy: str, days: int | None) -> str:
    """What a strategy and the days it learns from add to a model's name."""
    return ("" if strategy == "full" else f"_{strategy}") + suffix(days)


def suffix(days: int | None) -> str:
    """What the days it learns from add to a model's or a baseline's name: nothing for the whole record."""
    return f"_{days}days" if days else ""


@dataclass
class TrainScript:
    """What the study takes from a train script: its name, its settings, and the function that builds its model."""

    name: str
    settings: RunSettings
    build: experiment.Build | None  # None: that of the pre-trained run


@dataclass
class Plan:
    """What all tasks share: the two data sets, their periods, and how long to train."""

    data: dict[str, Path]  # of each experiment
    periods: dict[str, dict[str, Periods]]  # train, val and test of each experiment
    full: bool  # the scripts' own epochs and patience; else until the validation RMSE stops improving
    runs: Path  # the run directories are below this one
    forecasts: dict[str, Path] = field(default_factory=dict)  # degraded, of each experiment; where they are asked for
    settings: dict[str, Any] = field(default_factory=dict)  # input_days, epochs, batch_size: instead of the scripts'
    max_input_age: int | None = None  # score where the last observation is at most so many days old; None: any age
    controls: dict[str, Path] = field(default_factory=dict)  # sources of control runs; where they are asked for

    @classmethod
    def of(
        cls,
        source: Path,
        target: Path,
        full: bool,
        runs: Path,
        asked: Asked | None = None,
        source_asked: Asked | None = None,
        **more: Any,
    ) -> "Plan":
        """The plan for two data sets; `asked` periods as choose_periods takes them, `more` fields of the plan."""
        data = {PRETRAINING: source, SCRATCH: target, TRANSFERRED: target}
        periods = choose_periods(source, target, asked, source_asked)
        return cls(data=data, periods=periods, full=full, runs=runs, **more)

    def configure(self, task: Task) -> TrainScript:
        """The train script of a task, with complete settings."""
        script = read_train_script(task.experiment, task.model)
        settings = replace(
            script.settings,
            data=self.data_of(task),
            **self.periods[task.experiment],
            lead_days=task.lead_days,
            seed=task.seed,
            out=self.runs / task.folder,
            **self.own_settings(task),
        )
        if isinstance(settings, FinetuneSettings):
            settings.init_from = self.runs / task.source.folder
        steps = self.steps_with_transfer(task) if task.matched else None
        if task.model in OURS:  # they know what to do with few days
            set_days(settings, task.target_days, exactly=steps)
        else:
            fixed = self.full or "epochs" in self.settings
            set_budget(settings, task.target_days, published=fixed, exactly=steps)
        return replace(script, settings=settings)

    def data_of(self, task: Task) -> Path:
        """The data set that a task learns from."""
        if task.control and task.experiment == PRETRAINING:
            return self.controls[task.control]
        return self.data[task.experiment]

    def steps_with_transfer(self, task: Task) -> int:
        """The steps that pre-training and fine-tuning took together, of the finished runs."""
        steps = {run.folder: load_finished(self.runs / run.folder).steps for run in (task.tuned.source, task.tuned)}
        if silent := [folder for folder, number in steps.items() if not number]:
            raise UserError(f"{self.runs / silent[0]} does not say how many steps it took; delete it, to make it anew.")
        return sum(steps.values())

    def own_settings(self, task: Task) -> dict[str, Any]:
        """The settings asked for, of the task's strategy, and of what it knows of the weather ahead."""
        settings = self._asked_settings(task.model) | STRATEGIES[task.strategy]
        if task.predictors:
            settings["predictors"] = task.predictors
        if task.predictors and task.model in OURS:
            raise UserError(f"{task.model} cannot do without a predictor; give --no-details, or another model.")
        if task.weather:
            settings["known_ahead"] = ("precipitation",)
        if task.weather == "degraded":
            settings["future_from"] = self.forecasts[task.experiment]
        return settings

    def _asked_settings(self, model: str) -> dict[str, Any]:
        """Those of OURS leave out the epochs and the batch: they are meant for the published networks."""
        if model in OURS:
            return {name: value for name, value in self.settings.items() if name in OF_EVERY_MODEL}
        exactly = {"patience": 0} if "epochs" in self.settings else {}
        return self.settings | exactly

    @property
    def target_days(self) -> int:
        """SMAP days there are to learn from and to choose by: from the first of training to the last of validation."""
        periods = self.periods[SCRATCH]
        first, last = np.datetime64(periods["train"][0]), np.datetime64(periods["val"][1])
        return count_days([(first, last)])


def read_train_script(name: str, model: str) -> TrainScript:
    """A model's train script in the folder `name`, with its own settings.

    A model is named by its script, train_<model>.py, alone or with the settings that tell its variants apart:
    convlstm_conv has another head, convlstm_conv_change also forecasts changes. Raises UserError where there is none.
    """
    parts = model.split("_")
    names = ["_".join(parts[:count]) for count in range(len(parts), 0, -1)]
    script = next((found for found in names if (ROOT / name / f"train_{found}.py").exists()), "")
    module = load_script(ROOT / name / f"train_{script}.py") if script else None
    for settings in _variants(module.Settings) if module else ():
        if settings.model_name(script) == model:
            return TrainScript(name=script, settings=settings, build=getattr(module, "build", None))
    raise UserError(f"--models has {model!r}, but there is no {name}/train_{model}.py with such --head and --forecast.")


def _variants(kind: type[RunSettings]) -> Iterator[RunSettings]:
    """A train script's settings with each value of those that tell its variants apart."""
    hints = get_type_hints(kind)
    choices = {name: get_args(hints[name]) for name in ("head", "forecast") if name in hints}
    for values in product(*choices.values()):
        yield kind(**dict(zip(choices, values, strict=True)))
