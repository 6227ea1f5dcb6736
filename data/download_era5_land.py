"""Download hourly ERA5-Land (or ERA5) over China from the Climate Data Store: one month a request.

    python data/download_era5_land.py --start 2015-01-01 --end 2020-12-31
    python data/download_era5_land.py --product era5 --start 2015-01-01 --end 2015-12-31

Needs a free account and its key in ~/.cdsapirc (https://cds.climate.copernicus.eu/how-to-api), and the licence of the
data set accepted once on its page. A month of ERA5-Land is about 1.5 GB and waits minutes to hours in the server's
queue; a run that was interrupted continues with the same command, jobs in the queue included.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.era5.download import ERA5DownloadSettings, download_era5

if __name__ == "__main__":
    with one_sentence():
        download_era5(parse(ERA5DownloadSettings, sys.argv[1:], __doc__))
