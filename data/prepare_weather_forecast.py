"""Prepare weather forecasts for --future-from: GRIB or NetCDF of ECMWF, GFS or GEFS on the cells of a data set.

    python data/prepare_weather_forecast.py --raw data/raw/weather_ifs --like data/smap_l4.nc --out data/forecasts.nc
    python data/prepare_weather_forecast.py --raw 'gfs/*.grib2' --like data/smap_l4.nc --out data/gfs.nc --lag 3

Runs of 00 UTC become daily totals of rain by the day of UTC, and daily means of the model's own soil moisture where the
files have it. The same command adds newer runs to the file. docs/weather_forecasts.md describes it.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.weather.prepare import WeatherPrepareSettings, prepare_weather_forecast

if __name__ == "__main__":
    with one_sentence():
        prepare_weather_forecast(parse(WeatherPrepareSettings, sys.argv[1:], __doc__))
