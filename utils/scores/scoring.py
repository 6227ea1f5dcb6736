"""Which scores are stale: those made by other code than today's.

metrics.json holds under `scoring` the hash of the code that turns forecasts into scores and baselines. Scores with
another hash are made again where they are needed. So are those of older versions, which held a number there. Any change
of the files below changes the hash, a comment too: an evaluation takes seconds, and a stale score is worse.
"""

import hashlib
import inspect

from utils.common.files import ROOT
from utils.scores.baselines import BASELINES
from utils.scores.metrics import METRICS

SOURCES = (
    "utils/common/grid.py",
    "utils/common/periods.py",
    "utils/common/ridge.py",
    "utils/data_processing.py",
    "utils/dataset/antecedent_features.py",
    "utils/dataset/past_days.py",
    "utils/dataset/predictors.py",
    "utils/dataset/record.py",
    "utils/dataset/statistics.py",
    "utils/dataset/upwind_rain.py",
    "utils/evaluation.py",
    "utils/scores/baseline_runs.py",
    "utils/scores/baselines.py",
    "utils/scores/boosting.py",
    "utils/scores/fitting.py",
    "utils/scores/metrics.py",
    "utils/scores/prediction_file.py",
    "utils/scores/significance.py",
    "utils/scores/sums.py",
    "utils/scores/variance.py",
)


def hash_scoring() -> str:
    """SHA-256 of SOURCES and of the functions of all rows of METRICS and BASELINES, which may stand elsewhere."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((ROOT / name).read_bytes())
    functions = {name: row.formula for name, row in METRICS.items()}
    functions |= {name: row.forecast for name, row in BASELINES.items()}
    for name, function in functions.items():
        digest.update(f"{name} {inspect.getsource(function)}".encode())
    return digest.hexdigest()
