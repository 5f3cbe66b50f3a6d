"""The planted world, made once."""

import pytest

from sae_auto_interp.planted import PlantedWorld, record_config
from sae_auto_interp.types import FeatureRecord

N = 24


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> PlantedWorld:
    return PlantedWorld.make(tmp_path_factory.mktemp("planted"), n_documents=1000)


@pytest.fixture(scope="session")
def records(world: PlantedWorld) -> list[FeatureRecord]:
    """Silent test windows are random ones."""
    return world.records(record_config(N, n_random=N))


@pytest.fixture(scope="session")
def near_records(world: PlantedWorld) -> list[FeatureRecord]:
    """Silent test windows are those in which the neighbour fires."""
    return world.records(record_config(N, n_random=0, n_near=N))
