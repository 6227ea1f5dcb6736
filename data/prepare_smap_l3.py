"""Prepare daily soil moisture from SMAP L3: SPL3SMP (36 km) or SPL3SMP_E (9 km), with its swath gaps.

    python data/prepare_smap_l3.py --raw data/raw/smap_l3
    python data/prepare_smap_l3.py --raw data/raw/smap_l3 --overpass both --resolution native --south 20 --north 50

The file holds soil moisture alone. data/join.py adds precipitation and soil temperature of another product. How to get
the files: data/README.md. A run that was interrupted continues with the same command.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.smap.prepare_l3 import SMAPL3PrepareSettings, prepare_smap_l3

if __name__ == "__main__":
    with one_sentence():
        prepare_smap_l3(parse(SMAPL3PrepareSettings, sys.argv[1:], __doc__))
