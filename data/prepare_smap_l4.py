"""Raw SMAP L4 granules in, a prepared data set out: daily precipitation, soil moisture and soil temperature.

    python data/prepare_smap_l4.py --raw data/raw/smap_l4 --out data/smap_l4.nc
    python data/prepare_smap_l4.py --raw 'granules/*.h5' --min-granules 6 --resolution native --out smap_l4.zarr

Whole granules and granules cut by the server are read, in any order; see data/README.md. A run that was interrupted
continues with the same command.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from utils.common.cli import one_sentence, parse
from utils.products.monthly import PrepareSettings
from utils.products.smap.prepare import prepare_smap


@dataclass
class Settings(PrepareSettings):
    """See utils/products/monthly.py for the grid and the workers."""

    out: Path = Path("data/smap_l4.nc")  # .zarr makes a Zarr store, anything else NetCDF-4
    min_granules: int = 8  # a day with fewer of its eight granules is left out; the rest counts in granules_per_day


if __name__ == "__main__":
    with one_sentence():
        prepare_smap(parse(Settings, sys.argv[1:], __doc__))
