"""The pages are plain: short sentences, a title on each, links that lead somewhere, a short glossary."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")] + sorted(ROOT.glob("docs/*.md"))
LONGEST = 30  # words of a sentence
MOST_TERMS = 25
README_WORDS = 1100
OTHER_PROGRAMS = ("help", "nproc-per-node", "wait")  # tyro's, torchrun's, sbatch's
SCRIPTS = [
    file for part in ("*.py", "utils/**/*.py", "data/*.py", "benchmarks/*.py", "*test/*.py") for file in ROOT.glob(part)
]
CODE = "\n".join(file.read_text() for file in SCRIPTS)
FIELDS = set(re.findall(r"^    (\w+): ", CODE, re.MULTILINE))  # of settings
ALIASES = {name for names in re.findall(r"aliases=\[([^]]+)\]", CODE) for name in re.findall(r"--([a-z-]+)", names)}


def prose(text: str) -> str:
    """A page without code blocks, comments, pictures, tables and targets of links; inline code is one word."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(\||    |\t).*$|^!\[.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^#+ .*$", r"\n\g<0>\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def sentences(text: str) -> list[str]:
    """Split at . : ; ? ! before a space, at empty lines, and where an item of a list begins."""
    parts = re.split(r"[.:;?!][*_)\"”]*(?=\s)|\n\s*\n|\n\s*(?=[-*] |\d+\. |#)", prose(text) + "\n")
    return [" ".join(part.split()) for part in parts if part.strip()]


def words(sentence: str) -> int:
    """Words have a letter or a digit: a dash or a sign between numbers is none."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def anchor(heading: str) -> str:
    """The name that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
class TestPage:
    def test_no_sentence_is_long(self, page):
        assert [(words(s), s) for s in sentences(page.read_text()) if words(s) > LONGEST] == []

    def test_it_has_one_title(self, page):
        text = re.sub(r"^```.*?^```$|<!--.*?-->", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        assert text.lstrip().startswith("# ") and len(re.findall(r"^# ", text, re.MULTILINE)) == 1

    def test_links_lead_somewhere(self, page):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in link:
                continue
            name, _, part = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not part or part in map(anchor, headings(target)), link

    def test_files_that_it_names_exist(self, page):
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for name in re.findall(r"`((?:utils|tests|benchmarks)/(?:\w+/)*(?:\w+\.py)?)`", text):
            assert (ROOT / name).exists(), name

    def test_flags_are_those_of_the_scripts(self, page):
        """Outside code blocks, which also hold flags of other programs."""
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for flag in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", text):
            assert flag in (*OTHER_PROGRAMS, *ALIASES) or flag.removeprefix("no-").replace("-", "_") in FIELDS, flag

    def test_it_names_no_page_that_is_not_in_the_repository(self, page):
        assert not re.search(r"\bcontract [1-5]\b|DESIGN\.md|ARCHITECTURE\.md", page.read_text())


def test_pages_that_the_code_names_exist():
    code = [*SCRIPTS, *ROOT.glob("tests/**/*.py")]
    named = {name for file in code for name in re.findall(r"\b(?:docs|data)/[\w/]+\.md\b", file.read_text())}
    assert len(named) > 5 and [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_code_does_not_cite_a_page_that_is_not_in_the_repository():
    for file in (*SCRIPTS, *ROOT.glob("tests/**/*.py")):
        assert file == Path(__file__) or not re.search(r"\bcontract [1-5]\b", file.read_text()), file


def test_a_long_sentence_is_found_out():
    long = "One `code block` " + "word " * LONGEST + "end."
    assert [words(s) for s in sentences(f"# Title\nShort. {long}\n\n- item\n- {long}")] == [1, 1, 33, 1, 33]


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert sum(bool(re.search(r"\w", word)) for word in text.split()) <= README_WORDS


def test_every_page_is_linked_from_another():
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s#]+)", page.read_text())
        if "://" not in link
    }
    assert [page.name for page in PAGES if page != ROOT / "README.md" and page.resolve() not in linked] == []


def test_the_glossary_is_short_and_has_no_term_twice():
    terms = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)[1:]
    assert 15 <= len(terms) <= MOST_TERMS and len({term.lower() for term in terms}) == len(terms)


def test_tables_for_new_rows_are_where_contributing_says():
    rows = re.findall(r"one row in `(\w+)`, `([\w/.]+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(rows) >= 3
    for table, name in rows:
        assert re.search(rf"^{table}\b", (ROOT / name).read_text(), re.MULTILINE), (table, name)


def test_every_package_says_what_it_is_for():
    for file in ROOT.glob("utils/**/__init__.py"):
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_the_map_of_utils_names_every_package_and_module():
    told = ast.get_docstring(ast.parse((ROOT / "utils" / "__init__.py").read_text()))
    for path in (ROOT / "utils").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert re.search(rf"^{path.name}/ ", told, re.MULTILINE), path.name
        elif path.suffix == ".py" and path.stem != "__init__":
            assert path.name in told, path.name


def test_the_paper_is_cited_by_its_authors_without_an_invented_doi():
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Li", "Wang", "Shangguan", "Li", "Yao", "Yu"] and "doi" not in paper
    readme = (ROOT / "README.md").read_text()
    assert paper["title"] in " ".join(readme.split()) and "cxzhangqi/transfer-learning" in readme
