"""Gaps as a satellite leaves them, for pre-training on a gap-free product."""

import numpy as np
from jaxtyping import Bool, Float

ORBITS = 117 / 8  # SMAP's in a day: its ground track repeats after 117 orbits in eight days


def orbit_gaps(
    days: np.ndarray, lon: Float[np.ndarray, "lon"], share: float, seed: int
) -> Bool[np.ndarray, "time lon"]:
    """Where the satellite saw nothing: on each day the strips between its swaths, `share` of each orbit's width.

    Where a day's strips lie is drawn from the seed. Real strips move on by a fixed step; drawn ones differ more in how
    long a cell remains unseen, as real gaps do, which frozen ground and interference make longer.
    """
    shift = np.random.default_rng(seed).random(len(days))
    return (lon * ORBITS / 360 + shift[:, None]) % 1 < share
