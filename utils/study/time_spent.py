"""Where the time of a study went: seconds in which a process was busy, by model."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

BASELINES_TOGETHER = "baselines"


def timed(whose: str, call: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The same call; its result also says whose it was (a model, or the baselines) and how many seconds it took."""
    return partial(_time, whose, call)


def _time(whose: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    start = time.monotonic()
    return call() | {"whose": whose, "seconds": time.monotonic() - start}


def sum_seconds(results: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Seconds by model, the longest first, of the results of timed calls."""
    total = Counter()
    for result in results:
        if "seconds" in result:
            total[result["whose"]] += result["seconds"]
    return {name: round(seconds) for name, seconds in total.most_common()}


def describe_time(seconds: Mapping[str, int]) -> str:
    """A sentence."""
    shares = ", ".join(f"{name} {spent / 60:.1f}" for name, spent in seconds.items())
    return f"The processes were busy for {sum(seconds.values()) / 60:.1f} minutes in all: {shares}."
