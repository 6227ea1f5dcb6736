"""The numbers that a study's answers quote, and those that its tables hold."""

import html
import re

import numpy as np
import pandas as pd

WITHOUT_TABLE = ("When and where are forecasts better", "How do forecasts follow a wetting")  # only the figures have it


def quoted(results):
    """Numbers with a decimal point in the answers of a study, places apart; the page says the same as the text."""
    parts = (results / "answers.md").read_text().split("## ")[1:]
    assert len(parts) > 10
    parts = [part for part in parts if not part.startswith(WITHOUT_TABLE)]
    lines = [line.removeprefix("- ") for part in parts for line in part.splitlines()[1:]]
    said = [line for line in lines if line and not line.startswith("*")]  # answers and their lists, without notes
    if (results / "report.html").exists():
        page = html.unescape(re.sub("</?strong>", "", (results / "report.html").read_text()))
        assert all(line in page for line in said)
    said = re.sub(r"p [=<] [\d.e−-]+\d", "", " ".join(said))  # they are corrected: those of the tables are not
    return set(re.findall(r"\d+\.\d+(?!\d|°)(?: %)?", said))


def in_table(results):
    """Every number that an answer may quote, as it would write it: errors with four digits, R² and slopes with three,
    shares as per cent with one."""
    long, compared = (pd.read_csv(results / name) for name in ("table.csv", "comparisons.csv"))
    columns = {".4f": ["rmse"], ".3f": ["r2", "r2_median_cell", "slope"]}
    columns[".1f"] = ["transfer_rmse_change", "cells_gain", "cells_better", "cells_worse"]
    columns[".1f"] += ["matched_rmse_change", "matched_low", "matched_high"]
    forms = {form: np.abs(long[names].to_numpy(float).ravel()) for form, names in columns.items()}
    forms[".1f"] *= 100
    if (results / "uncertainty.csv").exists():  # a part of the details
        quantiles = pd.read_csv(results / "uncertainty.csv")
        forms[".4f"] = np.append(forms[".4f"], quantiles["crps"])
        forms[".1f"] = np.append(forms[".1f"], quantiles.filter(regex="^coverage(_low|_high)?$"))
    if (results / "record_lengths.csv").exists():  # so is this
        lengths = pd.read_csv(results / "record_lengths.csv")
        forms[".4f"] = np.append(forms[".4f"], lengths.filter(regex="^rmse"))
        forms[".1f"] = np.append(forms[".1f"], np.abs(lengths[["change", "change_low", "change_high"]]))
    forms[".1f"] = np.append(forms[".1f"], np.abs(compared[["rmse_change", "low", "high"]]))
    return {f"{v:{form}}" + " %" * (form == ".1f") for form, values in forms.items() for v in values}
