"""Every registered scorer has a case for every kind of judge: a new scorer file fails here until it has them."""

import pytest

from sae_auto_interp.registry import component_names
from tests.validity.coverage import JUDGES, covered


@pytest.mark.parametrize("scorer", component_names("scorers"))
def test_a_scorer_has_a_case_for_every_kind_of_judge(scorer: str) -> None:
    missing = set(JUDGES) - {judge for name, judge in covered() if name == scorer}
    assert not missing, f"put these to {scorer} in tests/validity, and mark the tests: {sorted(missing)}"


def test_cases_are_of_scorers_that_exist() -> None:
    assert {name for name, _ in covered()} == set(component_names("scorers"))
