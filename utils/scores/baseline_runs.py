"""The baselines beside a run: fitted on the samples it learns from, forecast and scored on those it is tested on."""

import functools
import operator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from utils.common.files import read_json
from utils.common.grid import Tile
from utils.common.periods import Span, Split
from utils.data_processing import Windows
from utils.dataset.antecedent_features import AntecedentFeatures
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.statistics import Statistics
from utils.figures.style import BASELINES
from utils.scores.baselines import FEATURES, Pooled, baselines
from utils.scores.metrics import Sums
from utils.scores.prediction_file import SCORING, score_with_intervals, write_scores, written


@dataclass(frozen=True)
class Asked:
    """Which samples baselines learn from, and which they forecast."""

    learn_from: Path  # data set of the training period
    data: Path  # data set of the test period
    train: tuple[Span, ...]
    test: tuple[Span, ...]
    lead_days: int
    input_days: int
    start: np.datetime64 | None  # no earlier day is read


class FittedBaselines:
    """The baselines on some samples, by the statistics of a run or else by the training period's own."""

    def __init__(self, asked: Asked, statistics: Statistics | None = None, in_blocks: bool = True):
        """`in_blocks`: large data sets are met as by a model free of the grid."""
        learned = open_data_set(asked.learn_from, asked.start)
        there = learned if asked.data == asked.learn_from else open_data_set(asked.data, asked.start)
        if statistics is None:
            split = Split(asked.train, (), asked.test)
            statistics = learned.statistics(split)
        # neither scaled nor matched: the last digits of a regression would hang on whose scaling it was
        statistics = replace(statistics.unscaled(), matching=None)
        look = 0 if in_blocks else None
        window = {"lead_days": asked.lead_days, "input_days": asked.input_days, "receptive_radius": look}
        windows = Windows(learned, statistics, **window)
        others = windows if there is learned else Windows(there, statistics, **window)
        self.asked = asked
        self.training = windows.in_periods(asked.train, "training")
        self.test = others.in_periods(asked.test, "test")
        self._pooled: Pooled | None = None
        self._notes: dict[str, str] = {}  # where one is less than its name says
        self._kept: dict[str, np.ndarray] = {}
        self._scores: dict[str, dict[str, Any]] = {}

    def forecasts(self, block: Tile) -> dict[str, Float[np.ndarray, "sample lat lon"]]:
        """Each baseline's, m3 m-3, for a block's own cells; those of an only block are kept."""
        if self._kept:
            return self._kept
        whole = len(self.test.blocks) == 1
        if self._pooled is None and not whole:
            parts = (
                Pooled.of(windows, AntecedentFeatures(windows.record, FEATURES), self.asked.train)
                for windows in self.training
            )
            self._pooled = functools.reduce(operator.add, parts)
        own = Tile(*block.own, *block.own)
        found = baselines(self.training.of(own), self.test.of(own), self.asked.train, self._pooled)
        self._notes = {name: note for name, (_, note) in found.items() if note}
        forecasts = {name: maps for name, (maps, _) in found.items()}
        if whole:
            self._kept = forecasts
        return forecasts

    def scores(self, sums: dict[str, Sums], frame: xr.Dataset) -> dict[str, dict[str, Any]]:
        """Each baseline's part of metrics.json; made once."""
        for name in () if self._scores else BASELINES:
            note = {"note": self._notes[name]} if name in self._notes else {}
            self._scores[name] = score_with_intervals(name, sums, frame) | note
        return self._scores


def references_of(asked: Asked, statistics: Statistics, in_blocks: bool) -> FittedBaselines:
    """The references of a run. The last two are kept: a study asks for them model after model."""
    cells = (statistics.scored.tobytes(), statistics.cell_mean.tobytes())
    key = (asked, in_blocks, data_hash(asked.learn_from), data_hash(asked.data), hash(cells))
    if key not in _kept:
        if len(_kept) == 2:
            del _kept[next(iter(_kept))]
        _kept[key] = FittedBaselines(asked, statistics, in_blocks)
    return _kept[key]


_kept: dict[tuple, FittedBaselines] = {}


def evaluate_baselines(asked: Asked, into: Path, suffix: str, attributes: dict[str, Any]) -> None:
    """Write each baseline's predictions.nc and metrics.json as a run's: <into>/<name><suffix>/lead<d>/.

    Nothing is done where they are there already, for the same data and periods.
    """
    folders = {name: into / f"{name}{suffix}" / f"lead{asked.lead_days}" for name in BASELINES}
    state = {"data_sha256": data_hash(asked.data), "input_days": asked.input_days, "scoring": SCORING}
    state |= {f: [[str(a), str(b)] for a, b in getattr(asked, f)] for f in ("train", "test")}
    there = [(read_json(f / "metrics.json"), (f / "predictions.nc").exists()) for f in folders.values()]
    if all(is_there and found.get("state") == state for found, is_there in there):
        return
    references = FittedBaselines(asked)
    test = references.test
    for name, folder in folders.items():
        about = {**attributes, "model": name, "lead_days": asked.lead_days, "input_days": asked.input_days}
        with written(folder, test, about) as out:
            for windows, block in zip(test, test.blocks, strict=True):
                simple = references.forecasts(block)
                out.add(block, windows, simple[name], simple)
        sums = out.sums()
        found = references.scores(sums, out.frame)[name] | about
        write_scores(folder, out.frame, sums[name], found | {"state": state, "synthetic_data": test.data.synthetic})
