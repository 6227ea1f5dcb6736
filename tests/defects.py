"""Put each defect of the published code back, one at a time, and see that the test that keeps it out fails.

    make defects                     all of them: some 10 minutes
    python tests/defects.py seed     those whose description has the word

Works on a copy of the repository. Exits with 1 when a defect goes unnoticed, or when a test fails without any.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Defect(NamedTuple):
    what: str
    file: str
    right: str
    wrong: str
    test: str  # pytest selection


SPLIT_CHECK = """    for first, second in pairwise(("train", "val", "test")):"""
DEFECTS = [
    Defect(
        "the LSTM's batch and time axes are swapped",
        "utils/models/fast_layers.py",
        "linear(days.transpose(0, 1), self.weight_ih_l0",
        "linear(days, self.weight_ih_l0",
        "models/test_models.py -k lstm",
    ),
    Defect(
        "only the last input day matters",
        "utils/models/lstm.py",
        "self.lstm(features.flatten(2))",
        "self.lstm(features[:, -1:].flatten(2))",
        "models/test_models.py -k test_changing_any_one_input_day",
    ),
    Defect(
        "view where permute is needed scrambles days and samples",
        "utils/models/convlstm.py",
        "list(features.permute(1, 0, 3, 4, 2))",
        "list(features.reshape(features.shape[1], len(features), *features.shape[2:]).permute(0, 1, 3, 4, 2))",
        "models/test_models.py -k test_another_sample_of_the_batch",
    ),
    Defect(
        "the lead is off by one",
        "utils/data_processing.py",
        "return self.target_index[samples] - self.lead_days",
        "return self.target_index[samples] - self.lead_days - 1",
        "dataset/test_windows.py -k test_forecast_valid_date",
    ),
    Defect(
        "the test scores one map against all",
        "utils/training/inference.py",
        "np.concatenate(maps)",
        "np.concatenate(maps)[:1].repeat(len(windows), 0)",
        "scores/test_evaluation.py -k test_n_windows_in",
    ),
    Defect(
        "evaluation has its own horizon",
        "utils/training/inference.py",
        "lead_days=checkpoint.lead_days,",
        "lead_days=3,",
        "scores/test_evaluation.py -k test_n_windows_in",
    ),
    Defect(
        "three input days are hard-wired",
        "utils/data_processing.py",
        "np.arange(1 - self.input_days, 1)",
        "np.arange(1 - 3, 1)",
        "dataset/test_windows.py -k test_features_have_the_shape",
    ),
    Defect(
        "dropout of everything: a constant forecast",
        "utils/models/cnn.py",
        "self.relu(self.conv(features.flatten(1, 2)))",
        "torch.dropout(self.relu(self.conv(features.flatten(1, 2))), 1.0, True)",
        "models/test_models.py -k test_forecasts_vary",
    ),
    Defect(
        "dropout is never switched off",
        "utils/models/cnn.py",
        "self.relu(self.conv(features.flatten(1, 2)))",
        "torch.dropout(self.relu(self.conv(features.flatten(1, 2))), 0.2, True)",
        "models/test_models.py -k test_forecasts_vary",
    ),
    Defect(
        "the loss counts masked cells",
        "utils/training/loop.py",
        "torch.where(valid, forecast - batch.target, 0)",
        "(forecast - batch.target)",
        "training/test_training.py -k test_the_loss_is_the_mean",
    ),
    Defect(
        "the loss is divided by all cells",
        "utils/training/loop.py",
        "count.add(batch.valid.sum())",
        "count.add(torch.tensor(batch.valid.numel()))",
        "training/test_training.py -k test_validation_loss",
    ),
    Defect(
        "periods may overlap",
        "utils/common/periods.py",
        SPLIT_CHECK,
        "    for first, second in ():",
        "dataset/test_windows.py -k test_periods_that_are_empty",
    ),
    Defect(
        "pre-training may see the test year",
        "utils/training/setup.py",
        "if (day := overlap(source.learned_from, split.test)) is not None:",
        "if False:",
        "study/test_study.py -k test_pretraining_days_inside",
    ),
    Defect(
        "the seed is not set",
        "utils/training/setup.py",
        "torch.manual_seed(settings.seed)",
        "torch.seed()",
        "training/test_training.py -k test_the_same_seed",
    ),
    Defect(
        "a setting that nothing reads",
        "utils/training/transfer.py",
        "dict.fromkeys(parts, settings.lr)",
        "dict.fromkeys(parts, 1e-3)",
        "training/test_training.py -k test_every_setting",
    ),
    Defect(
        "a module is missing",
        "utils/evaluation.py",
        "from utils import Drawmap\n",
        "from utils import Drawmaps as Drawmap\n",
        "study/test_study.py -k test_every_script_runs",
    ),
    Defect(
        "a script without .py",
        "SMAPtest/train_lstm.py",
        "",
        "",
        "study/test_study.py -k test_every_script_runs",
    ),
    Defect(
        "a GPU is taken for granted",
        "utils/training/inference.py",
        "model.eval()",
        "model.cuda().eval()",
        "scores/test_evaluation.py -k test_n_windows_in",
    ),
    Defect(
        "checkpoints are pickles that run code",
        "utils/training/checkpoint.py",
        "weights_only=True, mmap=True",
        "weights_only=False",
        "training/test_training.py -k test_checkpoints_that_are_corrupt",
    ),
    Defect(
        "small predictions are zeroed before scoring",
        "utils/training/inference.py",
        "np.concatenate(maps)",
        "np.where(np.concatenate(maps) < 0.2, 0, np.concatenate(maps))",
        "scores/test_evaluation.py -k test_forecasts_are_the_output",
    ),
]


def passes(copy: Path, selection: str) -> bool:
    """Whether the selected tests pass in the copy."""
    file, *rest = selection.split(" ", 1)
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/{file}", *" ".join(rest).split()]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: a test failed; anything else: nothing was tested
        raise SystemExit(f"{selection} could not be run:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def main() -> None:
    unnoticed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "repository"
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
        chosen = [defect for defect in DEFECTS if all(word in defect.what for word in sys.argv[1:])]
        for selection in sorted({defect.test for defect in chosen}):
            if not passes(copy, selection):
                raise SystemExit(f"{selection} fails without any defect")
        for defect in chosen:
            path = copy / defect.file
            source = path.read_text()
            if defect.right:
                if defect.right not in source:
                    raise SystemExit(f"{defect.file} no longer has {defect.right!r}: update tests/defects.py")
                path.write_text(source.replace(defect.right, defect.wrong))
            else:
                path.unlink()
            noticed = not passes(copy, defect.test)
            path.write_text(source)
            unnoticed += not noticed
            print(f"{'noticed  ' if noticed else 'UNNOTICED'}  {defect.what}  ({defect.test})", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} defects noticed")
    sys.exit(bool(unnoticed))


if __name__ == "__main__":
    main()
