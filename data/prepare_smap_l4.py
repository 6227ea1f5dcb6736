"""Raw SMAP L4 granules in, a prepared data set out: daily precipitation, soil moisture and soil temperature.

    python data/prepare_smap_l4.py --raw data/raw/smap_l4 --out data/smap_l4.nc
    python data/prepare_smap_l4.py --raw 'granules/*.h5' --min-granules 6 --resolution native --out smap_l4.zarr

Whole granules and granules cut by the server are read, in any order; see data/README.md. A run that was interrupted
continues with the same command.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.smap.prepare import SMAPPrepareSettings, prepare_smap

if __name__ == "__main__":
    with one_sentence():
        prepare_smap(parse(SMAPPrepareSettings, sys.argv[1:], __doc__))
