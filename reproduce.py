"""The whole study: every experiment, model, lead and seed that is missing, then the table, the figures and the report.

python reproduce.py                                             the synthetic sample, reduced epochs: minutes
python reproduce.py --era5-land era5_land.nc --smap smap_l4.nc --full     your own pair, published epochs
"""

import json
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils import experiment
from utils.console import UserError, one_sentence, parse
from utils.drawing import BASELINES
from utils.evaluation import current_metrics, evaluate
from utils.experiment import data_hash
from utils.files import read_json, write_json
from utils.forecasting import load_script
from utils.prepared_data import VARIABLES
from utils.references import Asked, evaluate_baselines
from utils.report import write_report
from utils.runs import load_checkpoint
from utils.settings import EXPERIMENTS, ROOT, SAMPLE_ERA5, SAMPLE_SMAP, split_of
from utils.study import (
    FEW_LEADS,
    LEADS,
    PAPERS_BEST,
    Plan,
    Task,
    configured,
    lead_tasks,
    main_tasks,
    predictor_tasks,
    target_day_tasks,
)
from utils.tables import show

STUDY = "data train val test lead_days seed predictors target_days epochs patience out init_from head".split()


@dataclass(kw_only=True)
class Settings:
    era5_land: Path | None = None  # a prepared source data set; None: the synthetic sample at 2 degrees
    smap: Path | None = None  # a prepared target data set; None: the synthetic sample at 2 degrees
    models: tuple[str, ...] = ("cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm")  # names of the tables
    lead_days: tuple[int, ...] = (3, 5, 7)  # forecast this many days after the last input day
    seeds: tuple[int, ...] | None = None  # None: 0, and with --full 0 1 2
    full: bool = False  # the scripts' own epochs and patience, not a third of the epochs and a patience of 5
    details: bool = True  # also the questions that need runs of their own: predictors, SMAP days, more leads
    out: Path = ROOT / "results"  # table, figures, report, and the run directories below runs/


def main(settings: Settings) -> None:
    start = time.monotonic()
    for name in ("models", "lead_days", "seeds"):
        if getattr(settings, name) == ():
            raise UserError(f"--{name.replace('_', '-')} has no value, expected at least one.")
        if getattr(settings, name):
            setattr(settings, name, tuple(dict.fromkeys(getattr(settings, name))))  # each once
    for name, model in product(EXPERIMENTS, settings.models):
        configured(name, model, settings.full)  # an unknown model is told now, not hours later
    source, target = data_sets(settings)
    seeds = settings.seeds or ((0, 1, 2) if settings.full else (0,))
    plan = Plan.of(source, target, settings.full, settings.out / "runs")
    study = Study(plan, main_tasks(settings.models, settings.lead_days, seeds))
    study.run(study.tasks)
    detail = PAPERS_BEST if PAPERS_BEST in settings.models else settings.models[0]
    best, lead = study.best_model(settings.lead_days[0]), settings.lead_days[0]
    if settings.details:
        more = [lead for lead in (LEADS if settings.full else FEW_LEADS) if lead not in settings.lead_days]
        tasks = lead_tasks(best, more, seeds) + predictor_tasks(detail, lead, seeds)
        study.run(tasks + target_day_tasks(detail, lead, seeds, plan.target_days))
        study.permute([Task("finetune-SMAPtest", detail, lead, seed) for seed in seeds])
    leads = sorted({*settings.lead_days, *(LEADS if settings.details else ())})
    study.baselines(leads)
    content = {"models": settings.models, "lead_days": settings.lead_days, "seeds": seeds, "full": settings.full}
    content |= {"detail": detail, "best": best, "all_leads": leads, "target_days": plan.target_days}
    content |= {"periods": plan.periods, "data_sha256": {name: data_hash(path) for name, path in plan.data.items()}}
    content = json.loads(json.dumps(content | {"runs": study.runs, "baselines": study.baseline_runs}))
    earlier, seconds = read_json(settings.out / "study.json"), round(time.monotonic() - start)
    made = {"command": shlex.join(["python", "reproduce.py", *sys.argv[1:]]), "seconds": seconds}
    if not study.worked and {name: earlier.get(name) for name in content} == content:
        made = {name: earlier[name] for name in made}  # it was complete: the call that made it is what counts
    write_json(settings.out / "study.json", made | content)
    print(show(write_report(settings.out)))
    print(f"\n{len(study.runs)} runs in {seconds} s: {settings.out / 'table.csv'}, figures/ and report.html")


class Study:
    """Runs tasks where they are missing; `runs` lists all of them: folder below runs/ → what its table row adds."""

    def __init__(self, plan: Plan, tasks: list[Task]):
        self.plan, self.tasks, self.worked = plan, tasks, False
        self.runs: dict[str, dict] = {}
        self.baseline_runs: list[str] = []  # of the baselines at leads where no run's table row brings them
        self.validation: dict[Task, float] = {}  # RMSE, m3 m-3

    def run(self, tasks: Iterable[Task]) -> None:
        """Train and evaluate whatever of the tasks is missing, in their order."""
        with tqdm(list(tasks), unit="run", disable=None) as bar:
            for task in bar:
                self.run_one(task, bar)

    def run_one(self, task: Task, bar: tqdm) -> None:
        folder = task.folder.as_posix()
        run_dir = self.plan.runs / folder
        bar.set_description(folder)
        settings, script, build = self.plan.settings(task)
        _, checkpoint, trained = experiment.run(
            f"{task.experiment}/{script}",
            settings,
            build,
            dict.fromkeys(STUDY, "reproduce.py"),
            lambda c: bar.set_postfix(epoch=c.epoch, val_rmse=f"{c.log[-1][3]:.4f}"),
        )
        metrics = current_metrics(run_dir, checkpoint) or evaluate(run_dir)
        self.runs[folder] = {"target_days": task.target_days}
        self.runs[folder] |= {"baseline_suffix": task.variant} if task.target_days else {}
        self.validation[task] = checkpoint.best_rmse
        self.worked = self.worked or trained
        if bar.disable:  # no terminal: a line a run for the log of the job
            print(f"{len(self.runs)}  {folder}: RMSE {metrics['rmse']:.4f} m³ m⁻³", flush=True)

    def best_model(self, lead: int) -> str:
        """The model with the lowest validation RMSE after transfer, mean over seeds."""
        found: dict[str, list[float]] = {}
        for task in self.tasks:
            if task.experiment == "finetune-SMAPtest" and task.lead_days == lead:
                found.setdefault(task.model, []).append(self.validation[task])
        return min(found, key=lambda model: np.mean(found[model]))

    def permute(self, tasks: Iterable[Task]) -> None:
        """Forecasts of trained runs with one predictor shuffled, as runs of their own."""
        for task, name in product(tasks, VARIABLES):
            run_dir, folder = self.plan.runs / task.folder, replace(task, variant=f"_permuted_{name}").folder
            if not current_metrics(self.plan.runs / folder, load_checkpoint(run_dir)):
                evaluate(run_dir, permuted=name, into=self.plan.runs / folder)
            self.runs[folder.as_posix()] = {"note": f"{name} shuffled among the test days"}

    def baselines(self, leads: Iterable[int]) -> None:
        """The baselines' forecasts of SMAP's test period at every lead, and from every record length of the study."""
        model = self.tasks[0].model
        asked = [(lead, None, "") for lead in leads]
        asked += [(t.lead_days, t.target_days, t.variant) for t in self.validation if t.target_days]
        into = self.plan.runs / "SMAPtest"
        for lead, target_days, suffix in tqdm(dict.fromkeys(asked), unit="baselines", disable=None):
            settings, *_ = self.plan.settings(Task("SMAPtest", model, lead, 0, suffix, target_days=target_days))
            split = split_of(settings)
            asked = Asked(
                learn_from=settings.data,
                data=settings.data,
                train=split.train,
                test=split.test,
                lead_days=lead,
                input_days=settings.input_days or lead,
                start=split.train[0][0] if target_days else None,
            )
            evaluate_baselines(asked, into, suffix, {"experiment": "SMAPtest"})
            if lead not in {task.lead_days for task in self.tasks}:
                self.baseline_runs += [f"SMAPtest/{name}/lead{lead}" for name in BASELINES]


def data_sets(settings: Settings) -> tuple[Path, Path]:
    """The source and the target: the user's pair, or the synthetic sample at 2 degrees, made if it is missing."""
    if (settings.era5_land is None) != (settings.smap is None):
        raise UserError("--era5-land and --smap are a pair; give both, or neither for the synthetic sample.")
    if settings.era5_land and settings.smap:
        return settings.era5_land.resolve(), settings.smap.resolve()
    paths = tuple(path.with_name(path.name.replace("1deg", "2deg")) for path in (SAMPLE_ERA5, SAMPLE_SMAP))
    if not all(path.exists() for path in paths):
        maker = load_script(ROOT / "data" / "make_sample.py")
        maker.main(maker.Settings(resolution=2))
    return paths


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
