"""The baselines beside a run: fitted on the days it learns from, forecast and scored on those it is tested on."""

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
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.prepared import THREE, VariableNames
from utils.dataset.statistics import Statistics
from utils.scores.baselines import ALL_DAYS, BASELINES, TRAINING
from utils.scores.fitting import Fitting, Pooled
from utils.scores.prediction_file import open_predictions, score_with_intervals, write_scores
from utils.scores.scoring import hash_scoring
from utils.scores.sums import Sums


@dataclass(frozen=True, eq=False)
class Samples:
    """What some baselines learn from and what they forecast, with the cells' means of the days they learn from."""

    days: tuple[Span, ...]
    training: Windows
    test: Windows

    def fitting(self, cells: Tile, whole_map: Pooled | None) -> Fitting:
        """The samples of these cells, as a baseline takes them."""
        return Fitting(self.training.of(cells), self.test.of(cells), days=self.days, whole_map=whole_map)

    @functools.cached_property
    def whole_map(self) -> Pooled:
        """Sums over the training samples of all blocks."""
        parts = (Fitting(training=windows, test=windows, days=self.days).pooled for windows in self.training)
        return functools.reduce(operator.add, parts)


class FittedBaselines:
    """Every baseline of BASELINES on some samples."""

    def __init__(
        self,
        *,
        learn_from: Path,
        data: Path,
        train: tuple[Span, ...],
        val: tuple[Span, ...],
        test: tuple[Span, ...],
        lead_days: int,
        input_days: int,
        start: np.datetime64 | None,
        statistics: Statistics | None = None,
        in_blocks: bool = True,
        max_input_age: int | None = None,
        variables: VariableNames = THREE,
    ):
        """The baselines learn from the periods `train` and `val` of one data set and forecast `test` of another.

        Which of them learn from `val`, BASELINES says. Both data sets may be the same. No day before `start` is read.
        `statistics` are those of `train` that a run has, or else the data's own. With `in_blocks`, a large data set is
        read in blocks, as for a model that is free of the grid. `max_input_age` says which cell-days are scored (see
        open_predictions). The regressions also learn from further `variables`.
        """
        source = open_data_set(learn_from, start, variables=variables)
        target = source if data == learn_from else open_data_set(data, start, variables=variables)
        if statistics is None:
            statistics = source.statistics(Split(train, val, test))
        both = (*train, *val)
        of_both = source.statistics(Split(both, val, test)).scoring(statistics.scored)
        window = {"lead_days": lead_days, "input_days": input_days, "receptive_radius": 0 if in_blocks else None}
        window["predictors"] = variables.daily
        self.max_input_age = max_input_age

        def open_samples(days: tuple[Span, ...], statistics: Statistics) -> Samples:
            # neither scaled nor matched: the last digits of a regression would depend on whose scaling it was
            own = replace(statistics.unscaled(), matching=None)
            windows = Windows(source, own, **window)
            test_windows = windows if target is source else Windows(target, own, **window)
            return Samples(days, windows.in_periods(days, "training"), test_windows.in_periods(test, "test"))

        self._samples = {TRAINING: open_samples(train, statistics), ALL_DAYS: open_samples(both, of_both)}
        self.test = self._samples[TRAINING].test
        self._notes: dict[str, str] = {}
        self._forecasts: dict[str, np.ndarray] = {}  # of an only block
        self._scores: dict[str, dict[str, Any]] = {}

    def forecasts(self, block: Tile) -> dict[str, Float[np.ndarray, "sample lat lon"]]:
        """Each baseline's forecasts, m3 m-3, for a block's own cells; those of an only block are kept.

        A model that knows the weather ahead may see the map in smaller blocks than the baselines do.
        """
        only = len(self.test.blocks) == 1 and block.own == self.test.blocks[0].own
        if only and self._forecasts:
            return self._forecasts
        own = Tile(*block.own, *block.own)
        forecasts: dict[str, np.ndarray] = {}
        for learns_from, samples in self._samples.items():  # one after the other: a fitting takes much memory
            fitting = samples.fitting(own, whole_map=None if only else samples.whole_map)
            for name, row in BASELINES.items():
                if row.learns_from == learns_from:
                    forecasts[name], self._notes[name] = row.forecast(fitting), row.note(fitting)
        forecasts = {name: forecasts[name] for name in BASELINES}
        if only:
            self._forecasts = forecasts
        return forecasts

    def scores(self, sums: dict[str, Sums], frame: xr.Dataset) -> dict[str, dict[str, Any]]:
        """Each baseline's part of metrics.json; made once, since they are the same beside every model."""
        if not self._scores:
            for name in BASELINES:
                note = {"note": self._notes[name]} if self._notes[name] else {}
                self._scores[name] = score_with_intervals(name, sums, frame) | note
        return self._scores


def fit_baselines(statistics: Statistics, **samples: Any) -> FittedBaselines:
    """The baselines beside a run; `samples` as FittedBaselines takes them.

    The last two are kept: a study evaluates model after model on the same samples.
    """
    cells = hash((statistics.scored.tobytes(), statistics.cell_mean.tobytes()))
    content = data_hash(samples["learn_from"]), data_hash(samples["data"])
    key = (*sorted(samples.items()), content, cells)
    if key not in _kept:
        if len(_kept) == 2:
            del _kept[next(iter(_kept))]
        _kept[key] = FittedBaselines(**samples, statistics=statistics)
    return _kept[key]


_kept: dict[tuple, FittedBaselines] = {}


def evaluate_baselines(into: Path, suffix: str, attributes: dict[str, Any], **samples: Any) -> None:
    """Write each baseline's predictions.nc and metrics.json as a run's: <into>/<name><suffix>/lead<d>/.

    `samples` as FittedBaselines takes them, without `learn_from`: they learn from `data` too. Nothing is done where the
    files are there already, for the same data, periods and code (see scoring).
    """
    lead_days, input_days = samples["lead_days"], samples["input_days"]
    folders = {name: into / f"{name}{suffix}" / f"lead{lead_days}" for name in BASELINES}
    state = {"data_sha256": data_hash(samples["data"]), "input_days": input_days, "scoring": hash_scoring()}
    state["max_input_age"] = samples.get("max_input_age")
    if (variables := samples.get("variables", THREE)) != THREE:
        state["variables"] = list(variables.all)
    state |= {name: [[str(start), str(end)] for start, end in samples[name]] for name in ("train", "val", "test")}
    if all(_is_current(folder, state) for folder in folders.values()):
        return
    baselines = FittedBaselines(**samples, learn_from=samples["data"])
    for name, folder in folders.items():
        about = {**attributes, "model": name, "lead_days": lead_days, "input_days": input_days}
        climate = baselines.test.statistics
        with open_predictions(folder, baselines.test, about, climate, baselines.max_input_age) as out:
            for windows, block in zip(baselines.test, baselines.test.blocks, strict=True):
                forecasts = baselines.forecasts(block)
                out.add(block, windows, forecasts[name], forecasts)
            sums = out.sums()
        content = baselines.scores(sums, out.frame)[name] | about
        data = baselines.test.data
        content |= {"state": state, "synthetic_data": data.synthetic, "label": data.label}
        content["max_input_age"] = baselines.max_input_age
        write_scores(folder, out.frame, sums[name], content)


def _is_current(folder: Path, state: dict[str, Any]) -> bool:
    """Whether a folder has forecasts and scores of this state."""
    return read_json(folder / "metrics.json").get("state") == state and (folder / "predictions.nc").exists()
