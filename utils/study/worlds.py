"""Many worlds: the cheap part of the study again in other SYNTHETIC worlds, and how far they differ.

The interval of a score says how much the score could differ on other test days of one world. Other weather over other
soils may differ more: only other worlds tell. Each world is a sample of its own seed and a small study of its own, in
worlds/seed<N>/ below the study. Here these studies are compared.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t

from utils.products.synthetic.sample import SampleSettings, make_sample
from utils.products.synthetic.world import PRODUCTS
from utils.scores import significance
from utils.scores.significance import LEVEL, Estimate
from utils.study.plan import MATCHED, OURS, SCRATCH, TRANSFERRED
from utils.study.results import RIVALS, Comparison, Results

WAYS = (SCRATCH, TRANSFERRED)
STRONGEST = "boosting"  # of the baselines on the sample
FIRST_SEED = 2  # of the first world; the study's own sample has 1
NO_TRANSFER = "no transfer"  # the other comparison: with the same model from scratch
EQUAL_STEPS = "no transfer, equal steps"  # and with it after as many steps, where the study has such runs
MEAN, THIS = "mean", "this study"  # in the column `world`: the row over all worlds, and the study's own world


def world_seeds(count: int) -> list[int]:
    """The generator's seeds of so many worlds."""
    return list(range(FIRST_SEED, FIRST_SEED + count))


def world_folder(out: Path, seed: int) -> Path:
    """The folder of a world's sample and study, below the study `out`."""
    return out / "worlds" / f"seed{seed}"


def make_world(out: Path, seed: int, resolution: float = 2.0) -> tuple[Path, Path]:
    """Source and target of a world, made where they are missing; cells of `resolution` degrees."""
    folder = world_folder(out, seed)
    source, target = (folder / product.file(resolution) for product in PRODUCTS)
    if not (source.exists() and target.exists()):
        make_sample(SampleSettings(resolution=resolution, seed=seed, out=folder))
    return source, target


@lru_cache(maxsize=1)
def compare_worlds(results: Results) -> pd.DataFrame | None:
    """Changes of RMSE in each world of a study, and over all of them; None where the study has none.

    Columns: world (the seed, MEAN or THIS), experiment, model, against, lead_days; rmse_change with low and high, per
    cent; p; verdict. Rows of the mean also have worlds (how many), better (in how many the model is significantly
    better), between (the standard deviation between worlds, per cent) and within (that of one world's own interval).
    The interval of the mean is Student's over the worlds. The study's own world does not count in it.
    """
    worlds = {str(seed): Results(world_folder(results.out, seed)) for seed in results.study.get("worlds", [])}
    if not worlds:
        return None
    single = pd.DataFrame([row for name, world in worlds.items() for row in _compare_in_world(name, world)])
    groups = single.groupby(["experiment", "model", "against", "lead_days"], sort=False)
    means = [dict(zip(groups.keys, names, strict=True)) | average_worlds(world) for names, world in groups]
    asked = next(iter(worlds.values()))
    here = _compare_in_world(THIS, results, models=asked.models, leads=asked.leads)
    return pd.concat([single, pd.DataFrame(means), pd.DataFrame(here)], ignore_index=True)


def _compare_in_world(
    name: str, results: Results, models: Sequence[str] | None = None, leads: Sequence[int] | None = None
) -> list[dict[str, object]]:
    """A row for each comparison in one world, of all its models and leads or of these."""
    models = models or results.models
    cases = [(SCRATCH, "ridge_memory", (SCRATCH, "persistence"), "persistence")]  # experiment, model, rival, its name
    for model in models:
        for place, rival in product(WAYS, (*RIVALS, STRONGEST)):
            cases.append((place, model, (SCRATCH, rival), rival))
        if model == OURS[-1]:
            cases += [(place, model, (place, other), other) for place in WAYS for other in OURS[:-1] if other in models]
        cases += [
            (TRANSFERRED, model, (SCRATCH, model), NO_TRANSFER),
            (TRANSFERRED, model, (SCRATCH, model + MATCHED), EQUAL_STEPS),
        ]
    rows = []
    for lead, (experiment, model, rival, against) in product(leads or results.leads, cases):
        if against == EQUAL_STEPS and not results.has(*rival, lead):
            continue
        change = results.rmse_change(Comparison(experiment, model, lead, rival))
        rows.append(
            {
                "world": name,
                "experiment": experiment,
                "model": model,
                "against": against,
                "lead_days": lead,
                **change.to_per_cent("rmse_change"),
                "p": change.p,
                "verdict": significance.verdict(change),
            }
        )
    return rows


def average_worlds(rows: pd.DataFrame) -> dict[str, object]:
    """The row of the mean over worlds, of one comparison; see compare_worlds.

    Averages are of the logarithm of the ratio of RMSE, of which the intervals within a world are symmetric too.
    """
    ratios = np.log1p(rows["rmse_change"].to_numpy() / 100)
    mean = estimate_mean(ratios).transform(lambda ratio: 100 * float(np.expm1(ratio)))
    half = (np.log1p(rows["high"] / 100) - np.log1p(rows["low"] / 100)) / 2
    return {
        "world": MEAN,
        "rmse_change": mean.value,
        "low": mean.low,
        "high": mean.high,
        "p": mean.p,
        "verdict": significance.verdict(mean),
        "worlds": len(rows),
        "better": int((rows["verdict"] == "better").sum()),
        "between": 100 * float(np.std(ratios, ddof=1)) if len(rows) > 1 else np.nan,
        "within": 100 * float(np.sqrt(np.mean(half**2))) / t.ppf(1 - LEVEL / 2, np.inf),
    }


def estimate_mean(values: Sequence[float] | Float[np.ndarray, "world"]) -> Estimate:
    """The mean of independent values with Student's interval and the p value of "it is zero"; NaN with one value."""
    values = np.asarray(values, float)
    mean, freedom = float(values.mean()), len(values) - 1
    if not freedom:
        return Estimate(mean, low=np.nan, high=np.nan, p=np.nan)
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    half = float(t.ppf(1 - LEVEL / 2, freedom)) * error
    p = 2 * float(t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Estimate(mean, low=mean - half, high=mean + half, p=p)
