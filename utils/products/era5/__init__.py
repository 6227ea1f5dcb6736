"""ERA5-Land and ERA5: from the Climate Data Store's files to a prepared data set."""

from typing import Literal

Product = Literal["era5-land", "era5", "daily"]
