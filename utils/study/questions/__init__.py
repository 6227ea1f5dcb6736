"""The paper's questions: each a figure or two, and a sentence of answer computed from the study's results."""

from pathlib import Path

from utils.common.cli import UserError
from utils.study.html_page import Section
from utils.study.product_names import name_target
from utils.study.questions.controls import why_transfer_helps
from utils.study.questions.error_by_lead import leads
from utils.study.questions.ladder import ladder
from utils.study.questions.learning_curves import curves
from utils.study.questions.maps_and_series import cells, days, series, where_transfer_helps
from utils.study.questions.models import how_good
from utils.study.questions.operational import as_they_arrive
from utils.study.questions.predictability import learned
from utils.study.questions.predictors import predictors
from utils.study.questions.record_length import target_days
from utils.study.questions.skill_by_condition import conditions
from utils.study.questions.transfer_gain import scatters, transfer
from utils.study.questions.transfer_strategies import strategies
from utils.study.questions.uncertainty import how_dry, how_sure
from utils.study.questions.weather_forecasts import weather_of_study
from utils.study.questions.wetting_and_drying import events
from utils.study.questions.worlds import other_worlds
from utils.study.results import Results

FIGURES = "study transfer_gain scatters cells transfer_cells days predictors series target_days leads limit".split()
FIGURES += ["strategies", "weather", "weather_compact", "weather_change_net", "reliability", "drought", "operational"]
FIGURES += ["curves", "conditions", "events", "worlds", "controls", "ladder"]


def answers(results: Results, figures: Path) -> list[Section]:
    """All questions that the study's runs can answer, their figures drawn into `figures`."""
    questions = (
        how_good,
        ladder,
        curves,
        transfer,
        why_transfer_helps,
        other_worlds,
        scatters,
        conditions,
        cells,
        where_transfer_helps,
        days,
        predictors,
        series,
        events,
        target_days,
        leads,
        learned,
        how_sure,
        how_dry,
        as_they_arrive,
        strategies,
        weather_of_study,
    )
    sections = []
    for question in questions:
        try:
            section = question(results, figures)
        except UserError as error:  # too little to draw: the other questions still stand
            print(f"{question.__name__.replace('_', ' ')}: {error}")
            continue
        if section:
            sections.append(name_target(section, results.label))
    drawn = {figure.path.stem for section in sections for figure in section.figures}
    for stale in set(FIGURES) - drawn:  # of an earlier, larger study
        for suffix in (".png", ".pdf"):
            (figures / stale).with_suffix(suffix).unlink(missing_ok=True)
    return sections
