"""How signatures are checked while the tests run: by beartype, an int standing for a float as Python has it."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
