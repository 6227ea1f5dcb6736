"""The whole study: every experiment, model, lead and seed that is missing, then the table and the figures.

python reproduce.py                                             the synthetic sample, reduced epochs: minutes
python reproduce.py --era5-land era5_land.nc --smap smap_l4.nc --full     your own pair, published epochs
"""

import contextlib
import json
import shlex
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils import experiment
from utils.console import UserError, one_sentence, parse
from utils.evaluation import evaluate, is_current
from utils.forecasting import load_script
from utils.prepared_data import open_prepared
from utils.report import write_report
from utils.runs import Checkpoint
from utils.settings import EXPERIMENTS, ROOT, SAMPLE_ERA5, SAMPLE_SMAP, TrainSettings
from utils.tables import show, table

STUDY = ("data", "train", "val", "test", "lead_days", "seed", "epochs", "patience", "out", "init_from", "head")
YEAR = 365  # days of the test period, and of the validation period before it


@dataclass(kw_only=True)
class Settings:
    era5_land: Path | None = None  # a prepared source data set; None: the synthetic sample at 2 degrees
    smap: Path | None = None  # a prepared target data set; None: the synthetic sample at 2 degrees
    models: tuple[str, ...] = ("cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm")  # names of the tables
    lead_days: tuple[int, ...] = (3, 5, 7)  # forecast this many days after the last input day
    seeds: tuple[int, ...] | None = None  # None: 0, and with --full 0 1 2
    full: bool = False  # the scripts' own epochs and patience, not a third of the epochs and a patience of 5
    out: Path = ROOT / "results"  # table, figures, report, and the run directories below runs/


def main(settings: Settings) -> None:
    start = time.monotonic()
    for name in ("models", "lead_days", "seeds"):
        if getattr(settings, name) == ():
            raise UserError(f"--{name.replace('_', '-')} has no value, expected at least one.")
    for name, model in product(EXPERIMENTS, settings.models):
        configured(name, model, settings.full)  # an unknown model is told now, not hours later
    source, target = data_sets(settings)
    settings.seeds = settings.seeds or ((0, 1, 2) if settings.full else (0,))
    periods = study_periods(source, target)
    tasks = [
        (name, model, lead_days, seed, settings.out / "runs" / name / model / f"lead{lead_days}" / f"seed{seed}")
        for lead_days, seed, model, name in product(settings.lead_days, settings.seeds, settings.models, EXPERIMENTS)
    ]
    found, worked = [], False
    with tqdm(tasks, unit="run", disable=None) as bar:
        for name, model, lead_days, seed, run_dir in bar:
            bar.set_description(f"{name} {model} lead {lead_days} seed {seed}")
            run_settings, script, build = configured(name, model, settings.full)
            run_settings = replace(
                run_settings,
                data=source if name == "ERA5test" else target,
                **periods[name],
                lead_days=lead_days,
                seed=seed,
                out=run_dir,
            )
            if name == "finetune-SMAPtest":
                run_settings.init_from = run_dir.parents[3] / "ERA5test" / run_dir.relative_to(run_dir.parents[2])
            _, checkpoint, trained = experiment.run(
                f"{name}/{script}",
                run_settings,
                build,
                dict.fromkeys(STUDY, "reproduce.py"),
                lambda c: bar.set_postfix(epoch=c.epoch, val_rmse=f"{c.log[-1][3]:.4f}"),
            )
            found.append(metrics_of(run_dir, checkpoint))
            worked = worked or trained
            if bar.disable:  # no terminal: a line a run for the log of the job
                print(f"{len(found)}/{len(tasks)}  {run_dir}: RMSE {found[-1]['rmse']:.4f} m³ m⁻³", flush=True)
    long = table(found)
    seconds = round(time.monotonic() - start)
    study = {"command": shlex.join(["python", "reproduce.py", *sys.argv[1:]]), "seconds": seconds}
    if not worked:  # the study was complete: how long it took is known from the call that made it
        study |= earlier_study(settings.out)
    write_report(settings.out, long, [task[-1] for task in tasks], study)
    print(show(long))
    print(f"\n{len(tasks)} runs in {seconds} s: {settings.out / 'table.csv'}, figures/ and report.html")


def data_sets(settings: Settings) -> tuple[Path, Path]:
    """The source and the target: the user's pair, or the synthetic sample at 2 degrees, made if it is missing."""
    if (settings.era5_land is None) != (settings.smap is None):
        raise UserError("--era5-land and --smap are a pair; give both, or neither for the synthetic sample.")
    if settings.era5_land and settings.smap:
        return settings.era5_land, settings.smap
    paths = tuple(path.with_name(path.name.replace("1deg", "2deg")) for path in (SAMPLE_ERA5, SAMPLE_SMAP))
    if not all(path.exists() for path in paths):
        maker = load_script(ROOT / "data" / "make_sample.py")
        maker.main(maker.Settings(resolution=2))
    return paths


def study_periods(source: Path, target: Path) -> dict[str, dict[str, tuple[str, str]]]:
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


def periods_of(first: np.datetime64, last: np.datetime64, path: Path) -> dict[str, tuple[str, str]]:
    test, val = last - YEAR + 1, last - 2 * YEAR + 1
    if val <= first:
        raise UserError(f"{path} offers {first} to {last} to this study, expected more than {2 * YEAR} days.")
    return {"train": (str(first), str(val - 1)), "val": (str(val), str(test - 1)), "test": (str(test), str(last))}


def configured(name: str, model: str, full: bool) -> tuple[TrainSettings, str, experiment.Build]:
    """A train script's own settings with the study's epochs, the script's model name, and its build function."""
    script, _, head = (model, "", "") if (ROOT / name / f"train_{model}.py").exists() else model.rpartition("_")
    path = ROOT / name / f"train_{script}.py"
    if not path.exists():
        raise UserError(f"--models has {model!r}, but there is no {name}/train_{model}.py.")
    module = load_script(path)
    settings = module.Settings(**({"head": head} if head else {}))
    if not full:
        settings = replace(settings, epochs=(settings.epochs or settings.published_epochs) // 3, patience=5)
    return settings, script, module.build


def metrics_of(run_dir: Path, checkpoint: Checkpoint) -> dict:
    """The metrics of a finished run, evaluated now unless that was done for the same weights, data and test period."""
    with contextlib.suppress(OSError, ValueError):
        metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
        if is_current(metrics, checkpoint) and (run_dir / "predictions.nc").exists():
            return metrics
    return evaluate(run_dir)


def earlier_study(out: Path) -> dict:
    """Command and seconds of the call that trained the study's runs, if its provenance is there."""
    with contextlib.suppress(OSError, ValueError):
        earlier = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
        return {name: earlier[name] for name in ("command", "seconds") if name in earlier}
    return {}


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
