"""Hold forecasts, or a data set, against stations of the International Soil Moisture Network (ISMN).

    python validate_stations.py forecast.nc --ismn FOLDER_OR_ZIP --data data.nc     hindcasts of forecast.py
    python validate_stations.py RUN_DIR/predictions.nc --ismn FOLDER_OR_ZIP         a run's forecasts of its test period
    python validate_stations.py data.nc --ismn FOLDER_OR_ZIP --third other.nc       a data set, and triple collocation

Tables of stations and of networks, and a map, are written beside the file. docs/stations.md says how to get the archive
and how to read the numbers.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tyro.conf import Positional

from utils.common.cli import UserError, one_sentence, parse
from utils.common.files import whole_file
from utils.common.text import format_days, format_number, format_unit
from utils.dataset.prepared import grid_of, in_brackets
from utils.stations.archive import Archive, describe_places, read_archive
from utils.stations.figures import draw_stations
from utils.stations.gridded import FORECAST, find_label, open_maps, read_data_set, read_tables, valid_period
from utils.stations.scores import FEWEST_DAYS, FEWEST_FOR_TRIPLES, METRICS
from utils.stations.validation import CLIMATE, STATION, make_sites, score_sites, tabulate_groups, tabulate_sites


@dataclass
class Settings:
    maps: Positional[Path]  # a file of forecast.py, predictions.nc of a run, or a data set
    ismn: Path  # ISMN's download: its folder, or the ZIP archive itself
    data: Path | None = None  # the data set that a forecast started from: adds it and persistence to the comparison
    third: Path | None = None  # a data set with errors of its own, for triple collocation
    out: Path | None = None  # table of the stations, .csv; None: beside the file


def main(settings: Settings) -> None:
    out = settings.out or settings.maps.with_suffix(".stations.csv")
    if out.suffix != ".csv":
        raise UserError(f"--out is {out}, expected the name of a table, ending in .csv.")
    label = find_label(path for path in (settings.maps, settings.data, settings.third) if path)
    with open_maps(settings.maps) as ds:
        grid, period = grid_of(ds), valid_period(ds)
        archive = read_archive(settings.ismn, grid, period)
        refuse_empty(archive, settings.maps, f"{grid}", period)
        places = [(station.lat, station.lon) for station in archive.stations]
        tables = read_tables(ds, settings.maps, places, settings.data)
    third = read_data_set(settings.third, places) if settings.third else None
    scored = score_sites(make_sites(archive.stations), tables, third)
    if not scored:
        raise UserError(
            f"{settings.maps} has fewer than {FEWEST_DAYS} days in common with each of the {len(places)} stations in "
            "its area; hindcasts of a longer period have more (forecast.py --init START END)."
        )
    if third is not None and not any(one.triples for one in scored):
        raise UserError(
            f"{settings.third} gives no triple collocation: at no station has it {FEWEST_FOR_TRIPLES} days in common "
            "with the others and a signal that the three share."
        )
    sites, groups = (table.assign(label=label) for table in (tabulate_sites(scored, grid), tabulate_groups(scored)))
    first = scored[0].series
    shown = sites[(sites["level"] == STATION) & (sites["series"] == first)]
    report(groups, archive, scored=len(shown.drop_duplicates(["network", "station"])), label=label)
    write_table(sites, out)
    write_table(groups, out.with_suffix(".groups.csv"))
    title = f"{settings.maps.name}: {first} against stations of ISMN{in_brackets(label)}"
    if len(shown):  # a cell may have the days that each of its stations lacks
        draw_stations(shown, title, out.with_suffix(".png"))
        print(out.with_suffix(".png"))


def refuse_empty(archive: Archive, maps: Path, cells: str, period: tuple) -> None:
    """A UserError where no station can be compared with the maps."""
    if archive.stations:
        return
    if archive.no_values:
        raise UserError(
            f"{archive.path} has {archive.no_values} stations in the area of {maps}, but no good value from "
            f"{period[0]} to {period[1]}; download these days."
        )
    if archive.outside:
        raise UserError(
            f"{archive.path} has no station in a cell of {maps} ({cells}); its {len(archive.outside)} stations lie at "
            f"{describe_places(archive.outside)}."
        )
    raise UserError(f"{archive.path}: none of its stations can be read, such as {archive.unreadable[0]}.")


def write_table(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as partial:
        table.to_csv(partial, index=False, float_format="%.6g")
    print(path)


def report(groups: pd.DataFrame, archive: Archive, scored: int, label: str) -> None:
    """Print which stations were scored, and the scores of each group."""
    print(
        f"{archive.path}: {scored} stations scored{in_brackets(label)}; {len(archive.outside)} lie outside the maps, "
        f"{archive.no_values + len(archive.stations) - scored} have too few days in common with them"
    )
    if archive.unreadable:
        print(f"note: {len(archive.unreadable)} files cannot be read, such as {archive.unreadable[0]}")
    print(f"means over stations with 95 % intervals; ubRMSD and bias in {format_unit('m3 m-3')}, bias: maps − stations")
    for (kind, name, lead), rows in groups[groups["group"] != CLIMATE].groupby(
        ["group", "name", "lead_days"], sort=False
    ):
        ahead = f", {format_days(int(lead))} ahead" if lead else ""
        print(f"{name or kind}{ahead}: {rows['sites'].iloc[0]} sites, {rows['station_days'].iloc[0]} days of them")
        for row in rows.to_dict("records"):
            print(f"    {row['series']}: {describe_scores(row)}")


def describe_scores(row: dict) -> str:
    """The scores of a group in words, and whether its ubRMSD differs from that of persistence."""
    parts = []
    for name, metric in METRICS.items():
        if name in row and pd.notna(row[name]):
            digits = 4 if metric.unit == "m3 m-3" else 2
            value, low, high = (format_number(row[key], digits) for key in (name, f"{name}_low", f"{name}_high"))
            unit = " dB" if metric.unit == "dB" else ""
            parts.append(f"{metric.label} {value}{unit} ({low} to {high})")
    if row["series"] == FORECAST and pd.notna(row.get("ubrmsd_change")):
        change, low, high = (format_number(row[f"ubrmsd_change{end}"], 4) for end in ("", "_low", "_high"))
        parts.append(f"ubRMSD less that of persistence {change} ({low} to {high})")
    return ", ".join(parts)


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
