"""The page of results: whole, self-contained, escaped, and as a browser sees it."""

import base64
import hashlib
import html
import io
import re

import numpy as np
import pandas as pd
import pytest
from browser import Tree, browser, in_browser
from PIL import Image

from utils.common.cli import UserError
from utils.study.html_page import Column, Figure, Section, Table, write_page

HOSTILE = "</script><script>alert('1')</script> \"><img src=x onerror=alert(2)> & ünï"


def png(path, width=1004, height=600, dpi=(300, 300)):
    Image.new("RGB", (width, height), "white").save(path, **({"dpi": dpi} if dpi else {}))
    return path


@pytest.fixture
def page(tmp_path):
    """Write a page with the given tables and more; its text."""

    def write(tables=(), sections=(), title="Results", provenance=None, citation="Li et al. (2021)", **more):
        path = tmp_path / "report.html"
        content = {"title": title, "sections": sections, "tables": tables, "citation": citation, **more}
        write_page(path, provenance=provenance or {}, **content)
        return path.read_text(encoding="utf-8")

    return write


SCORES = pd.DataFrame(
    {
        "model": ["cnn", "ridge", "lstm", None],
        "rmse": [0.1, np.nan, 0.0312345, 0.025],
        "n": pd.array([5, 10, None, 100], dtype="Int64"),
        "skill": [-0.5, -2.0, 0.25, np.inf],
    }
)
TABLE = Table(
    "Scores", "Of everything", SCORES, {"rmse": Column("RMSE", "m³ m⁻³", ".4f"), "skill": Column(form="+.2f")}
)


def rows(text):
    """The cells of each row of the tables' bodies, as text."""
    bodies = re.findall(r"<tbody>(.*?)</tbody>", text, re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for body in bodies for row in body.split("</tr>")[:-1]]
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in cells]


def full(tmp_path):
    """The arguments of a page that has everything."""
    figures = [Figure(png(tmp_path / "a.png"), "A map", "Fig. 1"), Figure(png(tmp_path / "b.png", 2008), "b", "Fig. 2")]
    sections = [Section("Is it better?", "It is.", figures, "one seed", ["cnn 0.03"]), Section("Where?", "Nowhere.")]
    wide = pd.DataFrame(np.arange(30 * 20.0).reshape(30, 20), columns=[f"column {n}" for n in range(20)])
    provenance = {
        "commit": "0123456789abcdef",
        "seeds": [0, 1],
        "runs": [{"run": "cnn", "data": {"days": 3}}],
        "x": None,
    }
    return {
        "sections": sections,
        "tables": [TABLE, Table("Wide", "and long", wide)],
        "provenance": provenance,
        "protocol": f"One.\n\n- two\n- three\n\n1. four\n\n|{9 * 'a_long_column|'}\n|{9 * '---|'}\n|{9 * '0|'}",
        "notice": "SYNTHETIC sample",
        "summary": ["3 days ahead, cnn is best."],
        "caveats": "Reduced study.",
    }


def test_a_full_page_is_balanced_and_loads_nothing(page, tmp_path):
    text = page(**full(tmp_path))
    tree = Tree(text)
    assert len(tree.all("img")) == 2
    for image in tree.all("img"):
        assert image["alt"] and image["src"].startswith("data:image/png;base64,")
        assert Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))).size[1] == 600
    for _, attributes in tree.elements:
        assert not {"style", "srcset", "action", "data"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"url\(|@import|https?:", text)
    ids = [attributes["id"] for _, attributes in tree.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in tree.all("a")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in tree.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and max(np.diff(levels)) <= 1
    assert tree.all("html") == [{"lang": "en"}]
    for said in ("SYNTHETIC sample", "one seed", "cnn 0.03", "3 days ahead, cnn is best.", "Reduced study."):
        assert tree.text.count(said) == 1


def test_the_policy_allows_exactly_the_style_and_the_script_of_the_page(page):
    text = page([TABLE])
    policy = Tree(text).all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_images_have_the_size_of_the_journal_times_one_and_a_half(page, tmp_path):
    figures = [Figure(png(tmp_path / f"{d}.png", 1004, 502, d and (d, d)), "x", "y") for d in (300, 150, None)]
    images = Tree(page(sections=[Section("?", "!", figures)])).all("img")
    sizes = [(int(i["width"]), int(i["height"])) for i in images]
    assert sizes == [(482, 241), (964, 482), (482, 241)]  # 1004 px / 300 dpi × 96 × 1.5


def test_every_number_is_there_in_its_format(page):
    text = page([TABLE])
    assert rows(text) == [
        ["cnn", "0.1000", "5", "-0.50"],
        ["ridge", "–", "10", "-2.00"],
        ["lstm", "0.0312", "–", "+0.25"],
        ["–", "0.0250", "100", "+inf"],
    ]
    assert 'data-v="0.0312345"' in text
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 5)) * 1e-3, columns=list("abcde"))
    shown = np.array(rows(page([Table("t", "", frame)])), float)
    np.testing.assert_allclose(shown, frame, rtol=1e-3)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([True, None], ["yes", "–"]),
        (pd.to_datetime(["2015-03-31", None]), ["2015-03-31", "–"]),
        (["–", 3], ["–", "3"]),  # a table that is already made for people: still numbers
        (["", "x"], ["", "x"]),
    ],
)
def test_values_that_are_no_numbers(page, values, shown):
    assert rows(page([Table("t", "", pd.DataFrame({"a": values}))])) == [[text] for text in shown]


def test_hostile_text_is_text_everywhere(page, tmp_path):
    figure = Figure(png(tmp_path / "a.png"), HOSTILE, HOSTILE)
    frame = pd.DataFrame({HOSTILE: [HOSTILE, "b"], 7: [1.0, 2.0]})
    table = Table(HOSTILE, HOSTILE, frame, {HOSTILE: Column(HOSTILE, HOSTILE)}, np.array([True, False]))
    text = page(
        [table],
        [Section(HOSTILE, HOSTILE, [figure], HOSTILE, [HOSTILE])],
        HOSTILE,
        {HOSTILE: HOSTILE, "runs": [{HOSTILE: [HOSTILE]}]},
        HOSTILE,
        protocol=f"{HOSTILE}\n\n- {HOSTILE}\n- `{HOSTILE}`",
        notice=HOSTILE,
        summary=[HOSTILE],
        caveats=HOSTILE,
    )
    tree = Tree(text)
    assert len(tree.all("script")) == 1 and len(tree.all("img")) == 1
    assert tree.all("img")[0]["alt"] == HOSTILE
    assert "".join(tree.text).count(HOSTILE) >= 20
    assert page(title="lone \ud800 surrogate").count("lone ? surrogate") == 2


def test_rows_that_are_not_significant_say_so_in_text(page):
    marked = Table("t", "", SCORES, not_significant=np.array([True, False, False, True]))
    text = page([marked])
    assert [row[0] for row in rows(text)] == ["cnn n.s.", "ridge", "lstm", "– n.s."]
    assert "n.s.: not significant" in text
    assert "n.s.:" not in page([TABLE])
    with pytest.raises(ValueError, match="3 marks for 4 rows"):
        page([Table("t", "", SCORES, not_significant=np.zeros(3, bool))])


def test_empty_parts_are_left_out(page):
    tree = Tree(page(citation=""))
    assert not tree.all("nav") and not tree.all("section") and not tree.all("table")
    assert "No rows." in Tree(page([Table("t", "", SCORES.head(0))])).text
    assert "Tables" not in Tree(page(sections=[Section("?", "!")])).text


def test_protocol_paragraphs_and_lists(page):
    """It is Markdown: its title is left out, since the page has a heading of its own, and links lead nowhere."""
    protocol = "# Title\n\nOne\nline & `x<y`, see [data](../data/README.md).\n\n## More\nTwo:\n- a\n  goes on\n- b\n\n"
    protocol += "1. c\n2. d\n\nThe end - of 3.5 days."
    found = page(protocol=protocol).split('<div class="protocol">\n')[1].split("</div>")[0]
    lists = "<ul>\n<li>a\ngoes on</li>\n<li>b</li>\n</ul>\n<ol>\n<li>c</li>\n<li>d</li>\n</ol>\n"
    assert found == (
        "<p>One\nline &amp; <code>x&lt;y</code>, see data.</p>\n<h3>More</h3>\n<p>Two:</p>\n"
        f"{lists}<p>The end - of 3.5 days.</p>\n"
    )


def test_provenance_is_a_list_of_definitions(page):
    text = page(
        provenance={"data_sha256": "ab" * 32, "versions": {"torch": "2"}, "leads": [3, 5], "full": False, "e": {}}
    )
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)
    assert ("data sha256", f"<code>{'ab' * 32}</code>") in pairs and ("torch", "2") in pairs
    assert ("leads", "3, 5") in pairs and ("full", "no") in pairs and ("e", "–") in pairs


def test_a_page_appears_whole_or_not_at_all(page, tmp_path):
    before = page(title="the old one")
    (tmp_path / "no.png").write_bytes(b"GIF89a")
    for name, message in (("absent.png", "absent.png could not be read"), ("no.png", "no.png is no PNG")):
        with pytest.raises(UserError, match=message):
            page(sections=[Section("?", "!", [Figure(tmp_path / name, "x", "y")])])
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert not list(tmp_path.glob(".*partial"))


def test_the_page_is_hardly_larger_than_what_is_in_it(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    size = (tmp_path / "noise.png").stat().st_size
    assert len(page([TABLE], [Section("?", "!", [Figure(tmp_path / "noise.png", "x", "y")])])) < 4 / 3 * size + 20_000


def test_contrast_of_every_text_colour_is_wcag_aa(page):
    style = page().split("<style>")[1].split("</style>")[0]
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    )

    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        channels = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for colours in (light, dark):
        pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("paper", "band")]
        for ink, ground in [*pairs, ("on-warn", "warn")]:
            low, high = sorted(luminance(colours[name]) for name in (ink, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


@browser
def test_sorting_and_filtering_in_a_browser(page, tmp_path):
    many = pd.concat([SCORES] * 4, ignore_index=True)
    text = page([TABLE, Table("many", "", many)])
    seen = in_browser(
        tmp_path,
        text,
        """
        const [table, many] = page.querySelectorAll("table"), heads = [...table.tHead.rows[0].cells], seen = {};
        const column = (c) => [...table.tBodies[0].rows].map((row) => row.cells[c].textContent);
        heads.forEach((head, c) => seen[c] = [1, 2, 3].map(() => {
          head.querySelector("button").click();
          return [head.getAttribute("aria-sort"), ...column(c)].join(" ");
        }));
        const filter = page.querySelector(".filter"), input = filter.querySelector("input");
        input.value = "RIDGE  -2"; input.dispatchEvent(new Event("input"));
        const left = [...many.tBodies[0].rows].filter((row) => !row.hidden);
        seen.left = left.map((row) => row.cells[0].textContent).join();
        seen.count = filter.querySelector("output").textContent;
        seen.filters = page.querySelectorAll(".filter").length;
        seen.copy = page.querySelectorAll("button.copy").length;
        return seen;""",
    )
    original = {0: "cnn ridge lstm –", 1: "0.1000 – 0.0312 0.0250", 2: "5 10 – 100", 3: "-0.50 -2.00 +0.25 +inf"}
    assert seen == {
        "0": ["ascending cnn lstm ridge –", "descending ridge lstm cnn –", f" {original[0]}"],
        "1": ["ascending 0.0250 0.0312 0.1000 –", "descending 0.1000 0.0312 0.0250 –", f" {original[1]}"],
        "2": ["ascending 5 10 100 –", "descending 100 10 5 –", f" {original[2]}"],
        "3": ["ascending -2.00 -0.50 +0.25 +inf", "descending +inf +0.25 -0.50 -2.00", f" {original[3]}"],
        "left": "ridge,ridge,ridge,ridge",
        "count": "4 of 16 rows",
        "filters": 1,
        "copy": 1,
    }


@browser
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_never_scrolls_sideways(page, tmp_path, width):
    text = page(**full(tmp_path))
    script = "const whole = page.documentElement, box = page.querySelectorAll('.table .box')[1];"
    script += "return [whole.scrollWidth, whole.clientWidth, box.scrollWidth];"
    seen = in_browser(tmp_path, text, script, width)
    assert seen[0] <= seen[1] and width - 20 <= seen[1] <= width
    assert seen[2] > seen[1]  # the wide table is as wide as it needs, in its own box


def test_the_first_sentence_of_an_answer_is_set_off(page):
    text = page(sections=[Section("?", "It falls by 7.5 % on average. In 3 of 4 cases."), Section("??", "No.")])
    assert "<strong>It falls by 7.5 % on average.</strong> In 3 of 4 cases." in text
    assert '<p class="answer"><strong>No.</strong></p>' in text


@browser
def test_tables_of_the_protocol_do_not_stop_the_script(page, tmp_path):
    text = page(**full(tmp_path))
    assert in_browser(tmp_path, text, "return page.querySelectorAll('button.copy').length;") == 1
