"""Control experiments: sources that tell why transfer helps. Each is a data set in the place of the study's source.

The files are labelled as controls in their titles, and the runs in the column `note` of the table.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from utils.common.files import file_hash
from utils.common.periods import Periods, in_spans, spans
from utils.dataset.prepared import THREE, VariableNames, is_synthetic, open_prepared, read_prepared, write_prepared
from utils.products.synthetic.sample import make_source_of_other_weather

SEED = 0  # of the shuffling


class Control(NamedTuple):
    """A kind of control source."""

    name: str  # in figures
    note: str  # of its runs, in the table
    meaning: str  # what its runs tell, in the study's answer


CONTROLS = {  # what a control run adds to its model's name → its source
    "other_world": Control(  # the sample's ERA5-Land under other weather, over the same soils and in the same climate
        name="other weather",
        note="pre-trained on the SYNTHETIC weather of another seed",
        meaning="The sample's two products see one weather. Where transfer from other weather helps as much, soils "
        "and climate are transferred, and not the weather of shared days.",
    ),
    "shuffled_source": Control(  # the study's source, its soil moisture shuffled among the days of each period
        name="shuffled source",
        note="pre-trained on soil moisture that was shuffled in time",
        meaning="A shuffled source keeps the mean and the spread of each cell, and no relation between days. "
        "It should not help; what it helps comes from the map of the means.",
    ),
}


def make_controls(
    source: Path, periods: dict[str, Periods], folder: Path, variables: VariableNames = THREE
) -> dict[str, Path]:
    """The control sources of a study by their names in CONTROLS, made in `folder` where they are missing.

    `periods` are train, val and test of the source. Only the sample has other weather: a source that was observed, or
    made elsewhere, is shuffled alone. `variables` are those of the source that are kept.
    """
    more = {} if variables == THREE else {"variables": variables.all}
    origin = json.dumps({"sha256": file_hash(source), "periods": periods} | more)
    with open_prepared(source) as ds:
        attributes = ds.attrs
        seed = int(attributes["seed"]) if is_synthetic(ds) and "seed" in attributes else None
    paths = {}
    if seed is not None:
        paths["other_world"] = folder / "other_world.nc"
        if not _is_made_from(origin, paths["other_world"]):
            make_source_of_other_weather(source, seed + 1, paths["other_world"], made_from=origin)
    paths["shuffled_source"] = folder / "shuffled_source.nc"
    if not _is_made_from(origin, paths["shuffled_source"]):
        ds = read_prepared(source, variables=variables)
        shuffled = shuffle_soil_moisture(ds, periods, np.random.default_rng(SEED))
        title = f"CONTROL, soil moisture shuffled in time: {attributes.get('title', source.name)}"
        comment = "CONTROL: soil moisture stands on days that are not its own; for reproduce.py --controls alone."
        own = {"title": title, "comment": comment, "label": "shuffled in time", "made_from": origin}
        write_prepared(shuffled.assign_attrs(attributes | own), paths["shuffled_source"])
    return paths


def shuffle_soil_moisture(ds: xr.Dataset, periods: dict[str, Periods], random: np.random.Generator) -> xr.Dataset:
    """The data set with the maps of soil moisture in random order within each period; all else stays.

    So no value of one period gets into another.
    """
    days = ds["time"].values.astype("datetime64[D]")
    order = np.arange(len(days))
    for part, words in periods.items():
        within = np.flatnonzero(in_spans(days, spans(part, words)))
        order[within] = random.permutation(within)
    moisture = ds["soil_moisture"]
    return ds.assign(soil_moisture=moisture.copy(data=moisture.values[order]))


def _is_made_from(origin: str, path: Path) -> bool:
    """Whether the file is there and is the control of this source and these periods."""
    if not path.exists():
        return False
    with xr.open_dataset(path, engine="netcdf4") as ds:
        return ds.attrs.get("made_from") == origin
