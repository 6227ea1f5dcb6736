"""One prepared data set of any soil-moisture product and any predictors.

    python data/join.py --target cci.nc:sm --predictors tp.nc stl1.nc --out mine.nc
    python data/join.py --target 'gldas/*.nc4' --predictors 'gldas/*.nc4' --layer-depth 0.1 --out gldas.nc
    python data/join.py --target site.csv:sm --site 40.7 14.7 --units sm='m3 m-3' --predictors era5.nc --out site.nc

Names are mapped, units converted, days made of hours, and predictors regridded to the cells of the target. The record
is that of the days that all files span. docs/own_data.md has examples.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.join.join import JoinSettings, join

if __name__ == "__main__":
    with one_sentence():
        join(parse(JoinSettings, sys.argv[1:], __doc__))
