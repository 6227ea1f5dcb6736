"""What the compact model learns from: cells on single days, of SMAP or of the land model as a satellite sees it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int

from utils.data_processing import index_batches
from utils.dataset.predictors import OLDEST
from utils.dataset.statistics import MOISTURE
from utils.models.compact import STATIC, MemoryWindows
from utils.training.pseudo_satellite import RECENT, draw_years

MOST_SAMPLES = 1_500_000  # to learn from
MOST_SAMPLES_OF_A_YEAR = 150_000


@dataclass(frozen=True)
class CellSamples:
    """Samples of single cells on single days."""

    x: Float32[np.ndarray, "row dynamic"]  # antecedent features, in their units
    static: Float32[np.ndarray, "row static"]  # what is the cell's own
    y: Float32[np.ndarray, "row"]  # soil moisture less the cell's mean, m3 m-3
    day: Int[np.ndarray, "row"]  # target day, in days since 1970-01-01

    def __len__(self) -> int:
        return len(self.y)

    def where(self, chosen: Bool[np.ndarray, "row"]) -> "CellSamples":
        """The chosen samples."""
        return CellSamples(x=self.x[chosen], static=self.static[chosen], y=self.y[chosen], day=self.day[chosen])

    @classmethod
    def concatenate(cls, parts: list["CellSamples"]) -> "CellSamples":
        """All samples of the parts."""
        return cls(
            x=np.concatenate([part.x for part in parts]),
            static=np.concatenate([part.static for part in parts]),
            y=np.concatenate([part.y for part in parts]),
            day=np.concatenate([part.day for part in parts]),
        )


def draw_observations(samples: MemoryWindows, rng: np.random.Generator) -> CellSamples:
    """Every valid target of every cell, or as many of them as MOST_SAMPLES, drawn at random."""
    possible = len(samples.target_index) * int(samples.statistics.scored.sum())
    share = MOST_SAMPLES / max(possible, 1)
    return CellSamples.concatenate([_draw_cells(windows, rng, share, oldest=OLDEST) for windows in samples])


def _draw_cells(
    windows: MemoryWindows,
    rng: np.random.Generator,
    share: float,
    oldest: int,
    truth: Float32[np.ndarray, "time lat lon"] | None = None,
) -> CellSamples:
    """A random share of the windows' cells and days.

    Their last observation is at most `oldest` days old. The target is the observation, or else the `truth`, m3 m-3.
    """
    record, parts = windows.record, []
    mean, scored = record.statistics.cell_mean[MOISTURE], record.statistics.scored
    truth = record.observed if truth is None else truth
    for samples in index_batches(len(windows), 32):
        target = windows.target_index[samples]
        features = windows.batch(samples).features[:, 0].movedim(1, -1).numpy()
        chosen = np.isfinite(truth[target]) & scored & (windows.age[target - windows.lead_days] <= oldest)
        if share < 1:
            chosen &= rng.random(chosen.shape) < share
        cells, dynamic = features[chosen], features.shape[-1] - len(STATIC) - len(windows.static)
        target_day = target[np.nonzero(chosen)[0]]
        parts.append(
            CellSamples(
                x=cells[:, :dynamic],
                static=cells[:, dynamic:],
                y=(truth[target] - mean)[chosen].astype(np.float32),
                day=record.days[target_day].astype(int),
            )
        )
    return CellSamples.concatenate(parts)


def draw_pseudo_satellite_years(samples: MemoryWindows, number: int, rng: np.random.Generator) -> CellSamples:
    """Up to `number` years of the land model as a satellite would see them (see `draw_years`), as samples.

    The target is the land model's soil moisture without noise.
    """
    parts = []
    for year in draw_years(samples, number, rng):
        windows = year.windows
        share = MOST_SAMPLES_OF_A_YEAR / (len(windows) * windows.statistics.scored.sum())
        parts.append(_draw_cells(windows, rng, share, oldest=RECENT, truth=year.truth))
    return CellSamples.concatenate(parts)
