"""How long the study's networks train: in steps of the optimiser, since an epoch has as many of them as its data have.

An epoch of ERA5-Land has 20 steps in the study of the sample, one of SMAP has 6 or 12, and one of 30 days a single one.
"""

import math
from collections.abc import Sequence

from utils.common.periods import Span
from utils.settings import RunSettings, complete, split_of

CAP_STEPS = 3000  # of a run, at most: generous, so that hardly a run ends there
PATIENCE_STEPS = 100  # without a better validation RMSE, after which a run ends


def set_budget(settings: RunSettings, target_days: int | None, published: bool, exactly: int | None = None) -> None:
    """Set epochs and patience, and the days to learn from.

    A network trains until its validation RMSE stops improving; with `published`, for the epochs of its script. Few
    days get as many steps as the whole record: with as many epochs instead, they would only mean little training.
    `exactly`: this many steps, whatever the validation says. A script with a patience of its own keeps its budget.
    """
    complete(settings)
    on_whole_record = steps_per_epoch(settings)
    if target_days:
        settings.target_days = target_days
    steps = steps_per_epoch(settings)
    factor = on_whole_record / steps
    if getattr(settings, "transfer", "") == "gradual":
        settings.unfreeze_every = round(settings.unfreeze_every * factor)
    if exactly is not None:
        settings.epochs, settings.patience = math.ceil(exactly / steps), 0
    elif published or settings.patience:
        settings.epochs, settings.patience = round(settings.epochs * factor), round(settings.patience * factor)
    elif settings.epochs:  # 0: zero-shot
        settings.epochs, settings.patience = math.ceil(CAP_STEPS / steps), math.ceil(PATIENCE_STEPS / steps)


def set_days(settings: RunSettings, target_days: int | None, exactly: int | None = None) -> None:
    """Set the days of a model that is fitted twice and has a budget of its own; `exactly`: the steps of its last fit.

    That fit learns from training and validation days.
    """
    complete(settings)
    if target_days:
        settings.target_days = target_days
    if exactly is not None:
        split = split_of(settings)
        days = count_days((*split.train, *split.val))
        settings.epochs = math.ceil(exactly / math.ceil(days / settings.batch_size))


def steps_per_epoch(settings: RunSettings) -> int:
    """Batches of whole maps that the training days fill."""
    return math.ceil(count_days(split_of(settings).train) / settings.batch_size)


def count_days(spans: Sequence[Span]) -> int:
    return sum(int((end - start).astype(int)) + 1 for start, end in spans)
