"""Make a file of weather forecasts for --future-from, from the days that a prepared data set has.

    python data/make_forecasts.py --data data/smap_l4.nc --error degraded
    python data/make_forecasts.py --data data/smap_l4.nc --error perfect --out perfect.nc

Degraded forecasts have SYNTHETIC errors that grow with lead: utils/products/synthetic/forecast_errors.py. How well they
correlate with the truth is printed and kept in the file. Perfect ones are the truth, an upper bound. Values that the
data set misses become the cell's mean. docs/weather_forecasts.md describes the format.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.synthetic.forecast_file import ForecastSettings, make_forecasts

if __name__ == "__main__":
    with one_sentence():
        make_forecasts(parse(ForecastSettings, sys.argv[1:], __doc__))
