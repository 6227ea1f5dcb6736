"""What all benchmarks share: the settings, models and samples, and processes of their own."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import synthetic

from utils.common.files import ROOT
from utils.common.grid import Grid
from utils.common.periods import Split
from utils.data_processing import Windows
from utils.dataset.blocks import DataSet
from utils.models import ForecastModel, reference
from utils.training.inference import load_script

LEAD = 3  # days
PATCHES = {"pixel_lstm": (8, 8)}  # what a script learns from where it is not whole maps


@dataclass
class Settings:
    """What to measure, how often, and where to put the numbers."""

    parts: tuple[Literal["steps", "loader", "memory", "scaling", "layouts"], ...] = (
        "steps",
        "loader",
        "memory",
        "scaling",
    )
    models: tuple[str, ...] = (*reference.MODELS, "change_net")  # of each part's own, those that are named here
    precisions: tuple[str, ...] = ("auto", "32-true")  # of our steps; the reference is in 32 bit
    shape: tuple[int, int] = (52, 65)
    input_days: int = 3
    batch_size: int = 128
    steps: int = 5  # measured in each process, after two that are not
    rounds: int = 3  # processes of each kind
    large_shape: tuple[int, int] = (511, 641)  # China at 0.1°
    days: tuple[int, int] = (730, 1460)  # of the large data set, to compare the memory of
    target_days: tuple[int, int] = (6, 20)  # that are learned and scored there
    quick: bool = False  # a smoke test: small maps, batches of 8, one round
    folder: Path = ROOT / "results" / "bench"  # synthetic data sets, kept for the next time; about 6 GB
    out: Path = ROOT / "results" / "bench.json"  # parts and models that are not measured keep their numbers
    table: Path | None = None  # print this file's numbers as Markdown instead

    def __post_init__(self):
        if self.quick:
            self.shape, self.batch_size, self.steps, self.rounds = (12, 14), 8, 2, 1
            self.large_shape, self.days, self.target_days = (20, 26), (60, 120), (5, 5)

    def of(self, models: tuple[str, ...]) -> list[str]:
        """Those of a part's models that are wanted."""
        return [name for name in models if name in self.models]


def our_model(name: str, shape: tuple[int, int], input_days: int) -> ForecastModel:
    """A model as its script in SMAPtest builds it."""
    has_script = (ROOT / "SMAPtest" / f"train_{name}.py").exists()
    script, _, head = (name, "", "") if has_script else name.partition("_")  # only the convlstm has heads
    module = load_script(ROOT / "SMAPtest" / f"train_{script}.py")
    chosen = module.Settings(input_days=input_days, **({"head": head} if head else {}))
    return module.build(chosen, Grid(np.linspace(54, 3, shape[0]), np.linspace(72, 136, shape[1])))


def step_data(settings: Settings, shape: tuple[int, int]) -> Path:
    """Days enough for `steps` batches of whole maps."""
    return synthetic.prepared(settings.folder, shape, settings.batch_size * settings.steps + settings.input_days + 10)


def training_samples(
    path: Path,
    settings: Settings,
    model: ForecastModel | None = None,
    patch: int | None = None,
    targets: int | None = None,
) -> Windows:
    """The samples of the first `targets` days of a data set; None: of as many as make `steps` batches of whole maps."""
    data = DataSet(path)
    first = settings.input_days + LEAD - 1
    count = targets or settings.batch_size * settings.steps
    train, val, test = ((data.days[first], data.days[first + count - 1]), *((data.days[i],) * 2 for i in (-2, -1)))
    split = Split((train,), (val,), (test,))
    reach = None if model is None else model.receptive_radius(settings.input_days)
    return Windows(
        data,
        data.statistics(split),
        lead_days=LEAD,
        input_days=settings.input_days,
        periods=split.train,
        name="training",
        receptive_radius=reach,
        patch=patch,
    )


def in_a_process(function: Callable, *arguments: Any) -> Any:
    """What `function` returns in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
