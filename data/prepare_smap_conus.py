"""Two prepared data sets over the United States: real SMAP L3, and a land model's simulation to pre-train on.

    python data/prepare_smap_conus.py
    python data/prepare_smap_conus.py --raw CONUSv4f1 --out smap_l3_conus.nc --source-out land_model_conus.nc

The folder is that of data/download_smap_conus.py. Years that it lacks are gaps in time. Soil temperature is an estimate
of the land model in both files; its soil moisture is the source, and no SMAP value touches it.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.smap_conus.prepare import CONUSPrepareSettings, prepare_conus

if __name__ == "__main__":
    with one_sentence():
        prepare_conus(parse(CONUSPrepareSettings, sys.argv[1:], __doc__))
