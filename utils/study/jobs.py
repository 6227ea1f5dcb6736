"""The study as jobs: every run, every forecast with a shuffled predictor, and every set of baselines is one."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np

from utils import experiment
from utils.common.cli import UserError, fold
from utils.common.files import read_json
from utils.common.parallel import Job
from utils.dataset.open import data_hash
from utils.dataset.prepared import VARIABLES
from utils.evaluation import current_metrics, evaluate
from utils.forecasts.cross_validation import cross_validate
from utils.scores.baseline_runs import evaluate_baselines
from utils.scores.baselines import BASELINES
from utils.scores.scoring import hash_scoring
from utils.settings import split_of
from utils.study.plan import (
    FEW_LEADS,
    LEADS,
    PAPERS_BEST,
    SCRATCH,
    TRANSFERRED,
    Plan,
    Task,
    closer_models,
    plan_controls,
    plan_leads,
    plan_main,
    plan_matched,
    plan_predictors,
    plan_strategies,
    plan_target_days,
    plan_weather,
    suffix,
)
from utils.study.time_spent import BASELINES_TOGETHER, timed
from utils.training.checkpoint import load_checkpoint

CHOSEN = (  # settings that the study chooses instead of the train script
    "data",
    "train",
    "val",
    "test",
    "lead_days",
    "seed",
    "predictors",
    "target_days",
    "epochs",
    "patience",
    "out",
    "init_from",
    "head",
    "forecast",
    "unfreeze_every",
)


def make_run(plan: Plan, task: Task) -> dict[str, Any]:
    """Train and evaluate a run, as far as it is missing.

    Returns validation and test RMSE, m3 m-3, whether it trained, and what may be wrong with its data, in sentences.
    """
    script, doubts = plan.configure(task), []
    made = experiment.run(
        f"{task.experiment}/{script.name}",
        script.settings,
        script.build,
        origins=dict.fromkeys([*CHOSEN, *plan.own_settings(task)], "reproduce.py"),
        on_epoch=lambda checkpoint: None,
        on_doubt=doubts.append,
    )
    metrics = {} if made.trained else current_metrics(made.dir, made.checkpoint, plan.max_input_age)
    if not metrics:
        metrics = evaluate(made.dir, max_input_age=plan.max_input_age)
    scores = {"validation_rmse": made.checkpoint.best_rmse, "rmse": metrics["rmse"]}
    return scores | {"trained": made.trained, "doubts": doubts}


def make_permuted(plan: Plan, task: Task, predictor: str) -> dict[str, Any]:
    """Forecast with a trained run and one predictor shuffled, as a run of its own, where that is missing."""
    run_dir, into = plan.runs / task.folder, plan.runs / permuted_folder(task, predictor)
    oldest = plan.max_input_age
    metrics = current_metrics(into, load_checkpoint(run_dir), oldest)
    if not metrics:
        metrics = evaluate(run_dir, permuted=predictor, into=into, max_input_age=oldest)
    return {"rmse": metrics["rmse"]}


def make_held_out(plan: Plan, task: Task) -> dict[str, Any]:
    """Forecast the days a run learned from by models that had not seen them, where that is missing."""
    cross_validate(plan.runs / task.folder, quiet=True)
    return {}


def make_baselines(plan: Plan, task: Task) -> dict[str, Any]:
    """Score the baselines on the samples of a task of SMAPtest, where they are missing; returns the RMSE of each."""
    settings = plan.configure(task).settings
    split = split_of(settings)
    evaluate_baselines(
        into=plan.runs / SCRATCH,
        suffix=suffix(task.target_days),
        attributes={"experiment": SCRATCH},
        data=settings.data,
        train=split.train,
        val=split.val,
        test=split.test,
        lead_days=task.lead_days,
        input_days=settings.input_days or task.lead_days,
        start=split.train[0][0] if task.target_days else None,
        max_input_age=plan.max_input_age,
        variables=settings.variables,
    )
    folders = {name: plan.runs / baseline_folder(name, task.lead_days, task.target_days) for name in BASELINES}
    return {"baselines": {name: read_json(folder / "metrics.json")["rmse"] for name, folder in folders.items()}}


def permuted_folder(task: Task, predictor: str) -> str:
    """The folder, below the study's runs, of a run's forecasts with a shuffled predictor."""
    return replace(task, variant=f"_permuted_{predictor}").folder.as_posix()


def held_out_folder(task: Task) -> str:
    """The folder of a run's forecasts of the days it learned from."""
    return f"{task.folder.as_posix()}/held_out"


def baseline_folder(name: str, lead_days: int, target_days: int | None = None) -> str:
    """The folder of a baseline."""
    return f"{SCRATCH}/{name}{suffix(target_days)}/lead{lead_days}"


@dataclass
class Study:
    """The jobs of a study, and the results of those that are done.

    One model, the best by validation, is run at more leads. It is known only when all models are validated: then `add`
    returns these further jobs.
    """

    plan: Plan
    models: tuple[str, ...]
    leads: tuple[int, ...]
    seeds: tuple[int, ...]
    details: bool  # the questions that need runs of their own
    strategies: bool = False  # the study of transfer: strategies by SMAP days, of a deep model and OURS
    weather: bool = False  # what knowing the weather ahead is worth to these two
    matched: bool = False  # scratch with the steps of pre-training and fine-tuning

    def __post_init__(self):
        self.results: dict[str, dict[str, Any]] = {}
        self.left_out: dict[str, str] = {}  # models of which a run was refused, and why
        self.make_plan()

    def make_plan(self) -> None:
        """Choose the tasks of these models."""
        self.detail = PAPERS_BEST if PAPERS_BEST in self.models else self.models[0]
        self.best = ""  # the model with the lowest validation RMSE after transfer at the first lead, mean over seeds
        self.main = plan_main(self.models, self.leads, self.seeds)
        if self.matched:
            self.main += plan_matched(self.main)
        self.closer: list[Task] = []
        record_days = self.plan.target_days
        if self.details:
            predictors = self.plan.settings.get("predictors", tuple(VARIABLES))
            self.closer += plan_predictors(self.detail, self.leads[0], self.seeds, predictors)
            for model in self._shown:
                few_days = plan_target_days(model, self.leads[0], self.seeds, record_days)
                self.closer += few_days + (plan_matched(few_days) if self.matched else [])
        for model in self._shown:
            if self.strategies:
                self.closer += plan_strategies(model, self.leads, self.seeds, record_days)
            if self.weather:
                self.closer += plan_weather(model, self.leads, self.seeds)
            self.closer += plan_controls(model, self.leads[0], self.seeds, self.plan.controls)

    def jobs(self) -> list[Job]:
        """All jobs that are known by now.

        Those of one lead follow each other: a process keeps the lead's baselines. The longest lead, whose runs take
        longest, comes first, so that no process has to wait for another in the end.
        """
        jobs = []
        for lead in sorted(self.leads, reverse=True):
            jobs += [self._run_job(task) for task in self.main if task.lead_days == lead]
            jobs.append(self._baselines_job(lead))
        jobs += [self._run_job(task) for task in self.closer]
        for task, predictor in product(self._permuted, VARIABLES):
            call = timed(task.model, partial(make_permuted, self.plan, task, predictor))
            jobs.append(Job(permuted_folder(task, predictor), call, needs=(task.folder.as_posix(),)))
        for task in self._with_intervals:
            call = timed(task.model, partial(make_held_out, self.plan, task))
            jobs.append(Job(held_out_folder(task), call, needs=(task.folder.as_posix(),)))
        jobs += [self._baselines_job(task.lead_days, task.target_days) for task in self.closer if task.target_days]
        jobs += [self._baselines_job(lead) for lead in self.all_leads if lead not in self.leads]
        jobs += self._more_jobs()
        return list({job.name: job for job in jobs}.values())  # each once

    def add(self, job: Job, result: dict[str, Any]) -> list[Job]:
        """Take the result of a job; returns the jobs that follow from it."""
        self.results[job.name] = result
        if self.best:
            return []
        self._find_best()
        return self._more_jobs()

    def leave_out(self, job: Job, error: UserError) -> list[Job]:
        """Go on without the model of a run that was refused; returns all jobs of the others.

        Raises the error where the job is no run of the main study, and where no model would be left.
        """
        refused = {task.model for task in self.main if task.folder.as_posix() == job.name}
        if not refused or refused == set(self.models):
            raise error
        self.left_out |= {model: fold(error) for model in refused}
        self.models = tuple(model for model in self.models if model not in refused)
        self.make_plan()
        self._find_best()
        return self.jobs()

    @property
    def left_out_lines(self) -> list[str]:
        """A line for each model that was left out."""
        return [f"{model} is left out of the study: {reason}" for model, reason in self.left_out.items()]

    def recall(self) -> None:
        """Take what earlier calls left behind."""
        for job in self.jobs():
            if metrics := self.read_finished(job.name):
                self.results[job.name] = metrics
        self._find_best()

    def read_finished(self, name: str) -> dict[str, Any]:
        """metrics.json of a job that is done for these data and periods, else {}; the job itself looks closer."""
        metrics = read_json(self.plan.runs / name / "metrics.json")
        folder = name.split("/")[0]
        expected = {
            "data_sha256": self._other_data.get(name) or data_hash(self.plan.data[folder]),
            "scoring": hash_scoring(),
            "test": [list(self.plan.periods[folder]["test"])],
        }
        evaluated = metrics.get("state", metrics)  # baselines have what they were made from in a part of its own
        same_age = evaluated.get("max_input_age", self.plan.max_input_age) == self.plan.max_input_age
        current = same_age and all(evaluated.get(key) == value for key, value in expected.items())
        return metrics if current and metrics.get("finished", True) else {}

    @property
    def all_leads(self) -> list[int]:
        """Of the baselines."""
        return sorted({*self.leads, *(LEADS if self.details else ())})

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """All runs, in an order that does not hang on which came first: folder below runs/ → what its row adds."""
        runs = {}
        for task in (*self.main, *self._more_tasks, *self.closer):
            row: dict[str, Any] = {"target_days": task.target_days}
            if task.target_days:
                row["baseline_suffix"] = suffix(task.target_days)
            if task.note:
                row["note"] = task.note
            folder = task.folder.as_posix()
            if folder in self._other_data:
                row["data_sha256"] = self._other_data[folder]
            runs[folder] = row
        for task, predictor in product(self._permuted, VARIABLES):
            runs[permuted_folder(task, predictor)] = {"note": f"{predictor} shuffled among the test days"}
        return runs

    @cached_property
    def _other_data(self) -> dict[str, str]:
        """The runs that learn from other data than the rest of their experiment: folder → SHA-256 of the data."""
        data = {task: self.plan.data_of(task) for task in self.closer}
        return {
            task.folder.as_posix(): data_hash(path)
            for task, path in data.items()
            if path != self.plan.data[task.experiment]
        }

    @property
    def baseline_runs(self) -> list[str]:
        """Folders of the baselines at leads where no run's table row brings them."""
        leads = [lead for lead in self.all_leads if lead not in self.leads]
        return [baseline_folder(name, lead) for lead, name in product(leads, BASELINES)]

    @property
    def trained(self) -> bool:
        """Whether anything was trained."""
        return any(result.get("trained") for result in self.results.values())

    @property
    def _permuted(self) -> list[Task]:
        """Runs whose predictors are shuffled: those with transfer of the closer questions."""
        if not self.details:
            return []
        lead = self.leads[0]
        return [Task(experiment=TRANSFERRED, model=self.detail, lead_days=lead, seed=seed) for seed in self.seeds]

    @property
    def _with_intervals(self) -> list[Task]:
        """Runs with transfer whose uncertainty is asked for: of the closer questions' models."""
        if not self.details:
            return []
        return [
            Task(experiment=TRANSFERRED, model=model, lead_days=lead, seed=seed)
            for model, lead, seed in product(self._shown, self.leads, self.seeds)
        ]

    @property
    def _shown(self) -> list[str]:
        """The models of the closer questions that take more than one, as far as the study has them."""
        return [model for model in closer_models(self.detail) if model in self.models]

    @property
    def _more_tasks(self) -> list[Task]:
        """More leads of the best model, once it is known."""
        if not (self.details and self.best):
            return []
        leads = [lead for lead in (LEADS if self.plan.full else FEW_LEADS) if lead not in self.leads]
        return plan_leads(self.best, leads, self.seeds)

    def _more_jobs(self) -> list[Job]:
        return [self._run_job(task) for task in self._more_tasks]

    def _run_job(self, task: Task) -> Job:
        return Job(task.folder.as_posix(), timed(task.model, partial(make_run, self.plan, task)), task.needs)

    def _baselines_job(self, lead: int, target_days: int | None = None) -> Job:
        task = Task(experiment=SCRATCH, model=self.models[0], lead_days=lead, seed=0, target_days=target_days)
        last = list(BASELINES)[-1]  # its folder is there when all are
        call = timed(BASELINES_TOGETHER, partial(make_baselines, self.plan, task))
        return Job(baseline_folder(last, lead, target_days), call)

    def _find_best(self) -> None:
        """Once every model has its validation RMSE after transfer at the first lead."""
        errors: dict[str, list[float]] = {}
        for task in self.main:
            if task.experiment != TRANSFERRED or task.lead_days != self.leads[0]:
                continue
            result = self.results.get(task.folder.as_posix())
            if result is None:
                return
            errors.setdefault(task.model, []).append(result["validation_rmse"])
        self.best = min(errors, key=lambda model: np.mean(errors[model]))
