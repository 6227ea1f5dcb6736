"""The study as jobs: every run, every forecast with a shuffled predictor, and every set of baselines is one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import psutil
import torch

from utils import experiment
from utils.common.files import read_json
from utils.common.parallel import Job, cores
from utils.dataset.open import data_hash
from utils.dataset.prepared import VARIABLES, grid_of, open_prepared
from utils.evaluation import current_metrics, evaluate
from utils.forecasts.cross_validation import cross_validate
from utils.scores.baseline_runs import evaluate_baselines
from utils.scores.baselines import BASELINES
from utils.scores.scoring import hash_scoring
from utils.settings import complete, split_of
from utils.study.plan import (
    COMPACT,
    FEW_LEADS,
    LEADS,
    PAPERS_BEST,
    Plan,
    Task,
    lead_tasks,
    main_tasks,
    predictor_tasks,
    strategy_tasks,
    suffix,
    target_day_tasks,
    weather_tasks,
)
from utils.training.checkpoint import load_checkpoint

STUDY = "data train val test lead_days seed predictors target_days epochs patience out init_from head".split()
ROOM = 3 * 2**29  # bytes of a run beside its weights: libraries, data and activations
PER_WEIGHT = 16  # bytes: the weight, its gradient and Adam's two means


def make_run(plan: Plan, task: Task) -> dict[str, Any]:
    """Train and evaluate a run, whatever of it is missing: validation and test RMSE, m3 m-3, and whether it trained."""
    settings, script, build = plan.settings(task)
    origins = dict.fromkeys([*STUDY, "unfreeze_every", *plan.changed(task)], "reproduce.py")
    made = experiment.run(f"{task.experiment}/{script}", settings, build, origins, lambda checkpoint: None)
    metrics = (not made.trained and current_metrics(made.dir, made.checkpoint)) or evaluate(made.dir)
    return {"validation_rmse": made.checkpoint.best_rmse, "rmse": metrics["rmse"], "trained": made.trained}


def make_permuted(plan: Plan, task: Task, predictor: str) -> dict[str, Any]:
    """Forecast with a trained run and one predictor shuffled, as a run of its own, where that is missing."""
    run_dir, into = plan.runs / task.folder, plan.runs / permuted(task, predictor)
    metrics = current_metrics(into, load_checkpoint(run_dir)) or evaluate(run_dir, permuted=predictor, into=into)
    return {"rmse": metrics["rmse"]}


def make_held_out(plan: Plan, task: Task) -> dict[str, Any]:
    """Forecast the days a run learned from by models that had not seen them, where that is missing."""
    cross_validate(plan.runs / task.folder, quiet=True)
    return {}


def make_baselines(plan: Plan, task: Task) -> dict[str, Any]:
    """Score the baselines on the samples of a task of SMAPtest, where they are missing."""
    settings, *_ = plan.settings(task)
    split = split_of(settings)
    evaluate_baselines(
        into=plan.runs / "SMAPtest",
        suffix=suffix(task.target_days),
        attributes={"experiment": "SMAPtest"},
        data=settings.data,
        train=split.train,
        test=split.test,
        lead_days=task.lead_days,
        input_days=settings.input_days or task.lead_days,
        start=split.train[0][0] if task.target_days else None,
    )
    return {}


def permuted(task: Task, predictor: str) -> str:
    return replace(task, variant=f"_permuted_{predictor}").folder.as_posix()


@dataclass
class Study:
    """Which jobs there are, and what came of them.

    The leads of the best model are known once it is: `add` returns their jobs as soon as validation has told.
    """

    plan: Plan
    models: tuple[str, ...]
    leads: tuple[int, ...]
    seeds: tuple[int, ...]
    details: bool  # the questions that need runs of their own
    strategies: bool = False  # the study of transfer: strategies by SMAP days, of a deep model and the compact one
    weather: bool = False  # what knowing the weather ahead is worth to these two

    def __post_init__(self):
        self.detail = PAPERS_BEST if PAPERS_BEST in self.models else self.models[0]
        self.best = ""  # the model with the lowest validation RMSE after transfer at the first lead, mean over seeds
        self.results: dict[str, dict[str, Any]] = {}
        self.main = main_tasks(self.models, self.leads, self.seeds)
        self.closer: list[Task] = []
        if self.details:
            at = (self.detail, self.leads[0], self.seeds)
            self.closer = predictor_tasks(*at) + target_day_tasks(*at, self.plan.target_days)
        for model in dict.fromkeys((self.detail, COMPACT)):
            if self.strategies:
                self.closer += strategy_tasks(model, self.leads, self.seeds, self.plan.target_days)
            if self.weather:
                self.closer += weather_tasks(model, self.leads, self.seeds)

    def jobs(self) -> list[Job]:
        """All jobs that are known by now. Those of one lead follow each other: a process keeps the lead's baselines."""
        jobs = []
        for lead in self.leads:
            jobs += [self._job(task) for task in self.main if task.lead_days == lead] + [self._baselines(lead)]
        jobs += map(self._job, self.closer)
        jobs += [
            Job(permuted(task, name), partial(make_permuted, self.plan, task, name), (task.folder.as_posix(),))
            for task, name in product(self._permuted, VARIABLES)
        ]
        jobs += [
            Job(
                f"{task.folder.as_posix()}/held_out", partial(make_held_out, self.plan, task), (task.folder.as_posix(),)
            )
            for task in self._with_intervals
        ]
        jobs += [self._baselines(t.lead_days, t.target_days) for t in self.closer if t.target_days]
        jobs += [self._baselines(lead) for lead in self.all_leads if lead not in self.leads]
        return list({job.name: job for job in jobs + self._more()}.values())

    def add(self, job: Job, result: dict[str, Any]) -> list[Job]:
        """Take the result of a job; returns the jobs that follow from it."""
        self.results[job.name] = result
        known = bool(self.best)
        self._find_best()
        return [] if known else self._more()

    def recall(self) -> None:
        """Take what earlier calls left behind."""
        for job in self.jobs():
            if found := self.found(job.name):
                self.results[job.name] = found
        self._find_best()

    def found(self, name: str) -> dict[str, Any]:
        """metrics.json of a job that is done for these data and periods, else {}; the job itself looks closer."""
        metrics = read_json(self.plan.runs / name / "metrics.json")
        experiment = name.split("/")[0]
        state = {"data_sha256": data_hash(self.plan.data[experiment]), "scoring": hash_scoring()}
        state["test"] = [list(self.plan.periods[experiment]["test"])]
        there = {key: metrics.get("state", metrics).get(key) for key in state} == state
        return metrics if there and metrics.get("finished", True) else {}

    @property
    def all_leads(self) -> list[int]:
        """Of the baselines."""
        return sorted({*self.leads, *(LEADS if self.details else ())})

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """All runs, in an order that does not hang on which came first: folder below runs/ → what its row adds."""
        runs = {}
        for task in (*self.main, *self._more_tasks, *self.closer):
            adds = {"target_days": task.target_days}
            adds |= {"baseline_suffix": suffix(task.target_days)} if task.target_days else {}
            runs[task.folder.as_posix()] = adds | ({"note": task.note} if task.note else {})
        for task, name in product(self._permuted, VARIABLES):
            runs[permuted(task, name)] = {"note": f"{name} shuffled among the test days"}
        return runs

    @property
    def baseline_runs(self) -> list[str]:
        """Folders of the baselines at leads where no run's table row brings them."""
        leads = [lead for lead in self.all_leads if lead not in self.leads]
        return [f"SMAPtest/{name}/lead{lead}" for lead, name in product(leads, BASELINES)]

    @property
    def worked(self) -> bool:
        """Whether anything was trained."""
        return any(result.get("trained") for result in self.results.values())

    @property
    def _permuted(self) -> list[Task]:
        tasks = [Task("finetune-SMAPtest", self.detail, self.leads[0], seed) for seed in self.seeds]
        return tasks if self.details else []

    @property
    def _with_intervals(self) -> list[Task]:
        """Runs with transfer whose uncertainty is asked for: of the closer questions' model, and the compact one."""
        names = [name for name in dict.fromkeys((self.detail, COMPACT)) if name in self.models]
        at = product(names, self.leads, self.seeds)
        return [Task("finetune-SMAPtest", *one) for one in at] if self.details else []

    @property
    def _more_tasks(self) -> list[Task]:
        """More leads of the best model, once it is known."""
        leads = [lead for lead in (LEADS if self.plan.full else FEW_LEADS) if lead not in self.leads]
        return lead_tasks(self.best, leads, self.seeds) if self.details and self.best else []

    def _more(self) -> list[Job]:
        return [self._job(task) for task in self._more_tasks]

    def _job(self, task: Task) -> Job:
        needs = (task.source.folder.as_posix(),) if task.experiment == "finetune-SMAPtest" else ()
        return Job(task.folder.as_posix(), partial(make_run, self.plan, task), needs)

    def _baselines(self, lead: int, target_days: int | None = None) -> Job:
        task = Task("SMAPtest", self.models[0], lead, 0, target_days=target_days)
        last = [*BASELINES][-1]  # its folder is there when all are
        name = f"SMAPtest/{last}{suffix(target_days)}/lead{lead}"
        return Job(name, partial(make_baselines, self.plan, task))

    def _find_best(self) -> None:
        asked = [t for t in self.main if t.experiment == "finetune-SMAPtest" and t.lead_days == self.leads[0]]
        names = [task.folder.as_posix() for task in asked]
        if all(name in self.results for name in names):
            errors: dict[str, list[float]] = {}
            for task, name in zip(asked, names, strict=True):
                errors.setdefault(task.model, []).append(self.results[name]["validation_rmse"])
            self.best = min(errors, key=lambda model: np.mean(errors[model]))


def side_by_side(plan: Plan, models: Sequence[str]) -> int:
    """How many runs this machine takes: one a core, and no more than the free memory holds of the largest model."""
    most = 0
    with open_prepared(plan.data["SMAPtest"]) as ds:
        grid = grid_of(ds)
    for model in models:
        settings, _, build = plan.settings(Task("SMAPtest", model, lead_days=1, seed=0))
        complete(settings)
        with torch.device("meta"):  # shapes without values
            most = max(most, sum(weights.numel() for weights in build(settings, grid).parameters()))
    return max(1, min(cores(), psutil.virtual_memory().available // (ROOM + PER_WEIGHT * most)))
