"""Pages of a study call the target by its own name."""

from pathlib import Path

import pandas as pd

from utils.dataset.prepared import SYNTHETIC, label_of
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.product_names import name_target


def test_every_sentence_of_a_section_and_table_is_renamed_and_no_experiment_or_file():
    figure = Figure(Path("SMAP/days.png"), alt="SMAP days", caption="c")
    section = Section("How much SMAP?", "SMAPtest and finetune-SMAPtest; days of SMAP.", [figure], points=["SMAP's"])
    named = name_target(section, "ESA CCI")
    assert named.question == "How much ESA CCI?" and named.points == ["ESA CCI's"]
    assert named.answer == "SMAPtest and finetune-SMAPtest; days of ESA CCI."
    assert named.figures[0].alt == "ESA CCI days" and named.figures[0].path == Path("SMAP/days.png")
    frame = pd.DataFrame({"target_days": [30]})
    table = name_target(Table("SMAP days", "c", frame, {"target_days": Column("SMAP days")}), "ESA CCI")
    assert table.name == "ESA CCI days" and table.columns["target_days"].label == "ESA CCI days"
    assert table.frame.equals(frame)


def test_smap_the_sample_and_data_without_a_name_keep_the_word():
    for label in ("REAL SMAP L3 over the United States", SYNTHETIC, ""):
        assert name_target("days of SMAP", label) == "days of SMAP"


def test_the_label_is_that_of_the_sample_or_the_attribute_label_or_the_product():
    assert label_of({"product": "ESA CCI"}) == "ESA CCI"
    assert label_of({"product": "ESA CCI", "label": "REAL ESA CCI"}) == "REAL ESA CCI"
    assert label_of({"product": "ESA CCI", "synthetic": "true"}) == SYNTHETIC
    assert label_of({}) == ""
