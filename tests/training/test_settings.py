"""Settings: each stands once, a line that is edited is in force, --help shows all of them, fine-tuning inherits."""

import json
import re
import shutil
from dataclasses import fields

import pytest
import torch
from conftest import ERA5_PERIODS, PERIODS, ROOT

from utils.settings import EXPERIMENTS, ERA5Settings, FinetuneSettings, SMAPSettings, groups_of
from utils.training.inference import load_script

SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for name in EXPERIMENTS for path in (ROOT / name).glob("train_*.py"))
OF_EXPERIMENT = {"ERA5test": ERA5Settings, "SMAPtest": SMAPSettings, "finetune-SMAPtest": FinetuneSettings}
FACTS = ("data", "train", "val", "test", "lead_days", "seed", "out")
ONLY_NETWORKS = "patience gaps freeze match l2sp future-temperature".split()


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_belongs_to_an_experiment_stands_in_settings_alone_and_a_script_is_short(name):
    settings, experiment = load_script(ROOT / name).Settings, OF_EXPERIMENT[name.split("/")[0]]
    assert issubclass(settings, experiment)
    assert not set(FACTS) & settings.__annotations__.keys()
    assert {fact: getattr(settings(), fact) for fact in FACTS} == {fact: getattr(experiment(), fact) for fact in FACTS}
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 45


def test_a_line_edited_in_settings_or_added_to_a_script_is_in_force(tmp_path, smap, script, monkeypatch):
    """A copy of the repository's script with one line more, and settings.py with other periods."""
    for name, value in (("train", tuple(PERIODS[1:3])), ("val", tuple(PERIODS[4:6])), ("test", tuple(PERIODS[7:9]))):
        monkeypatch.setattr(SMAPSettings, name, value)
        monkeypatch.setattr(SMAPSettings.__dataclass_fields__[name], "default", value)
    edited = tmp_path / "train_cnn.py"
    text = (ROOT / "SMAPtest" / "train_cnn.py").read_text(encoding="utf-8")
    edited.write_text(
        text.replace("    epochs: int = 100", "    lead_days: int = 2\n    epochs: int = 1"), encoding="utf-8"
    )
    result = script(edited, "--data", smap, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["lead_days"]["value"] == 2 and config["settings"]["epochs"]["value"] == 1
    assert config["periods"]["test"] == [PERIODS[7:9]]


@pytest.mark.parametrize("name", ["finetune-SMAPtest/train_convlstm.py", "ERA5test/train_compact.py"])
def test_help_shows_every_setting_in_its_group_and_in_plain_words(script, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = script(name, "--help").out
    settings = load_script(ROOT / name).Settings
    for title, names in groups_of(settings).items():
        box = text.partition(f"─ {title} options ─")[2].partition("╰")[0]
        for setting in fields(settings):
            flag = f"--{setting.name.replace('_', '-')}"
            shown = re.search(rf"^│ (--\S+ \S+, )?{flag}\b", box, re.MULTILINE) is not None
            assert shown == (setting.name in names and not setting.metadata.get("internal")), setting.name
    assert not any(jargon in text for jargon in ("STR", "{None}", "SEASON", "''"))
    if "compact" in name:
        assert not any(f"--{flag}" in text for flag in ONLY_NETWORKS)


def test_only_overrides_that_change_something_are_echoed(tmp_path, smap, script):
    arguments = [
        "--data",
        smap,
        *PERIODS,
        "--lead-days",
        3,
        "--input-days",
        2,
        "--epochs",
        1,
        "--out",
        tmp_path / "run",
    ]
    lines = script("SMAPtest/train_cnn.py", *arguments).out.splitlines()
    assert "input_days = 2" in lines and "epochs = 1  (script: 100)" in lines
    assert not any(line.startswith("lead_days") for line in lines)


def test_fine_tuning_has_the_architecture_of_its_source_and_needs_the_source_no_more(tmp_path, era5, smap, script):
    source = ["--data", era5, *ERA5_PERIODS, "--epochs", 1, "--filters", 7, "--out", tmp_path / "source"]
    assert script("ERA5test/train_cnn.py", *source).code == 0
    tuned = ["--data", smap, *PERIODS, "--epochs", 1, "--init-from", tmp_path / "source", "--out", tmp_path / "tuned"]
    assert script("finetune-SMAPtest/train_cnn.py", *tuned).code == 0
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())["settings"]
    assert config["filters"] == {"value": 7, "from": "pre-trained run"}
    shutil.rmtree(tmp_path / "source")
    result = script("finetune-SMAPtest/eval.py", tmp_path / "tuned")
    assert result.code == 0, result.err


def test_run_json_has_the_precision_that_the_compact_model_computes_with(tmp_path, smap, script, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    arguments = ["--data", smap, *PERIODS, "--epochs", 1, "--precision", "auto", "--out", tmp_path / "run"]
    assert script("SMAPtest/train_compact.py", *arguments).code == 0
    machine = json.loads((tmp_path / "run" / "run.json").read_text())["machine"]
    assert machine["precision"] == "32-true" and machine["device"] == "cpu"
