"""The checker that `conftest` puts behind every annotation of the package while tests run."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""As the language has it: an int is accepted where a float is asked for."""
