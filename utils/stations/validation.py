"""Maps against stations: which days are compared, a table of stations and of cells, and one of groups of them.

All series of a station and a lead time are scored on the same days, so that a forecast and persistence can be compared.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from utils.common.grid import Grid
from utils.stations.archive import UNKNOWN, Station, combine
from utils.stations.gridded import FORECAST, PERSISTENCE, Tables
from utils.stations.scores import FEWEST_DAYS, METRICS, Score, Triple, collocate, estimate_mean, score_pair

STATION, CELL = "station", "cell"  # levels of the table
NETWORK, CLIMATE, ALL_STATIONS, ALL_CELLS = "network", "climate", "all stations", "all cells"  # kinds of groups
THIRD = "third"
CLIMATES = {"A": "tropical", "B": "arid", "C": "temperate", "D": "cold", "E": "polar"}  # Köppen–Geiger


@dataclass(frozen=True, eq=False)
class Site:
    """A station, or a cell with the mean of its stations."""

    level: str
    stations: tuple[Station, ...]
    moisture: pd.Series  # by day, m3 m-3
    place: int  # column of the tables of maps


@dataclass(frozen=True, eq=False)
class SiteScores:
    """How one series agrees with a site at one lead time."""

    site: Site
    lead_days: int
    series: str
    days: pd.DatetimeIndex
    scores: dict[str, Score]  # by METRICS
    triples: dict[str, Triple] = field(default_factory=dict)  # STATION, the series and THIRD


def make_sites(stations: Sequence[Station]) -> list[Site]:
    """Each station, and each cell that has one; the place of a cell is that of its first station."""
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, station in enumerate(stations):
        cells[station.cell].append(number)
    sites = [Site(STATION, (s,), moisture=s.moisture, place=number) for number, s in enumerate(stations)]
    for numbers in cells.values():
        inside = tuple(stations[number] for number in numbers)
        moisture = combine([station.moisture for station in inside])
        sites.append(Site(CELL, inside, moisture=moisture, place=numbers[0]))
    return sites


def score_sites(
    sites: Sequence[Site], tables: Mapping[int, Tables], third: pd.DataFrame | None = None
) -> list[SiteScores]:
    """Scores of every series at every lead time and site with FEWEST_DAYS days; `third` adds triple collocation."""
    found = []
    for lead_days, series in tables.items():
        for site in sites:
            columns = {name: table.iloc[:, site.place] for name, table in series.items()}
            common = pd.DataFrame({STATION: site.moisture, **columns}).dropna().sort_index()
            if len(common) < FEWEST_DAYS:
                continue
            for name in series:
                scores, triples = score_pair(common[name], common[STATION]), {}
                if third is not None:
                    triple = collocate(common[[STATION, name]].assign(**{THIRD: third.iloc[:, site.place]}).dropna())
                    triples, scores["snr"] = triple or ({}, Score(np.nan, common[name] * np.nan))
                found.append(SiteScores(site, lead_days, name, common.index, scores, triples))
    return found


def tabulate_sites(scored: Sequence[SiteScores], grid: Grid) -> pd.DataFrame:
    """A row for each site, lead time and series; docs/stations.md says what the columns are."""
    return pd.DataFrame([_describe_site(one.site, grid) | _site_row(one) for one in scored])


def _describe_site(site: Site, grid: Grid) -> dict[str, str | float | int]:
    row, column = site.stations[0].cell
    cell = {"lat": float(grid.lat[row]), "lon": float(grid.lon[column])}
    whole, first = site.level == CELL, site.stations[0]
    return {
        "level": site.level,
        "network": _join(station.network for station in site.stations),
        "station": "" if whole else first.name,
        "stations": len(site.stations),
        "sensors": sum(station.sensors for station in site.stations),
        "climate": _join(station.climate for station in site.stations),
        "lat": cell["lat"] if whole else first.lat,
        "lon": cell["lon"] if whole else first.lon,
        "elevation_m": float(np.mean([station.elevation for station in site.stations])),
        "depth_from_m": min(station.depth[0] for station in site.stations),
        "depth_to_m": max(station.depth[1] for station in site.stations),
        "cell_lat": cell["lat"],
        "cell_lon": cell["lon"],
    }


def _join(names) -> str:
    return "; ".join(sorted(set(names)))


def _site_row(one: SiteScores) -> dict[str, str | float | int]:
    first, last = (str(day.date()) for day in (one.days[0], one.days[-1]))
    row = {"lead_days": one.lead_days, "series": one.series, "days": len(one.days), "first": first, "last": last}
    row |= _columns({name: [score] for name, score in one.scores.items()})
    named = {name if name in (STATION, THIRD) else "series": triple for name, triple in one.triples.items()}
    for name, triple in named.items():
        row |= {f"error_{name}": triple.error}
        if name != "series":
            row |= {f"snr_{name}": triple.snr}
    return row


def tabulate_groups(scored: Sequence[SiteScores]) -> pd.DataFrame:
    """A row for each network, climate, and all together, by lead time and series: means over their stations.

    `ubrmsd_change` is the forecast's ubRMSD less that of persistence, with its interval.
    """
    groups: dict[tuple, list[SiteScores]] = defaultdict(list)
    for one in scored:
        for kind, name in _groups_of(one.site):
            groups[kind, name, one.lead_days, one.series].append(one)
    rows = []
    for (kind, name, lead_days, series), members in groups.items():
        row = {"group": kind, "name": name, "lead_days": lead_days, "series": series, "sites": len(members)}
        row |= {"station_days": sum(len(one.days) for one in members)}
        row |= _columns({metric: [one.scores[metric] for one in members] for metric in members[0].scores})
        if series == FORECAST and (rivals := groups.get((kind, name, lead_days, PERSISTENCE))):
            pairs = zip(members, rivals, strict=True)
            change = [own.scores["ubrmsd"] - rival.scores["ubrmsd"] for own, rival in pairs]
            row |= _columns({"ubrmsd_change": change})
        rows.append(row)
    order = [NETWORK, CLIMATE, ALL_STATIONS, ALL_CELLS]
    table = pd.DataFrame(rows)
    return table.sort_values("group", key=lambda kinds: kinds.map(order.index), kind="stable", ignore_index=True)


def _groups_of(site: Site) -> list[tuple[str, str]]:
    if site.level == CELL:
        return [(ALL_CELLS, "")]
    (station,) = site.stations
    return [
        (NETWORK, station.network),
        (CLIMATE, CLIMATES.get(station.climate[0], UNKNOWN)),
        (ALL_STATIONS, ""),
    ]


def _columns(scores: Mapping[str, Sequence[Score]]) -> dict[str, float]:
    """Value and interval of the mean of each score over sites."""
    columns = {}
    for name, of_sites in scores.items():
        interval = estimate_mean(of_sites, METRICS[name.removesuffix("_change")])
        columns |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return columns
