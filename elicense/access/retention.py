"""How long looks are kept: whole days are dropped, never single looks."""

from __future__ import annotations

from typing import Final

REGISTRY_DAYS: Final = 5 * 365
"""Days for which the registry keeps looks and lists them to holders."""

CITY_DAYS: Final = 90
"""Days for which a city node keeps its own copy of looks that the registry holds; what is not shipped stays."""
