"""A small land-surface model, vectorised over cells: two soil layers, snow, frozen ground, soil temperature.

Evaporation is limited by water and by energy, drainage follows the soil's conductivity, saturated and frozen ground
sheds water. Every step closes the water balance to round-off. It makes the synthetic sample (data/make_sample.py), and
the simulated source over the United States (data/prepare_smap_conus.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

Cells = Float[np.ndarray, "... cell"]  # of one column each, or of each member of an ensemble
Days = Float[np.ndarray, "time ... cell"]

FREEZING = 273.15  # K
ROOT_DEPTH = 1000  # mm, the lower edge of the second layer


@dataclass(frozen=True)
class Forcing:
    """The weather over land, [time, (member,) cell] or that of one day, [(member,) cell]."""

    precipitation: np.ndarray  # mm day-1
    air_temperature: np.ndarray  # K
    potential_evaporation: np.ndarray  # mm day-1

    def __getitem__(self, day) -> "Forcing":
        return Forcing(self.precipitation[day], self.air_temperature[day], self.potential_evaporation[day])


@dataclass(frozen=True)
class Soil:
    """Parameters of the land model: a surface layer of `depth` mm over one that reaches down to ROOT_DEPTH."""

    depth: float
    diffusion: float  # conductance between the saturated layers, mm day-1
    porosity: Cells
    field_capacity: Cells  # m3 m-3, where gravity drains 0.1 mm day-1
    wilting_point: Cells  # m3 m-3, at −150 m
    conductivity: Cells  # at saturation, mm day-1
    exponent: Cells  # of conductivity in saturation
    vegetation: Cells  # share of the ground


@dataclass(frozen=True)
class State:
    """The column at midnight."""

    surface: Cells  # water and ice of the surface layer, mm
    root: Cells  # the same of the layer below, mm
    snow: Cells  # water equivalent, mm
    temperature: Cells  # of the surface layer, K
    deep_temperature: Cells  # K


@dataclass(frozen=True)
class Fluxes:
    """What left the column in a day, mm."""

    evaporation: Cells
    runoff: Cells
    drainage: Cells


def soil_of_texture(sand: Cells, clay: Cells, vegetation: Cells, depth: float, diffusion: float) -> Soil:
    """Soil hydraulics from the fractions of sand and clay: the regressions of Cosby et al. (1984)."""
    b = 2.91 + 15.9 * clay
    porosity = 0.489 - 0.126 * sand
    conductivity = 86400 * 0.0070556 * 10 ** (-0.884 + 1.53 * sand)
    suction = 10 * 10 ** (1.88 - 1.31 * sand)  # at saturation, mm
    field_capacity = porosity * (0.1 / conductivity) ** (1 / (2 * b + 3))
    wilting_point = porosity * (150_000 / suction) ** (-1 / b)
    return Soil(depth, diffusion, porosity, field_capacity, wilting_point, conductivity, 2 * b + 3, vegetation)


def drain(water: Cells, pores: Cells, conductivity: Cells, exponent: Cells) -> Cells:
    """mm that gravity takes from a layer in a day: the exact solution of dw/dt = −K (w/pores)^c, stable for any K."""
    saturation = np.maximum(water / pores, 1e-3)
    left = (saturation ** (1 - exponent) + (exponent - 1) * conductivity / pores) ** (1 / (1 - exponent))
    return water * (1 - left / saturation)


def evaporate(demand: Cells, available: Cells) -> Cells:
    """mm: near `demand` where water abounds, near `available` where energy does, above neither."""
    available = np.maximum(available, 1e-9)
    return available * -np.expm1(-demand / available)


def supply(wetness: Cells, driest: Cells, unstressed: Cells) -> Cells:
    """The share of the demand that soil of this wetness can meet: none at `driest`, all of it where `unstressed`."""
    return np.clip((wetness - driest) / (unstressed - driest), 0, 1)


def land_step(state: State, soil: Soil, day: Forcing) -> tuple[State, Fluxes]:
    """One day: precipitation = evaporation + runoff + drainage + change of surface, root and snow, to round-off."""
    pores, root_pores = soil.porosity * soil.depth, soil.porosity * (ROOT_DEPTH - soil.depth)
    frozen = np.clip((FREEZING + 1 - state.temperature) / 4, 0, 1)  # between +1 and −3 °C, as in HTESSEL

    snowfall = day.precipitation * np.clip((FREEZING + 2 - day.air_temperature) / 2, 0, 1)
    snow = state.snow + snowfall
    melt = np.minimum(snow, 3 * np.maximum(day.air_temperature - FREEZING, 0))  # 3 mm per degree and day
    snow = snow - melt
    water = day.precipitation - snowfall + melt

    # Saturated and frozen ground sheds water; what the surface cannot hold sinks, what the roots cannot hold runs off.
    saturated_area = ((state.surface + state.root) / (pores + root_pores)) ** 4
    runoff = water * (1 - (1 - saturated_area) * (1 - 0.95 * frozen))
    surface = state.surface + water - runoff
    excess = np.maximum(surface - pores, 0)
    sinking = excess + drain(surface - excess, pores, soil.conductivity * (1 - frozen), soil.exponent)
    surface, root = surface - sinking, state.root + sinking
    overflow = np.maximum(root - root_pores, 0)
    root = root - overflow
    drainage = drain(root, root_pores, soil.conductivity, soil.exponent)
    root = root - drainage

    # Capillarity evens out the layers' saturation, faster in wet soil; an exact relaxation, so it cannot overshoot.
    even = (surface + root) / (pores + root_pores)
    conductance = soil.diffusion * (1 - frozen) * even**2
    rise = (even * pores - surface) * -np.expm1(-conductance * (1 / pores + 1 / root_pores))
    surface, root = surface + rise, root - rise

    # Bare soil dries the surface to a quarter of the wilting point, roots dry both layers to the wilting point.
    wetness, root_wetness = surface / soil.depth, root / (ROOT_DEPTH - soil.depth)
    unstressed = 0.3 * soil.wilting_point + 0.7 * soil.field_capacity
    energy = day.potential_evaporation * (1 - 0.8 * frozen)
    bare = (1 - soil.vegetation) * supply(wetness, soil.wilting_point / 4, soil.field_capacity)
    shallow_roots = 0.15 * soil.vegetation * supply(wetness, soil.wilting_point, unstressed)
    deep_roots = 0.85 * soil.vegetation * supply(root_wetness, soil.wilting_point, unstressed)
    from_surface = evaporate(energy * (bare + shallow_roots), surface - soil.wilting_point / 4 * soil.depth)
    from_root = evaporate(energy * deep_roots, root - soil.wilting_point * (ROOT_DEPTH - soil.depth))
    surface, root, evaporation = surface - from_surface, root - from_root, from_surface + from_root

    # Energy not spent on evaporation warms the ground, snow insulates it, the deep soil holds it back.
    heating = day.air_temperature + 0.5 * (day.potential_evaporation - evaporation)
    to_air, to_deep = 40 / soil.depth * np.exp(-snow / 20), 0.1  # day-1
    target = (to_air * heating + to_deep * state.deep_temperature) / (to_air + to_deep)
    temperature = target + (state.temperature - target) * np.exp(-to_air - to_deep)
    deep_temperature = state.deep_temperature + (temperature - state.deep_temperature) / 60
    return State(surface, root, snow, temperature, deep_temperature), Fluxes(evaporation, runoff + overflow, drainage)


def first_state(soil: Soil, forcing: Forcing) -> State:
    """Half-way between the wilting point and field capacity and as warm as the mean year; the spin-up forgets it."""
    wetness, warmth = (soil.wilting_point + soil.field_capacity) / 2, forcing.air_temperature.mean(0)
    return State(wetness * soil.depth, wetness * (ROOT_DEPTH - soil.depth), np.zeros_like(warmth), warmth, warmth)


def land_days(state: State, soil: Soil, forcing: Forcing) -> Iterator[tuple[State, Cells, Cells]]:
    """Day by day: the state at its end, and the daily means of surface soil moisture (m3 m-3) and temperature (K).

    Daily means are the mean of the two midnights.
    """
    for day in range(len(forcing.precipitation)):
        after, _ = land_step(state, soil, forcing[day])
        yield after, (state.surface + after.surface) / (2 * soil.depth), (state.temperature + after.temperature) / 2
        state = after


def run_land_model(state: State, soil: Soil, forcing: Forcing, label: str = "") -> tuple[Days, Days]:
    """Daily means of surface soil moisture (m3 m-3) and temperature (K); with a `label`, a progress bar."""
    moisture, temperature = np.empty_like(forcing.precipitation), np.empty_like(forcing.precipitation)
    run = land_days(state, soil, forcing)
    run = tqdm(run, desc=label, total=len(moisture), unit="day", disable=None if label else True)
    for day, (_, *means) in enumerate(run):
        moisture[day], temperature[day] = means
    return moisture, temperature
