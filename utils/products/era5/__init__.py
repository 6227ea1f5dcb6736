"""ERA5-Land and ERA5: from the Climate Data Store's or Earth Engine's files to a prepared data set."""

from typing import Literal

Product = Literal["era5-land", "era5", "daily", "earth-engine"]
RainStamp = Literal["same-day", "next-day"]
