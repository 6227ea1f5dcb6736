"""The whole study: every experiment, model, lead and seed that is missing, then the table and the figures.

    python reproduce.py                                             the synthetic sample, reduced epochs: minutes
    python reproduce.py --era5-land era5_land.nc --smap smap_l4.nc --full     your own pair, published epochs
"""

import json
import shutil
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils import Drawmap, experiment, runs
from utils.console import UserError, one_sentence, parse
from utils.evaluation import evaluate
from utils.files import whole_file, write_json
from utils.forecasting import load_script
from utils.prepared_data import is_synthetic, open_prepared
from utils.report import write_report
from utils.settings import EXPERIMENTS, ROOT, SAMPLE_ERA5, SAMPLE_SMAP, TrainSettings
from utils.tables import show, table

YEAR = 365  # days of the test period, and of the validation period before it


@dataclass(kw_only=True)
class Settings:
    era5_land: Path | None = None  # a prepared source data set; None: the synthetic sample at 2 degrees
    smap: Path | None = None  # a prepared target data set; None: the synthetic sample at 2 degrees
    models: tuple[str, ...] = ("cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm")  # names of the tables
    lead_days: tuple[int, ...] = (3, 5, 7)  # forecast this many days after the last input day
    seeds: tuple[int, ...] | None = None  # None: 0, and with --full 0 1 2
    full: bool = False  # the scripts' own epochs and patience, not a third of the epochs and a patience of 3
    out: Path = ROOT / "results"  # table, figures, report, and the run directories below runs/


def main(settings: Settings) -> None:
    start = time.monotonic()
    source, target = data_sets(settings)
    settings.seeds = settings.seeds or ((0, 1, 2) if settings.full else (0,))
    periods = study_periods(source, target)
    tasks = [
        (task, settings.out / "runs" / name / model / f"lead{lead_days}" / f"seed{seed}")
        for task in product(settings.lead_days, settings.seeds, settings.models, EXPERIMENTS)
        for lead_days, seed, model, name in [task]
    ]
    found = []
    with tqdm(tasks, unit="run", disable=None) as bar:
        for (lead_days, seed, model, name), run_dir in bar:
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
                run_settings.init_from = Path(str(run_dir).replace(name, "ERA5test"))
            experiment.run(
                f"{name}/{script}",
                run_settings,
                build,
                on_epoch=lambda c: bar.set_postfix(epoch=c.epoch, val_rmse=f"{c.log[-1][3]:.4f}"),
            )
            found.append(metrics_of(run_dir))
    write_results(settings, found, time.monotonic() - start)


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
