"""Every command on the pages that begins with a script of the project has flags and values that the script takes."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_script

import utils.common.cli

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")] + sorted(ROOT.glob("docs/*.md"))
MODULE = {"utils.study.report": "utils/study/report.py", "utils.study.publish": "utils/study/publish.py"}
CARD = (ROOT / "data" / "README.md").read_text(encoding="utf-8")


class Parsed(BaseException):
    """The command line was read: nothing more is done."""


def commands(page: Path) -> list[str]:
    """The command lines of a page: in blocks of code, and with flags between backticks. N stands for any number."""
    text = page.read_text(encoding="utf-8")
    parts = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    blocks = "\n".join(code for kind, code in parts if kind in ("", "bash")).replace("\\\n", " ")
    inline = re.findall(r"`([^`\n]+ --[^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [re.sub(r"^\w+=\S+ ", "", line.strip()) for line in blocks.splitlines()]
    found += [line if line.startswith("python ") else f"python data/{line}" for line in inline]
    found = [re.sub(r"\bN\b", "3", line) for line in found if line.startswith("python ")]
    return [line for line in found if words_of(line)]


def words_of(command: str) -> list[str] | None:
    """Script and arguments; None for what is not of the project, and for what only a shell could fill in."""
    words = shlex.split(re.sub(r"\s[>|;&].*$", "", command), comments=True)[1:]
    if words[:1] == ["-m"]:
        words = [MODULE.get(words[1], ""), *words[2:]]
    script = words[0] if words else ""
    is_ours = script.endswith(".py") and not script.startswith("benchmarks/") and (ROOT / script).exists()
    return words if is_ours and not re.search(r"\$|…|\.\.\.|--help", command) else None


COMMANDS = sorted({shlex.join(words_of(command)) for page in PAGES for command in commands(page)})


@pytest.fixture
def parse_alone(monkeypatch):
    """Scripts end when they have read their command line."""
    parse = utils.common.cli.parse

    def parse_and_stop(*arguments: object, **options: object) -> None:
        raise Parsed(parse(*arguments, **options))

    for module in [module for name, module in sys.modules.items() if name.startswith("utils")]:
        if getattr(module, "parse", None) is parse:
            monkeypatch.setattr(module, "parse", parse_and_stop)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_page_is_one_that_its_script_takes(command, parse_alone):
    with pytest.raises(Parsed):
        run_script(*shlex.split(command))


def test_the_commands_of_the_data_card_are_among_them():
    assert len(COMMANDS) > 40
    scripts = {words_of(command)[0] for command in commands(ROOT / "data" / "README.md")}
    assert scripts >= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("data/*.py")} - {
        "data/make_limit.py",
        "data/make_forecasts.py",
    }


def test_an_unknown_flag_is_found_out(parse_alone, capsys):
    assert run_script("data/prepare_smap_l3.py", "--raw", "x", "--overpas", "morning") == 1
    assert "--help lists every setting" in capsys.readouterr().err


def test_the_python_of_the_data_card_compiles():
    blocks = re.findall(r"^```python\n(.*?)^```$", CARD, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "data/README.md", "exec")
