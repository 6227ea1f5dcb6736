"""What tests have other processes do, in a module that loads at once: a test file would bring all that it imports."""

from multiprocessing.synchronize import Event
from pathlib import Path

from utils.common.cli import UserError


def refuse() -> None:
    raise UserError("The loss is no longer finite.")


def hold(run_dir: Path, ready: Event, done: Event) -> None:
    """Hold a run directory until `done`, a minute at most."""
    from utils.training.run_directory import hold_run_directory  # it brings torch, which not every call needs

    with hold_run_directory(run_dir):
        ready.set()
        done.wait(60)
