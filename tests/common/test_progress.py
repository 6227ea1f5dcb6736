"""How far a long piece of work is, in a log."""

import re

from utils.common.progress import Progress


def test_a_log_has_a_line_a_step_with_total_and_time_left(capsys, monkeypatch):
    clock = iter([0.0, 10.0, 30.0, 60.0])
    monkeypatch.setattr("utils.common.progress.time.monotonic", lambda: next(clock))
    with Progress(2, "work") as progress:
        progress.step("a", more=1)
        progress.step("b")
        progress.step("c")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 3  00:10, about 00:20 left  a"
    assert lines[1] == "2 of 3  00:30, about 00:15 left  b"
    assert lines[2] == "3 of 3  01:00, about 00:00 left  c"


def test_work_that_is_asked_to_be_quiet_says_nothing(capsys):
    with Progress(1, quiet=True) as progress:
        progress.step("a")
    assert capsys.readouterr().out == ""


def test_more_steps_than_were_known_never_count_beyond_the_total(capsys):
    with Progress(1) as progress:
        progress.step("a")
        progress.step("b")
    assert re.findall(r"^(\d) of (\d)", capsys.readouterr().out, re.M) == [("1", "1"), ("2", "2")]
