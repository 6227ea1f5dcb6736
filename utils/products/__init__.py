"""From raw files to prepared data sets: a package for each product, and beside the packages what they share.

A product supplies:
    download.py    requests to its server, with the retries and messages of products/download.py; optional
    a reader       `scan` of a raw file: what the file holds, its grid and its times. Damaged files and other units are
                   refused with one sentence (smap/files.py, era5/files.py)
    daily.py       one month as daily maps of all VARIABLES (dataset/prepared.py), in their units, on the target grid
    prepare.py     its settings, which extend `PrepareSettings`, and the steps: find and scan the files, choose the
                   complete days, list the months. `prepare_months` (monthly.py) makes and joins them, `report`
                   (report.py) says what was made
A thin script in data/ parses the settings and calls prepare.py.
"""

import numpy as np
import pyproj  # noqa: F401 (ecCodes brings a PROJ of its own: a process that loads it before this one crashes as it ends)

from utils.common.cli import UserError

HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")
RAIN_NOISE = 0.1  # mm: what packing may take below zero
# Two packings of one field may differ by this much, in the units of a prepared data set: mm, m3 m-3, K.
AGREEMENT = {"precipitation": 0.02, "soil_moisture": 1e-4, "soil_temperature": 2e-2}


class SameInEveryMonth(UserError):
    """A refusal that holds for a whole record, whichever month meets it: it is said once, with the number of months."""
