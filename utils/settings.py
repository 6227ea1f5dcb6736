"""The settings of a run: what belongs to an experiment stands here once, and every train script inherits it.

ERA5Settings, SMAPSettings and FinetuneSettings hold the data, the periods and the lead time of the three experiments.
NetworkSettings and the two classes behind it hold what the networks have beside that. A change here holds for all
scripts; a script may declare a field again, and the command line overrides both.
"""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from utils.common.cli import INTERNAL, UserError
from utils.common.files import ROOT
from utils.common.periods import Period, Periods, Split, refuse_disorder, spans
from utils.dataset.predictors import channel_names, in_order, variables_of
from utils.dataset.prepared import VARIABLES, VariableNames
from utils.dataset.weather_forecasts import FROM_FILE, FUTURE, PERFECT, SHORT

RUNS = ROOT / "runs"
SAMPLE_ERA5 = ROOT / "data" / "sample" / "era5_land_1deg.nc"
SAMPLE_SMAP = ROOT / "data" / "sample" / "smap_l4_1deg.nc"
EXPERIMENTS = ("ERA5test", "SMAPtest", "finetune-SMAPtest")


# ------------------------------------------------------------------------------------------------------ experiments


@dataclass(kw_only=True)
class RunSettings:
    """What every run has, whatever its experiment and model."""

    data: Path  # a prepared data set; your own goes here (data/README.md)
    train: Periods  # target days to learn from: one or several START END pairs
    val: Period  # target days that choose the best epoch
    test: Period  # target days that score the model; only eval.py reads them
    lead_days: int = 3  # forecast this many days after the last input day
    input_days: int | None = None  # days in the window; None: as many as lead_days
    predictors: tuple[str, ...] = tuple(VARIABLES)  # daily variables of the data set; also season, observation_age
    static: tuple[str, ...] = ()  # maps of the data set that the model sees too, such as clay
    known_ahead: tuple[str, ...] = ()  # predictors whose days up to the target are seen too, as a perfect forecast
    future_precipitation: bool = False  # the same as --known-ahead precipitation
    future_from: Path | None = None  # a file of weather forecasts (docs/weather_forecasts.md); None: the data set
    epochs: int | None = None  # passes over the training days; None: the published number
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate
    seed: int = 0  # of the initial weights and of the order of the samples
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # auto: bf16-mixed where the processor has it
    out: Path | None = None  # run directory; None: runs/<experiment>/<model>/lead<d>/seed<s>
    overwrite: bool = False  # start again in a directory that holds another run

    def __post_init__(self):
        known = {name for name, alias in FUTURE.items() if getattr(self, alias, False)} | {*self.known_ahead}
        self.known_ahead = in_order(known)
        for name, alias in FUTURE.items():
            if hasattr(self, alias):
                setattr(self, alias, name in known)

    @property
    def variant(self) -> str:
        """What the model's name adds to its script's, such as _conv for train_convlstm.py --head conv."""
        return ""

    @property
    def published_epochs(self) -> int | None:
        """The published number of epochs, for scripts whose `epochs` defaults to None."""
        return None

    @property
    def variables(self) -> VariableNames:
        """The variables that the data set must hold."""
        return variables_of(self.predictors, self.static)

    @property
    def channels(self) -> int:
        """Number of input maps of a day: those of the three variables, seen or not, and of all else that is seen."""
        return len(channel_names(self.predictors, self.static, self.known_ahead, self.lead_days))

    @property
    def future_variant(self) -> str:
        """What known weather adds to the model's name: _future_… where it is perfect, _forecast_… from a file."""
        if not self.known_ahead:
            return ""
        names = "_".join(SHORT.get(name, re.sub(r"\W", "_", name)) for name in self.known_ahead)
        known = "weather" if names == "rain_temperature" else names
        return f"{PERFECT if self.future_from is None else FROM_FILE}{known}"

    @property
    def forecast_variant(self) -> str:
        """What `forecast` adds to the model's name: nothing where it is what the script has by itself."""
        forecast, own = (getattr(owner, "forecast", "") for owner in (self, type(self)))
        return "" if forecast == own else f"_{forecast}"

    def model_name(self, script: str) -> str:
        """The model's name in run folders and tables: its script's, and what these settings add to it."""
        return script + self.variant + self.forecast_variant + self.future_variant


@dataclass(kw_only=True)
class ERA5Settings(RunSettings):
    """The source task: ERA5-Land, years of it and without gaps."""

    data: Path = SAMPLE_ERA5
    train: Periods = ("2009-03-31", "2016-03-30")
    val: Period = ("2016-03-31", "2017-03-30")
    test: Period = ("2017-03-31", "2018-03-30")


@dataclass(kw_only=True)
class SMAPSettings(RunSettings):
    """The target task: SMAP, whose record can be cut short to ask what little data is worth."""

    data: Path = SAMPLE_SMAP
    train: Periods = ("2015-03-31", "2017-03-30")
    val: Period = ("2017-03-31", "2018-03-30")
    test: Period = ("2018-03-31", "2019-03-30")
    target_days: int | None = None  # learn from the last N days before the test period alone; None: train and val


@dataclass(kw_only=True)
class FinetuneSettings(SMAPSettings):
    """The target task from pre-trained weights. The architecture is that of the pre-trained run."""

    init_from: Path | None = None  # run directory; None: the ERA5test run of the same model, lead and seed
    transfer: Literal["full", "head", "gradual", "discriminative", "l2sp"] = "full"  # which weights learn, and how
    new_predictors: Literal["refuse", "zero"] = "refuse"  # zero: weights of predictors that its source lacks start at 0


# --------------------------------------------------------------------------------------------------------- networks


@dataclass(kw_only=True)
class NetworkSettings:
    """What a network has beside the settings of its experiment."""

    future_temperature: bool = False  # the same as --known-ahead soil_temperature
    forecast: Literal["value", "change"] = "value"  # of soil moisture: itself, or its change since the last input day
    patience: int = 0  # stop after this many epochs without a better validation RMSE; 0: never, as published


@dataclass(kw_only=True)
class PretrainingNetworkSettings(NetworkSettings):
    """A network on ERA5-Land."""

    gaps: float = 0.0  # share of soil-moisture inputs hidden in training, as a satellite would miss them; 0: none


@dataclass(kw_only=True)
class FinetuningNetworkSettings(NetworkSettings):
    """A network that starts from pre-trained weights; docs/transfer.md explains the strategies."""

    freeze: tuple[str, ...] = ()  # parts of the model that keep their weights, such as conv or lstm
    match: Literal["none", "mean", "mean_variance", "cdf"] = "none"  # map SMAP to the distribution of the pre-training
    l2sp: float = 0.01  # how strongly --transfer l2sp pulls the weights back to the pre-trained ones
    unfreeze_every: int = field(default=1, metadata=INTERNAL)  # epochs a step of gradual; the study sets it


# -------------------------------------------------------------------------------------- groups, and what is no longer

ARCHITECTURE = "architecture"  # the group of all settings that GROUPS does not name
GROUPS = {
    "data and periods": (
        "data",
        "train",
        "val",
        "test",
        "target_days",
        "lead_days",
        "input_days",
        "predictors",
        "static",
        "known_ahead",
        "future_precipitation",
        "future_temperature",
        "future_from",
        "gaps",
        "match",
    ),
    "training": (
        "init_from",
        "transfer",
        "new_predictors",
        "freeze",
        "l2sp",
        "unfreeze_every",
        "prior_days",
        "pseudo_satellite_years",
        "patch",
        "epochs",
        "batch_size",
        "lr",
        "patience",
    ),
    ARCHITECTURE: (),
    "run": ("seed", "precision", "out", "overwrite"),
}
RENAMED = {"episodes": "pseudo_satellite_years"}  # settings in older checkpoints, and their names of today
FORMER = {"part_lr": [], "lr_decay": 2.6}  # settings of earlier versions: values of no effect
FLAGS = RENAMED | dict.fromkeys(FUTURE.values(), "known_ahead")  # other flags, and the settings that they set
OPTIONAL = ("freeze", "static", "known_ahead")  # settings that may be empty
_PATHS = ("data", "out", "init_from", "future_from")


def group_of(name: str) -> str:
    """The group of --help in which a setting stands."""
    return next((group for group, names in GROUPS.items() if name in names), ARCHITECTURE)


def groups_of(kind: type) -> dict[str, tuple[str, ...]]:
    """GROUPS, with the architecture of a script's settings filled in."""
    own = tuple(setting.name for setting in fields(kind) if group_of(setting.name) == ARCHITECTURE)
    return GROUPS | {ARCHITECTURE: own}


def architecture_of(values: dict[str, Any]) -> dict[str, Any]:
    """The settings, of all those that a checkpoint holds, that say how its model is built."""
    return {k: v for k, v in values.items() if group_of(k) == ARCHITECTURE and k not in FORMER}


def neutral_values() -> dict[str, Any]:
    """For runs that were made before a setting existed, or without it: the values that change nothing."""
    kinds = (ERA5Settings, FinetuneSettings, PretrainingNetworkSettings, FinetuningNetworkSettings)
    defaults = {setting.name: setting.default for kind in kinds for setting in fields(kind)}
    return FORMER | {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}


def run_folder(experiment: str, model: str, lead_days: int, seed: int) -> Path:
    """Where a run is below runs/."""
    return Path(experiment, model, f"lead{lead_days}", f"seed{seed}")


# ------------------------------------------------------------------------------------------------ checks and storage


def complete(settings: RunSettings) -> None:
    """Fill in what defaults to another setting and refuse values that mean nothing, with a UserError."""
    if settings.input_days is None:
        settings.input_days = settings.lead_days
    if settings.epochs is None:
        settings.epochs = settings.published_epochs
    for name in _PATHS:
        if getattr(settings, name, None) is not None:
            setattr(settings, name, getattr(settings, name).expanduser().resolve())
    _refuse_numbers(settings)
    for name in ("predictors", "static", "known_ahead"):
        setattr(settings, name, in_order(getattr(settings, name)))
    if getattr(settings, "forecast", "") == "change" and "soil_moisture" not in settings.predictors:
        raise UserError("--forecast change counts from the last soil moisture, which --predictors does not have.")
    possible = {*VARIABLES, *settings.variables.daily}
    if strange := [name for name in settings.known_ahead if name not in possible]:
        raise UserError(f"--known-ahead has {strange[0]!r}, expected some of {', '.join(in_order(possible))}.")
    if settings.future_from and not settings.known_ahead:
        raise UserError("--future-from names a file of forecasts, but --known-ahead does not say of what.")


def _refuse_numbers(settings: RunSettings) -> None:
    """A UserError for numbers out of their range, and for settings without a value."""
    least = {"patience": 0, "seed": 0, "target_days": 2}
    least["epochs"] = 0 if isinstance(settings, FinetuneSettings) else 1  # 0: the pre-trained weights as they are
    for setting in fields(settings):
        value, flag = getattr(settings, setting.name), f"--{setting.name.replace('_', '-')}"
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers and setting.name not in OPTIONAL:
            raise UserError(f"{flag} has no value, expected at least one.")
        for number in numbers:
            if type(number) is int and not least.get(setting.name, 1) <= number < 2**31:
                raise UserError(f"{flag} is {number}, expected {least.get(setting.name, 1)} or more, below 2147483648.")
    if not 0 <= getattr(settings, "gaps", 0) < 1:
        raise UserError(f"--gaps is {settings.gaps}, expected 0 or more, below 1.")
    for name in ("lr", "l2sp"):
        if not 0 < getattr(settings, name, 1) < float("inf"):
            raise UserError(f"--{name} is {getattr(settings, name)}, expected a positive number.")


def plain(settings: RunSettings) -> dict[str, Any]:
    """The settings as JSON and checkpoints hold them: paths as text, tuples as lists. Aliases are left out."""
    names = [setting.name for setting in fields(settings) if setting.name not in FUTURE.values()]
    return {name: _to_plain(getattr(settings, name)) for name in names}


def modernise(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint of any version, by their names of today."""
    ahead = [name for name, alias in FUTURE.items() if values.get(alias)]
    today = {RENAMED.get(name, name): value for name, value in values.items() if name not in FUTURE.values()}
    return {"known_ahead": ahead} | today


def _to_plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def from_plain(kind: type[RunSettings], values: dict[str, Any]) -> RunSettings:
    """The settings back from `plain`; names the script no longer knows are left out."""
    known = {setting.name for setting in fields(kind)} & values.keys()
    return kind(**{name: _restore(name, values[name]) for name in known})


def _restore(name: str, value: Any) -> Any:
    """The value of a setting as its class holds it, from that of `plain`."""
    if name in _PATHS and value is not None:
        return Path(value)
    if isinstance(value, list):
        return tuple(value)
    return value


# ---------------------------------------------------------------------------------------------------------- periods


def split_of(settings: RunSettings) -> Split:
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
    refuse_disorder(split)
    return split
