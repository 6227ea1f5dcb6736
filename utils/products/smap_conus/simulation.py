"""The source data set: the project's land model, driven by the published weather. No SMAP value touches it.

Its constants come from the literature and were fixed before its soil moisture was compared with SMAP:
    potential evaporation   Priestley and Taylor (1972), α = 1.26, sea-level pressure
    net radiation           albedo 0.2 and emissivity 0.97 (FAO-56 and textbook values for grass)
    soil                    Cosby et al. (1984) from sand and clay (utils/products/land_model.py)
    vegetation              (NDVI − 0.04) / (0.52 − 0.04), Gutman and Ignatov (1998)
"""

import numpy as np
from jaxtyping import Float

from utils.products.land_model import FREEZING, Forcing, Soil, first_state, land_days, run_land_model, soil_of_texture

Days = Float[np.ndarray, "time cell"]

ALBEDO, EMISSIVITY = 0.2, 0.97
STEFAN_BOLTZMANN = 5.670e-8  # W m-2 K-4
PSYCHROMETRIC = 0.066  # kPa K-1, at sea level
LATENT_HEAT = 2.45e6  # J kg-1
DEPTH = 50.0  # mm, the layer that SMAP is said to see
DIFFUSION = 8.0  # mm day-1, conductance between the layers: what Cosby's regressions give for a loam, roughly
SPIN_UP_YEARS = 5  # the first year this often, so that the deep layer forgets its start


def potential_evaporation(air_temperature: Days, shortwave: Days, longwave: Days) -> Days:
    """mm day-1 after Priestley and Taylor (1972), from air temperature (K) and downward radiation (W m-2)."""
    celsius = air_temperature - FREEZING
    slope = 4098 * 0.6108 * np.exp(17.27 * celsius / (celsius + 237.3)) / (celsius + 237.3) ** 2  # kPa K-1, FAO-56
    net = (1 - ALBEDO) * shortwave + EMISSIVITY * (longwave - STEFAN_BOLTZMANN * air_temperature**4)
    return 1.26 * slope / (slope + PSYCHROMETRIC) * np.maximum(net, 0) * 86400 / LATENT_HEAT


def soil_of(sand: np.ndarray, clay: np.ndarray, ndvi: np.ndarray) -> Soil:
    """The soil of each cell from sand and clay (per cent of the mineral soil) and mean NDVI."""
    vegetation = np.clip((ndvi - 0.04) / (0.52 - 0.04), 0, 1)
    return soil_of_texture(sand / 100, clay / 100, vegetation, depth=DEPTH, diffusion=DIFFUSION)


def simulate(forcing: Forcing, soil: Soil) -> tuple[Days, Days]:
    """Daily surface soil moisture (m3 m-3) and soil temperature (K) of a stretch of days without a gap.

    It starts from a column that has been through the stretch's first year SPIN_UP_YEARS times.
    """
    first_year = forcing[slice(0, 365)]
    state = first_state(soil, first_year)
    for _ in range(SPIN_UP_YEARS):
        *_, (state, _, _) = land_days(state, soil, first_year)
    return run_land_model(state, soil, forcing, "land model")
