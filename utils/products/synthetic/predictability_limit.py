"""The best possible forecast of a synthetic sample, where truth is known: means of ensembles that start from the truth.

The mean over all ways in which the weather may go on has the least mean squared error of all forecasts that know the
present and no future. Two kinds of weather ahead are told apart:

soil_moisture       weather sampled given the present weather. The sample's state is a Markov chain, so this is the
                    limit of every forecast: nobody who knows the past can expect a lower error.
without_weather     the weather of the same time of the other years, and no analysis error: what knowing the soil alone
                    is worth. A forecast that reads the present weather may beat it.

data/make_limit.py makes the file, utils.study.questions.predictability holds models against it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import ROOT, file_hash, whole_file
from utils.dataset.prepared import AXES, DAYS_ENCODING, VARIABLES, is_synthetic

Members = Float[np.ndarray, "lead member cell"]
LIMITS = {"soil_moisture": "given the present weather", "without_weather": "under the weather of other years"}
SHIFTS = (-10, -5, 0, 5, 10)  # days, of the start of other years' weather
SAMPLE = ROOT / "data" / "sample"


def other_years(days: np.ndarray, today: int, ahead: int) -> Int[np.ndarray, "lead member"]:
    """The places in `days` (daily, datetime64[D]) of the `ahead` days after this calendar day of each other year.

    And after the days around it, SHIFTS, as a mean over a dozen years alone is still off by a tenth of their variance.
    Years whose days are not all there are left out, and so is the year of `today` itself.
    """
    month, day = days[today].astype("datetime64[M]"), days[today] - days[today].astype("datetime64[M]")
    years = len(days) // 365 + 1
    same = [(month + 12 * k).astype("datetime64[D]") + day for k in range(-years, years + 1) if k]
    starts = np.concatenate([(start - days[0]).astype(int) + np.array(SHIFTS) for start in same])
    starts = starts[(starts >= -1) & (starts + ahead < len(days))]
    return starts + np.arange(1, ahead + 1)[:, None]


def hindcasts(
    targets: Sequence[int], leads: Sequence[int], members: Callable[[int, int], dict[str, Members]]
) -> dict[str, Float[np.ndarray, "lead time cell"]]:
    """Ensemble means by kind of weather, for every lead and target day.

    `members(today, ahead)` are the ensembles that start at the end of day `today`, for the `ahead` days after it.
    """
    place = {target: i for i, target in enumerate(targets)}
    starts = sorted({target - lead for target in targets for lead in leads})
    found: dict[str, np.ndarray] = {}
    for today in tqdm(starts, desc="limit", unit="day", disable=None):
        for kind, ensemble in members(today, max(leads)).items():
            empty = np.full((len(leads), len(targets), ensemble.shape[-1]), np.nan, np.float32)
            maps = found.setdefault(kind, empty)
            for row, lead in enumerate(leads):
                if today + lead in place:
                    maps[row, place[today + lead]] = ensemble[lead - 1].mean(0)
    return found


def write_limit(ds: xr.Dataset, sample: Path, path: Path, attributes: dict[str, Any]) -> None:
    """Write the forecasts (lead_days, time, lat, lon) of the data set `sample`, whole or not at all."""
    ds = ds.copy()
    for name, how in LIMITS.items():
        long_name = f"best possible forecast of soil moisture {how}: mean of an ensemble from the true state"
        ds[name].attrs = {**VARIABLES["soil_moisture"].attributes, "units": "m3 m-3", "long_name": long_name}
    ds["lead_days"].attrs = {"long_name": "days from the last known day to the target day", "units": "days"}
    for name, known in AXES.items():
        ds[name].attrs.update(known)
    ds.attrs = {"Conventions": "CF-1.11", "synthetic": "true", **attributes, "sample_sha256": file_hash(sample)}
    encoding = {name: {"_FillValue": None} for name in ("lat", "lon", "lead_days")} | {"time": DAYS_ENCODING}
    encoding |= {name: {"zlib": True, "complevel": 1, "shuffle": True} for name in LIMITS}
    with whole_file(path) as partial:
        ds.to_netcdf(partial, engine="netcdf4", encoding=encoding)


def limit_of(sha256: str, folder: Path = SAMPLE) -> xr.Dataset | None:
    """The limit of the data set with this hash, in memory; None where there is none.

    A limit of another data set, of another seed, say, or of a sample made by another version, is never taken for it.
    """
    for path in sorted(folder.glob("limit_*.nc")):
        try:
            with xr.open_dataset(path, engine="netcdf4") as ds:
                if ds.attrs.get("sample_sha256") == sha256 and is_synthetic(ds):
                    return ds.load()
        except Exception as error:  # every layer below raises its own kinds
            raise UserError(
                f"{path} cannot be read, it may be damaged; make it again: python data/make_limit.py"
            ) from error
    return None
