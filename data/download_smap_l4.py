"""Download SMAP L4 (SPL4SMGP, three-hourly) over China from NASA: variables and box cut on the server.

    python data/download_smap_l4.py --start 2015-03-31 --end 2020-12-31
    python data/download_smap_l4.py --start 2015-03-31 --end 2015-04-30 --whole-granules

Needs a free Earthdata account in ~/.netrc (https://urs.earthdata.nasa.gov). Cut granules come to about 13 GB a year;
whole ones to several hundred, so they are the fallback. A run that was interrupted continues with the same command.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.smap.download import SMAPDownloadSettings, download_smap

if __name__ == "__main__":
    with one_sentence():
        download_smap(parse(SMAPDownloadSettings, sys.argv[1:], __doc__))
