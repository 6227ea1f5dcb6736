"""The ladder from the published ConvLSTM to one that works: its rungs, its sentences, its figure."""

import sys

import pandas as pd
from figure_checks import assert_tidy_plot, drawn_texts, forest_points

from utils.scores.significance import Estimate
from utils.study.plan import SCRATCH, read_train_script
from utils.study.questions.ladder import RUNGS, _ladder_figure, ladder
from utils.study.results import Results


class Told(Results):
    """What the question asks of a study: the changes of RMSE by the names of both models, else −10 %."""

    lead = 3

    def __init__(self, models, changes=None):
        self.models, self.changes = models, changes or {}

    def title(self, words):
        return words

    def rmse_change(self, comparison):
        value = self.changes.get((comparison.model, comparison.rival[1]), -0.1)
        return Estimate(value, value - 0.02, value + 0.02, 0.001)


def test_every_rung_is_a_model_of_the_train_scripts():
    for model in RUNGS:
        assert read_train_script(SCRATCH, model).name


def test_each_rung_is_compared_with_the_one_below_and_the_last_with_the_first(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(sys.modules[ladder.__module__], "draw_ladder", lambda table, title, path: drawn.append(table))
    changes = {("convlstm_change", "convlstm"): -0.2, ("change_net", "convlstm_change"): 0.05}
    changes |= {("change_net", "convlstm"): -0.16, ("convlstm", "persistence"): 0.3}
    section = ladder(Told(("cnn", "change_net", "convlstm", "convlstm_change"), changes), tmp_path)
    assert "change_net differs from that of convlstm by −16.0 % (−18.0 % to −14.0 %" in section.answer
    assert [point.split(" (")[0] for point in section.points] == ["convlstm_change", "change_net"]
    assert "against convlstm: −20.0 %" in section.points[0] and "+5.0 %" in section.points[1]
    assert drawn[0]["value"].tolist()[:2] == [30.0, 30.0] and len(drawn[0]) == 3 * 2


def test_a_study_of_few_rungs_has_no_ladder(tmp_path):
    for models in (("convlstm", "change_net"), ("convlstm_change", "convlstm_pixel_change", "change_net")):
        assert ladder(Told(models), tmp_path) is None


def test_the_figure_has_a_row_a_rung_from_the_bottom_up():
    rows = [f"{model}: {words}" for model, words in RUNGS.items()]
    table = pd.DataFrame(
        [
            {"row": row, "way": way, "value": 20.0 - 8 * place, "low": 18.0 - 8 * place, "high": 22.0 - 8 * place}
            for place, row in enumerate(rows)
            for way in ("from scratch", "with transfer")
        ]
    )
    figure = _ladder_figure(table, "SYNTHETIC sample: a ladder")
    (ax,) = figure.axes
    assert {(row, value) for row, value, _, _ in forest_points(ax)} == {(k, 20.0 - 8 * k) for k in range(len(rows))}
    assert set(rows) <= {text for text, _, _ in drawn_texts(figure)}
    assert_tidy_plot(figure)
