"""Raw SMAP L4 files in, a prepared data set out: daily precipitation, soil moisture and soil temperature.

    python data/prepare_smap_l4.py --raw data/raw/smap_l4 --out data/smap_l4.nc
    python data/prepare_smap_l4.py --raw SPL4SMGP.008_9km_aid0001.nc --out data/smap_l4.nc         by AppEEARS
    python data/prepare_smap_l4.py --raw 'earth_engine/*.tif' --resolution native --out smap_l4.zarr

Granules whole, cut or regridded, NetCDF of AppEEARS and GeoTIFF of Earth Engine are read, in any order; see
data/README.md. A run that was interrupted continues with the same command.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.smap.prepare import SMAPPrepareSettings, prepare_smap

if __name__ == "__main__":
    with one_sentence():
        prepare_smap(parse(SMAPPrepareSettings, sys.argv[1:], __doc__))
