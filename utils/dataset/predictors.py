"""Predictors by name: what a model may see of each day, where it comes from, how it is scaled, and in which channels.

A model's input has these channels, in this order:

the three      precipitation, soil moisture and soil temperature, whether they are predictors or not (OUTSIDE if not)
further ones   by name: any other daily variable of the data set, and the rows of DERIVED, which come from no file
static maps    by name: any map of the data set without time, the same on each input day
known ahead    by name: the days from the last input day to the target, of each daily predictor that is known ahead

Variables and maps are min-max scaled, by the training period and the scored cells. DERIVED says how its rows are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16

from utils.common.periods import annual_harmonics
from utils.dataset.prepared import VARIABLES, VariableNames

SEASON = "season"
OLDEST = 30  # days: the age of an older observation, and of none
Age = Int16[np.ndarray, "time lat lon"]


@dataclass(frozen=True)
class Derived:
    """A predictor that is computed, from the days and from the age of the last observation in days (-1: none)."""

    channels: tuple[str, ...]
    maps: Callable[[np.ndarray, Age], Float[np.ndarray, "time channel #lat #lon"]]  # scaled to 0…1


def scale_season(days: np.ndarray, age: Age) -> Float[np.ndarray, "time 2 1 1"]:
    """Cosine and sine of the day of the year."""
    return (annual_harmonics(days, 1)[:, 1:, None, None] + 1) / 2


def scale_age(days: np.ndarray, age: Age) -> Float[np.ndarray, "time 1 lat lon"]:
    """Days since soil moisture was last observed, as a share of OLDEST."""
    return (np.where(age < 0, OLDEST, np.minimum(age, OLDEST)) / OLDEST)[:, None]


DERIVED = {
    SEASON: Derived(("season_cosine", "season_sine"), scale_season),
    "observation_age": Derived(("observation_age",), scale_age),
}


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Predictors in the order of their channels, each once: those of the three, then the others by the alphabet."""
    names = set(names)
    return (*(name for name in VARIABLES if name in names), *sorted(names - VARIABLES.keys()))


def channels_of_day(predictors: Iterable[str]) -> tuple[str, ...]:
    """The channels of an input day that differ from day to day."""
    further = (name for name in in_order(predictors) if name not in VARIABLES)
    return (*VARIABLES, *(channel for name in further for channel in channels_of(name)))


def channels_of(predictor: str) -> tuple[str, ...]:
    """The channels of a further predictor."""
    return DERIVED[predictor].channels if predictor in DERIVED else (predictor,)


def channel_names(
    predictors: Iterable[str], static: Iterable[str] = (), known_ahead: Iterable[str] = (), lead_days: int = 0
) -> tuple[str, ...]:
    """All channels of a model's input."""
    ahead = (f"{name}_ahead_{day}" for name in in_order(known_ahead) for day in range(1, lead_days + 1))
    return (*channels_of_day(predictors), *in_order(static), *ahead)


def variables_of(predictors: Iterable[str], static: Iterable[str] = ()) -> VariableNames:
    """The variables that a data set must hold for these predictors."""
    further = (name for name in in_order(predictors) if name not in VARIABLES and name not in DERIVED)
    return VariableNames(daily=(*VARIABLES, *further), static=in_order(static))
