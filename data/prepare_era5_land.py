"""Raw ERA5-Land or ERA5 files in, a prepared data set out: daily precipitation, soil moisture and soil temperature.

    python data/prepare_era5_land.py --raw data/raw/era5_land --out data/era5_land.nc
    python data/prepare_era5_land.py --raw 'era5/*.grib' --product era5 --resolution native --out era5.zarr
    python data/prepare_era5_land.py --raw daily --product daily --rain-stamp same-day
    python data/prepare_era5_land.py --raw 'earth_engine/*.tif' --product earth-engine

Any file shape of the Climate Data Store is read, in any order; see data/README.md. Ten years of hourly 0.1° data over
China take hours and about 1.5 GB of memory a worker; a run that was interrupted continues with the same command.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.era5.prepare import ERA5PrepareSettings, prepare_era5

if __name__ == "__main__":
    with one_sentence():
        prepare_era5(parse(ERA5PrepareSettings, sys.argv[1:], __doc__))
