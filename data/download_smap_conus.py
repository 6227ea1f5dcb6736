"""Download real SMAP L3 and its weather for 412 cells over the United States: 42 public files, 35 MB, no account.

    python data/download_smap_conus.py
    python data/download_smap_conus.py --raw CONUSv4f1      copy and check a folder that is there

They were published with Fang et al. (2017, doi:10.1002/2017GL075619) in github.com/fkwai/geolearn (MIT licence). Every
file is checked by its SHA-256. A run that was interrupted continues with the same command.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.smap_conus.download import CONUSDownloadSettings, download_conus

if __name__ == "__main__":
    with one_sentence():
        download_conus(parse(CONUSDownloadSettings, sys.argv[1:], __doc__))
