"""Fixtures of the manifests' tests."""

import pytest

from tests.deploy.manifests import VARIANTS, Object, build


@pytest.fixture(params=VARIANTS)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return build(request.param)
