"""The settings every train script shares, and what periods of target days mean."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from utils.common.cli import UserError
from utils.common.files import ROOT
from utils.common.periods import Period, Periods, Split, spans
from utils.dataset.prepared import SEASON, VARIABLES
from utils.dataset.weather_forecasts import FROM_FILE, FUTURE, PERFECT, future_variables

RUNS = ROOT / "runs"
SAMPLE_ERA5 = ROOT / "data" / "sample" / "era5_land_1deg.nc"
SAMPLE_SMAP = ROOT / "data" / "sample" / "smap_l4_1deg.nc"
EXPERIMENTS = ("ERA5test", "SMAPtest", "finetune-SMAPtest")


RENAMED = {"episodes": "pseudo_satellite_years"}  # settings in older checkpoints, and their names of today
_PATHS = ("data", "out", "init_from", "future_from")


def run_folder(experiment: str, model: str, lead_days: int, seed: int) -> Path:
    """Where a run is below runs/ (contract 4)."""
    return Path(experiment, model, f"lead{lead_days}", f"seed{seed}")


@dataclass(kw_only=True)
class TrainSettings:
    """What every train script has; the scripts list these again with their own values."""

    data: Path  # a prepared data set (data/README.md)
    train: Periods  # target days to learn from: one or several START END pairs
    val: Period  # target days that choose the best epoch
    test: Period  # target days that score it, seen by eval.py alone
    lead_days: int = 3  # forecast this many days after the last input day
    input_days: int | None = None  # days in the window; None: as many as lead_days
    predictors: tuple[str, ...] = tuple(VARIABLES)  # what the model sees at each input day; SEASON can be added
    future_precipitation: bool = False  # see the rain of the days up to the target too: a perfect forecast of it
    future_temperature: bool = False  # the same of soil temperature
    future_from: Path | None = None  # a file of forecasts of them (docs/forecasts.md); None: the data set itself
    epochs: int | None = None  # passes over the training days; None: the published number
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    patience: int = 0  # stop after this many epochs without a better validation RMSE; 0: never, as published
    seed: int = 0  # of the initial weights and the order of the samples
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # auto: bf16-mixed where the processor has it
    out: Path | None = None  # run directory; None: runs/<experiment>/<model>/lead<d>/seed<s>
    overwrite: bool = False  # start again in a directory that holds another run

    @property
    def variant(self) -> str:
        """What the model's name adds to its script's, such as _conv for train_convlstm.py --head conv."""
        return ""

    @property
    def future(self) -> tuple[str, ...]:
        """Variables whose days up to the target are seen too."""
        return future_variables(vars(self))

    @property
    def channels(self) -> int:
        """Input maps of a day: one a variable, seen or not, two for the season, one a variable and future day."""
        return len(VARIABLES) + 2 * (SEASON in self.predictors) + self.lead_days * len(self.future)

    @property
    def future_variant(self) -> str:
        """What future weather adds to the model's name: _future_… where it is perfect, _forecast_… from a file."""
        if not self.future:
            return ""
        known = "weather" if len(self.future) > 1 else {"precipitation": "rain"}.get(self.future[0], "temperature")
        return f"{PERFECT if self.future_from is None else FROM_FILE}{known}"

    @property
    def published_epochs(self) -> int | None:
        """The published number of epochs, for scripts whose `epochs` defaults to None."""
        return None


@dataclass(kw_only=True)
class SourceSettings(TrainSettings):
    """A script of the source domain, whose product has no gaps."""

    gaps: float = 0.0  # share of soil-moisture inputs hidden while it learns, as a satellite would leave out; 0: none


@dataclass(kw_only=True)
class TargetSettings(TrainSettings):
    """A script of the target domain, whose record can be cut short to ask what little data is worth."""

    target_days: int | None = None  # learn from the last N days before the test period alone; None: train and val


@dataclass(kw_only=True)
class FinetuneSettings(TargetSettings):
    """A script that starts from pre-trained weights; docs/transfer.md tells what the strategies do."""

    init_from: Path | None = None  # run directory; None: the ERA5test run of the same model, lead and seed
    transfer: Literal["full", "head", "gradual", "discriminative", "l2sp"] = "full"  # how its weights learn
    freeze: tuple[str, ...] = ()  # parts of the model that keep their weights, such as conv or lstm
    part_lr: tuple[str, ...] = ()  # PART=RATE: learning rates of parts that differ from lr
    match: Literal["none", "mean", "mean_variance", "cdf"] = "none"  # carry SMAP to the climate of the pre-training
    unfreeze_every: int = 1  # epochs after which gradual lets one more part learn
    lr_decay: float = 2.6  # discriminative divides the learning rate by this for each part below the head
    l2sp: float = 0.01  # strength of the pull of l2sp towards the pre-trained weights


_MAY_BE_EMPTY = ("freeze", "part_lr")


def complete(settings: TrainSettings) -> None:
    """Fill in what defaults to another setting and refuse values that mean nothing, with a UserError."""
    if settings.input_days is None:
        settings.input_days = settings.lead_days
    if settings.epochs is None:
        settings.epochs = settings.published_epochs
    for name in _PATHS:
        if getattr(settings, name, None) is not None:
            setattr(settings, name, getattr(settings, name).expanduser().resolve())
    least = {"patience": 0, "seed": 0, "target_days": 2}
    least["epochs"] = 0 if isinstance(settings, FinetuneSettings) else 1  # 0: the pre-trained weights as they are
    for field in fields(settings):
        value, flag = getattr(settings, field.name), f"--{field.name.replace('_', '-')}"
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers and field.name not in _MAY_BE_EMPTY:
            raise UserError(f"{flag} has no value, expected at least one.")
        for number in numbers:
            if type(number) is int and not least.get(field.name, 1) <= number < 2**31:
                raise UserError(f"{flag} is {number}, expected {least.get(field.name, 1)} or more, below 2147483648.")
    known = (*VARIABLES, SEASON)
    if strange := [name for name in settings.predictors if name not in known]:
        raise UserError(f"--predictors has {strange[0]!r}, expected some of {', '.join(known)}.")
    settings.predictors = tuple(name for name in known if name in settings.predictors)
    if not 0 <= getattr(settings, "gaps", 0) < 1:
        raise UserError(f"--gaps is {settings.gaps}, expected 0 or more, below 1.")
    for name in ("lr", "lr_decay", "l2sp"):
        if not 0 < getattr(settings, name, 1) < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} is {getattr(settings, name)}, expected a positive number.")
    if settings.future_from and not settings.future:
        flags = " nor ".join(f"--{name.replace('_', '-')}" for name in FUTURE.values())
        raise UserError(f"--future-from names a file of forecasts, but neither {flags} asks for any.")


def plain(settings: TrainSettings) -> dict[str, Any]:
    """The settings as JSON and checkpoints hold them: paths as text, tuples as lists."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def before_it_existed() -> dict[str, Any]:
    """What runs did that were made before a setting existed: the values that change nothing."""
    kinds = {field.name: field.default for kind in (SourceSettings, FinetuneSettings) for field in fields(kind)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kinds.items()}


def from_plain(kind: type[TrainSettings], values: dict[str, Any]) -> TrainSettings:
    """The settings back from `plain`; names the script no longer knows are left out."""
    known = {field.name for field in fields(kind)} & values.keys()
    back = {k: tuple(values[k]) if isinstance(values[k], list) else values[k] for k in known}
    return kind(**back | {k: Path(back[k]) for k in _PATHS if back.get(k) is not None})


# ---------------------------------------------------------------------------------------------------------- periods


def split_of(settings: TrainSettings) -> Split:
    """The spans of target days the settings ask for, checked against each other.

    With `target_days` N, training and validation are the last N days before the test period, the last fifth of them
    (at least a day) for validation, whatever `train` and `val` say.
    """
    test = spans("test", settings.test)
    target_days = getattr(settings, "target_days", None)
    if target_days is None:
        split = Split(spans("train", settings.train), spans("val", settings.val), test)
    else:
        end = test[0][0] - 1
        start = max(np.datetime64("0001-01-01"), end + 1 - min(target_days, 10**6))
        val_start = end - max(1, target_days // 5) + 1
        split = Split(((start, val_start - 1),), ((val_start, end),), test)
    for first, second in (("train", "val"), ("val", "test")):
        end, start = getattr(split, first)[-1][1], getattr(split, second)[0][0]
        if start <= end:
            raise UserError(f"--{first} ends on {end}, expected before --{second} starts on {start}.")
    return split
