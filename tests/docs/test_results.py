"""The committed results are whole: answers quote their own tables, and provenance names no place of its machine."""

import json

from conftest import ROOT
from quoted_numbers import in_table, quoted

RESULTS = ROOT / "docs" / "results"


def test_the_committed_answers_quote_the_committed_table():
    assert not quoted(RESULTS) - in_table(RESULTS)


def test_the_committed_results_say_where_they_come_from():
    provenance = json.loads((RESULTS / "provenance.json").read_text())
    assert provenance["command"] and len(provenance["runs"]) == 54
    assert all(run["synthetic_data"] for run in provenance["runs"])
    assert "/work" not in json.dumps(provenance) and "/tmp" not in json.dumps(provenance)
