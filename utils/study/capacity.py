"""How many runs of a study this machine takes side by side."""

import contextlib
from collections.abc import Sequence

import psutil
import torch

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.common.parallel import cores
from utils.dataset.prepared import grid_of, open_prepared
from utils.settings import complete
from utils.study.plan import SCRATCH, Plan, Task

ROOM = 3 * 2**29  # bytes of a run beside its weights: libraries, data and activations
PER_WEIGHT = 16  # bytes: the weight, its gradient and Adam's two means


def side_by_side(plan: Plan, models: Sequence[str]) -> int:
    """How many runs this machine takes: one a core, and no more than the free memory holds of the largest model."""
    with open_prepared(plan.data[SCRATCH]) as ds:
        grid = grid_of(ds)
    weights = [_count_weights(plan, model, grid) for model in models]
    affordable = psutil.virtual_memory().available // (ROOM + PER_WEIGHT * max(weights))
    return max(1, min(cores(), affordable))


def _count_weights(plan: Plan, model: str, grid: Grid) -> int:
    """0 for a model that is not made for this grid: its first run says so."""
    script = plan.configure(Task(experiment=SCRATCH, model=model, lead_days=1, seed=0))
    complete(script.settings)
    with torch.device("meta"), contextlib.suppress(UserError):  # shapes without values
        return sum(weights.numel() for weights in script.build(script.settings, grid).parameters())
    return 0
