"""Download weather forecasts of ECMWF's open data: rain of the days ahead and the model's own soil moisture.

    python data/download_weather_forecast.py                                     the newest run of 00 UTC
    python data/download_weather_forecast.py --model aifs-single --lead-days 10
    python data/download_weather_forecast.py --date 2026-11-01 2026-11-25 --source aws

Free and without an account (CC BY 4.0: name ECMWF). Fields are global at 0.25°, about 9 MB a run of seven days. ECMWF's
server keeps the last days alone. A run that was interrupted continues with the same command.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.weather.download import WeatherDownloadSettings, download_weather_forecast

if __name__ == "__main__":
    with one_sentence():
        download_weather_forecast(parse(WeatherDownloadSettings, sys.argv[1:], __doc__))
