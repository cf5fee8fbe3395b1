from __future__ import annotations

import pytest

from tests.support.authority import TestAuthority


@pytest.fixture(scope="package")
def pki() -> TestAuthority:
    return TestAuthority()
