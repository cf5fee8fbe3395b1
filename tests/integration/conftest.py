"""What is so in every test against nodes in its own process."""

from __future__ import annotations

import pytest

from registry.publishing import HeadPublisher


@pytest.fixture(autouse=True)
def no_vector_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a registry write the vector of city heads only when a test asks for it, however long the test takes.

    Otherwise a slow machine would have one more entry in the registry's log than a quick one.
    """
    assert HeadPublisher.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(HeadPublisher.__init__.__kwdefaults__, "look_s", 3_600.0)
