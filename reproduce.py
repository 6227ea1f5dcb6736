"""The whole study: every experiment, model, lead and seed that is missing, then the table, the figures and the report.

    python reproduce.py                                  the synthetic sample: minutes
    python reproduce.py --era5-land era5_land.nc --smap smap_l4.nc --published-epochs      your own pair
    python reproduce.py --strategies --weather           ways of transfer, known weather: docs/transfer.md
    python reproduce.py --worlds 5 --controls            other SYNTHETIC worlds, and why transfer helps
    python reproduce.py --scheduler tcp://node1:8786     on the workers of a Dask scheduler
    python reproduce.py --job-array > runs.txt           as a job array, round by round: docs/cluster.md

A call that was stopped goes on when it is given again.
"""

import contextlib
import json
import math
import shlex
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from utils.common.cli import UserError, one_sentence, parse
from utils.common.files import ROOT, read_json, write_json
from utils.common.parallel import Job, cluster, finish, finish_here, processes, select_with_needs
from utils.common.progress import Progress
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.predictors import variables_of
from utils.dataset.prepared import VARIABLES
from utils.evaluation import refuse_age
from utils.products.synthetic.forecast_file import ForecastSettings, are_of, make_forecasts
from utils.products.synthetic.predictability_limit import LimitSettings, limit_of, make_limit
from utils.products.synthetic.sample import SampleSettings, make_sample
from utils.settings import EXPERIMENTS, SAMPLE_ERA5, SAMPLE_SMAP
from utils.study.capacity import side_by_side
from utils.study.controls import make_controls
from utils.study.jobs import Study
from utils.study.periods import PARTS
from utils.study.plan import PRETRAINING, SCRATCH, TRANSFERRED, Plan, closer_models, read_train_script
from utils.study.report import print_results, write_report
from utils.study.time_spent import describe_time, sum_seconds
from utils.study.worlds import make_world, world_folder, world_seeds
from utils.training.run_directory import epochs_done

NUMBERS = ("input_days", "epochs", "batch_size")
ASKED = (*NUMBERS, "predictors", "static")  # settings of the runs that the study can take instead of the scripts
MaybePeriod = Annotated[tuple[str, str] | None, arg(metavar="START END")]
MaybePeriods = Annotated[tuple[str, ...] | None, arg(metavar="START END ...")]


@dataclass(kw_only=True)
class Settings:
    era5_land: Path | None = None  # a prepared source data set; None: the synthetic sample at 2 degrees
    smap: Path | None = None  # a prepared target data set; None: the synthetic sample at 2 degrees
    models: tuple[str, ...] = ("cnn", "lstm", "convlstm", "conv_mixer", "compact", "change_net")  # names
    lead_days: tuple[int, ...] = (3, 5, 7)  # forecast this many days after the last input day
    seeds: tuple[int, ...] | None = None  # None: 0, and with --full 0 1 2 3 4
    train: MaybePeriods = None  # target days of SMAP to learn from; None: all before --val
    val: MaybePeriod = None  # to validate on; None: the 365 days before --test
    test: MaybePeriod = None  # to score; None: the last 365 days of the record
    source_train: MaybePeriods = None  # target days of the source to learn from; None: all before --source-val
    source_val: MaybePeriod = None  # to validate on; None: the 365 days before --source-test
    source_test: MaybePeriod = None  # to score, never learned from; None: the last 365 days before SMAP's --test
    input_days: int | None = None  # days in the window; None: as many as the lead
    predictors: tuple[str, ...] | None = None  # of every model; None: the three variables
    static: tuple[str, ...] | None = None  # maps of the data sets that every model sees too; None: none
    epochs: int | None = None  # of every network, without early stopping; None: as --full says
    batch_size: int | None = None  # of every network; None: each train script's own
    max_input_age: int | None = None  # score where the last observation is at most so many days old; None: any age
    full: Annotated[bool, arg(aliases=["--published-epochs"])] = False  # else until the validation RMSE stops improving
    details: bool = False  # also the questions that need runs of their own: predictors, SMAP days, more leads
    matched: bool = False  # also from scratch with as many steps as pre-training and fine-tuning took together
    strategies: bool = False  # also strategies of transfer by SMAP days, of a network, compact and change_net
    weather: bool = False  # also what these gain by perfect and by degraded forecasts of the rain ahead
    operational: bool = False  # also how good their forecasts are under the lags of an operational service
    controls: bool = False  # also these with transfer from control sources, which tell why transfer helps
    worlds: int = 0  # also these in so many other SYNTHETIC worlds, at the first lead unless others are given
    out: Path = ROOT / "results"  # table, figures, report, and the run directories below runs/
    jobs: int | None = None  # runs side by side, which share the cores; None: one a core, as far as memory allows
    scheduler: str | None = None  # address of a Dask scheduler, whose workers do the runs instead
    job_array: bool = False  # do nothing but print what can be run now, a command a line; nothing when all is there
    only: tuple[str, ...] = ()  # these runs (folders below runs/) and what they start from; no table, no report


def main(settings: Settings) -> None:
    start = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr if settings.job_array else sys.stdout):  # of the sample's making
        study = make_study(settings)
    if settings.job_array:
        study.recall()
        for command in commands(study):
            print(command)
        return
    if settings.only:
        study.recall()
    run(study, settings)
    if settings.only:
        return
    run_worlds(study, settings)
    seconds = round(time.monotonic() - start)
    write_study_file(study, settings, seconds)
    print_results(write_report(settings.out))
    print("".join(f"\n{line}" for line in study.left_out_lines), end="")
    print(f"\n{len(study.runs)} runs in {seconds} s: {settings.out / 'table.csv'}, figures/ and report.html")
    if study.trained:
        print(describe_time(sum_seconds(study.results.values())))


def make_study(settings: Settings) -> Study:
    """The study that the settings ask for. Raises UserError for what means nothing, now and not hours later."""
    for name in ("models", "lead_days", "seeds"):
        values = getattr(settings, name)
        if values == ():
            raise UserError(f"--{name.replace('_', '-')} has no value, expected at least one.")
        if values:
            setattr(settings, name, tuple(dict.fromkeys(values)))  # each once
    if settings.jobs is not None and settings.jobs < 1:
        raise UserError(f"--jobs is {settings.jobs}, expected 1 or more.")
    if settings.jobs and settings.scheduler:
        raise UserError("--jobs is of this machine; with --scheduler there are as many runs as it has workers.")
    refuse_age(settings.max_input_age)
    if settings.operational and settings.max_input_age is not None:
        raise UserError("--operational scores every age of the last observation; leave out --max-input-age.")
    if settings.worlds < 0 or settings.worlds == 1:
        raise UserError(f"--worlds is {settings.worlds}, expected at least 2, or 0 for none.")
    if settings.worlds and settings.smap:
        raise UserError("--worlds makes SYNTHETIC worlds: leave out --era5-land and --smap.")
    for name in NUMBERS:
        if getattr(settings, name) is not None and getattr(settings, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(settings, name)}, expected 1 or more.")
    for name, model in product(EXPERIMENTS, settings.models):
        read_train_script(name, model)
    source, target = data_sets(settings)
    variables = variables_of(settings.predictors or VARIABLES, settings.static or ())
    for path in (source, target):
        open_data_set(path, variables=variables)
    plan = Plan.of(
        source,
        target,
        full=settings.full,
        runs=settings.out.resolve() / "runs",
        asked={part: getattr(settings, part) for part in PARTS},
        source_asked={part: getattr(settings, f"source_{part}") for part in PARTS},
        settings={name: getattr(settings, name) for name in ASKED if getattr(settings, name) is not None},
        max_input_age=settings.max_input_age,
    )
    if settings.weather:
        plan.forecasts = {
            PRETRAINING: degraded_forecasts(source, PRETRAINING, settings),
            TRANSFERRED: degraded_forecasts(target, SCRATCH, settings),
        }
    if settings.controls:
        folder = settings.out.resolve() / "controls"
        plan.controls = make_controls(source, plan.periods[PRETRAINING], folder, variables)
    return Study(
        plan=plan,
        models=settings.models,
        leads=settings.lead_days,
        seeds=settings.seeds or (tuple(range(5)) if settings.full else (0,)),
        details=settings.details,
        matched=settings.matched,
        strategies=settings.strategies,
        weather=settings.weather,
        operational=settings.operational,
    )


def write_study_file(study: Study, settings: Settings, seconds: int) -> None:
    """study.json: what the study consists of, and the call that made it."""
    content = {
        "models": study.models,
        "lead_days": study.leads,
        "seeds": study.seeds,
        "full": settings.full,
        "settings": study.plan.settings,
        "max_input_age": study.plan.max_input_age,
        "detail": study.detail,
        "best": study.best,
        "left_out": study.left_out,
        "all_leads": study.all_leads,
        "target_days": study.plan.target_days,
        "periods": study.plan.periods,
        "data_sha256": {name: data_hash(path) for name, path in study.plan.data.items()},
        "worlds": world_seeds(settings.worlds),
        "runs": study.runs,
        "baselines": study.baseline_runs,
    }
    content = json.loads(json.dumps(content))  # as it is read back
    made = {"command": shlex.join(["python", "reproduce.py", *sys.argv[1:]]), "seconds": seconds}
    made["seconds_by_model"] = sum_seconds(study.results.values())
    earlier = read_json(settings.out / "study.json")
    if not study.trained and all(earlier.get(name) == value for name, value in content.items()):
        # it was complete: the call that made it is what counts
        made = {name: earlier[name] for name in made if name in earlier}
    write_json(settings.out / "study.json", made | content)


def run(study: Study, settings: Settings) -> None:
    """Do whatever is missing, with one progress display."""
    jobs = study.jobs()
    if settings.only:
        try:
            jobs = select_with_needs(jobs, settings.only)
        except KeyError as name:
            raise UserError(f"--only has {name}, which is no run of this study; --job-array lists them.") from None
    said: set[str] = set()
    with Progress(len(jobs), unit="run") as progress:

        def on_result(job: Job, result: dict) -> list[Job]:
            more = [] if settings.only else study.add(job, result)
            progress.step(describe_result(job, result), len(more))
            for doubt in {*result.get("doubts", ())} - said:  # each once, not once a run
                progress.bar.write(f"warning: {doubt}")
                said.add(doubt)
            return more

        def on_refusal(job: Job, error: UserError) -> list[Job]:
            wanted = study.leave_out(job, error)
            progress.total = progress.done + sum(job.name not in study.results for job in wanted)
            progress.bar.write(study.left_out_lines[-1])
            return wanted

        def on_glance(running: list[str]) -> None:
            shown = [f"{name} epoch {epochs_done(study.plan.runs / name)}" for name in running[:3]]
            progress.bar.set_postfix_str("; ".join(shown))

        if settings.only and not settings.scheduler:  # a line of a job array has a process of its own already
            finish_here(jobs, on_result)
            return
        at_once = min(settings.jobs or side_by_side(study.plan, settings.models), len(jobs))
        with cluster(settings.scheduler) if settings.scheduler else processes(at_once) as executor:
            at_once = math.inf if settings.scheduler else at_once
            finish(jobs, executor, at_once, on_result, on_glance, None if settings.only else on_refusal)


def run_worlds(study: Study, settings: Settings) -> None:
    """Make other worlds, and in each a small study of one network and of OURS, as far as they are missing."""
    models = tuple(model for model in closer_models(study.detail) if model in study.models)
    leads = settings.lead_days if settings.lead_days != Settings.lead_days else settings.lead_days[:1]
    for seed in world_seeds(settings.worlds):
        start = time.monotonic()
        source, target = make_world(settings.out, seed)
        own = replace(
            settings,
            era5_land=source,
            smap=target,
            models=models,
            lead_days=leads,
            seeds=study.seeds[:1],
            details=False,
            strategies=False,
            weather=False,
            operational=False,
            controls=False,
            worlds=0,
            out=world_folder(settings.out, seed),
        )
        world = make_study(own)
        run(world, own)
        write_study_file(world, own, round(time.monotonic() - start))


def describe_result(job: Job, result: dict) -> str:
    """A job and its RMSE, m3 m-3."""
    scores = {"RMSE": result["rmse"]} if "rmse" in result else result.get("baselines", {})
    shown = ", ".join(f"{name} {rmse:.4f}" for name, rmse in scores.items())
    return job.name + (f": {shown} m³ m⁻³" if shown else "")


def commands(study: Study) -> list[str]:
    """A command for every run that is missing and has what it starts from: each can be run by itself, and again."""
    missing = [job for job in study.jobs() if job.name not in study.results]
    arguments = [argument for argument in sys.argv[1:] if argument != "--job-array"]
    start = [sys.executable, str(ROOT / "reproduce.py"), *arguments, "--only"]
    return [shlex.join([*start, job.name]) for job in missing if study.results.keys() >= set(job.needs)]


def data_sets(settings: Settings) -> tuple[Path, Path]:
    """The source and the target: the user's pair, or the synthetic sample at 2 degrees, made with its limit."""
    if (settings.era5_land is None) != (settings.smap is None):
        raise UserError("--era5-land and --smap are a pair; give both, or neither for the synthetic sample.")
    if settings.era5_land and settings.smap:
        return settings.era5_land.resolve(), settings.smap.resolve()
    paths = tuple(path.with_name(path.name.replace("1deg", "2deg")) for path in (SAMPLE_ERA5, SAMPLE_SMAP))
    if not all(path.exists() for path in paths):
        make_sample(SampleSettings(resolution=2))
    if limit_of(data_hash(paths[1])) is None:
        make_limit(LimitSettings(resolution=2))
    return paths


def degraded_forecasts(data: Path, name: str, settings: Settings) -> Path:
    """A file of forecasts of a data set's weather with SYNTHETIC errors, made if it is missing."""
    most = max(settings.lead_days)
    out = settings.out.resolve() / "forecasts" / f"{name}_degraded_{most}days.nc"
    if not are_of(out, data):
        make_forecasts(ForecastSettings(data=data, out=out, lead_days=most))
    return out


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
