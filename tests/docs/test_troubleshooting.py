"""Every sentence of docs/troubleshooting.md is one that the code can say, and no part of the code goes without."""

import ast
import re

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE))
ROWS = [(name, row) for name, text in SECTIONS.items() for row in re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)]
GROUPS = {  # section: the files whose sentences it is about
    "Command line": "utils/common/cli.py utils/settings.py",
    "Your data set": "utils/dataset/*.py utils/training/setup.py utils/common/files.py",
    "Periods": "utils/common/periods.py utils/settings.py utils/data_processing.py utils/dataset/*.py",
    "Run directories": "utils/training/*.py utils/common/files.py utils/experiment.py utils/evaluation.py",
    "Training and weights": "utils/experiment.py utils/training/*.py utils/models/*.py",
    "Evaluation": "utils/evaluation.py utils/scores/*.py",
    "Transfer": "utils/training/*.py",
    "Weather ahead": "utils/dataset/*.py utils/forecasts/*.py utils/study/questions/*.py data/make_forecasts.py",
    "Forecasts": "forecast.py utils/forecasts/**/*.py",
    "Stations": "validate_stations.py utils/stations/*.py",
    "The study": "reproduce.py utils/study/**/*.py utils/common/parallel.py utils/products/synthetic/*.py"
    " utils/figures/*.py utils/Draw*.py",
    "Downloads and preparing": "utils/products/**/*.py data/*.py",
}
FILES = {name: [file for part in parts.split() for file in ROOT.glob(part)] for name, parts in GROUPS.items()}


def said(node: ast.AST) -> str:
    """A string of the source with … for what it is filled with; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def kinds_of_refusals() -> set[str]:
    """UserError and the classes that are made from it, by name."""
    kinds, code = {"UserError"}, "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("utils/**/*.py"))
    for name, base in re.findall(r"^class (\w+)\((\w+)\):", code, re.MULTILINE):
        if base in kinds:
            kinds.add(name)
    return kinds


REFUSALS = kinds_of_refusals()


def sentences(file) -> list[str]:
    """What stands in strings of a file that raises UserErrors."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    raises = any(isinstance(node, ast.Call) and getattr(node.func, "id", "") in REFUSALS for node in ast.walk(tree))
    return [said(node) for node in ast.walk(tree)] if raises else []


def covers(pattern: str, sentence: str) -> bool:
    """Whether the sentence is the pattern, whose … stand for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), sentence) is not None


@pytest.mark.parametrize(("section", "pattern"), ROWS)
def test_every_sentence_of_the_page_is_in_the_code(section, pattern):
    assert len(re.sub(r"\W", "", pattern)) > 3, "too little to be looked for"
    assert any(covers(pattern, sentence) for file in FILES[section] for sentence in sentences(file))


def test_a_sentence_that_nobody_says_is_found_out():
    assert not any(covers("… is in …, expected Kelvin", s) for file in FILES["Your data set"] for s in sentences(file))


def test_every_file_that_refuses_has_a_section():
    assert SECTIONS.keys() == GROUPS.keys() == {section for section, _ in ROWS}
    known = {file for files in FILES.values() for file in files}
    refusing = {file for part in ("*.py", "utils/**/*.py", "data/*.py") for file in ROOT.glob(part) if sentences(file)}
    assert {file.relative_to(ROOT).as_posix() for file in refusing - known} == set()


def test_the_page_stays_one_that_a_person_reads():
    assert 25 <= len(ROWS) <= 100
