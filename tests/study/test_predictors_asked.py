"""A study with predictors of one's own: every run has them, and what the study does without one keeps the others."""

import pytest
from test_budgets import SMAP

from utils.common.cli import UserError
from utils.dataset.predictors import variables_of
from utils.dataset.prepared import VARIABLES
from utils.study import plan
from utils.study.plan import EXPERIMENTS, PRETRAINING, SCRATCH, Plan, Task, plan_predictors

ASKED = {"predictors": (*VARIABLES, "wind"), "static": ("clay",), "epochs": 2}


def settings_of(task: Task):
    data = dict.fromkeys(EXPERIMENTS, plan.ROOT / "none.nc")
    return (
        Plan(data, dict.fromkeys(EXPERIMENTS, SMAP), full=False, runs=plan.ROOT, settings=ASKED)
        .configure(task)
        .settings
    )


@pytest.mark.parametrize("model", ["cnn", "compact"])
def test_every_run_has_the_predictors_that_the_study_asks_for(model):
    settings = settings_of(Task(experiment=SCRATCH, model=model, lead_days=3, seed=0))
    assert settings.variables == variables_of(ASKED["predictors"], ASKED["static"])
    assert (settings.epochs == 2) == (model == "cnn")


def test_without_one_of_the_three_the_further_ones_stay():
    tasks = plan_predictors("cnn", 3, (0,), ASKED["predictors"])
    (task,) = (task for task in tasks if task.variant == "_without_precipitation" and task.experiment == PRETRAINING)
    settings = settings_of(task)
    assert settings.predictors == ("soil_moisture", "soil_temperature", "wind") and settings.static == ("clay",)
    with pytest.raises(UserError, match="cannot do without a predictor"):
        settings_of(plan.replace(task, model="compact"))
    known = settings_of(plan.replace(task, model="compact", predictors=None, weather="perfect"))
    assert known.known_ahead == ("precipitation",) and known.future_precipitation
