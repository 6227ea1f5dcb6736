"""Where a run's inputs are now: runs and data can be moved, copied and mailed.

A checkpoint names its inputs by their place on the machine that trained it. They are known again by their content.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from utils.common.cli import UserError
from utils.common.files import file_hash
from utils.training.checkpoint import Checkpoint, load_checkpoint


def find_moved_inputs(checkpoint: Checkpoint, run_dir: Path, offered: Path | None = None) -> None:
    """Point the settings of a checkpoint to where its data, pre-trained run and weather forecasts are now.

    An input that is where it was stays. Otherwise its content is looked for in the data set `offered`, and in the same
    place relative to a folder above the run. What is found nowhere keeps its old path, for the caller to refuse.
    """
    is_same: dict[str, Callable[[Path], bool]] = {
        "data": lambda path: file_hash(path) == checkpoint.data_hash,
        "init_from": lambda path: load_checkpoint(path).weights_hash == checkpoint.source_hash,
        "future_from": lambda path: file_hash(path) == checkpoint.future_hash,
    }
    for name, same in is_same.items():
        if recorded := checkpoint.settings.get(name):
            candidates = _places(Path(recorded), run_dir, offered if name == "data" else None)
            found = next((path for path in candidates if _holds(path, same)), None)
            checkpoint.settings[name] = str(found or recorded)


def _places(recorded: Path, run_dir: Path, offered: Path | None) -> Iterator[Path]:
    """Where an input may be: its old place, what is offered, and the ends of its old path below folders of the run."""
    yield recorded
    if offered:
        yield offered
    parts = recorded.parts[1:]
    for folder in run_dir.resolve().parents:
        yield from (folder.joinpath(*parts[start:]) for start in range(len(parts)))


def _holds(path: Path, same: Callable[[Path], bool]) -> bool:
    """Whether there is something at the path, and it has the content that is looked for."""
    try:
        return path.exists() and same(path)
    except (OSError, UserError):  # another kind of file, or one that may not be read
        return False
