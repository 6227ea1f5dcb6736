"""A job that fails, in a module that a process loads at once: one of the tests would bring all that they import."""

from utils.common.cli import UserError


def refuse() -> None:
    raise UserError("The loss is no longer finite.")
