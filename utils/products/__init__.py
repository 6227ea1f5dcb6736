"""From raw files to prepared data sets, a package for each product; what they share lies beside the packages."""

import numpy as np

HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")
RAIN_NOISE = 0.1  # mm: what packing may take below zero
# Two packings of one field may differ by this much, in the units of a prepared data set: mm, m3 m-3, K.
AGREEMENT = {"precipitation": 0.02, "soil_moisture": 1e-4, "soil_temperature": 2e-2}
