"""The checker of signatures while the tests run: beartype, where an int may stand for a float as in Python's own rules."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
