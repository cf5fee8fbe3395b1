"""``[quotas]``: where an operator gives roles other quotas than the role table."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from elicense.config import Section
from elicense.trust.roles import VERIFIERS, Role


def _verifiers_only(looks: dict[Role, int]) -> dict[Role, int]:
    if not VERIFIERS.issuperset(looks):
        raise ValueError("only verifiers have quotas: " + ", ".join(sorted(VERIFIERS)))
    return looks


class QuotasSection(Section):
    """``[quotas]``: how often a verifier of a role may look.

    Attributes:
        looks_per_day: Looks of one verifier in a day of China time, by role; what is left out has the role
            table's.
    """

    looks_per_day: Annotated[dict[Role, Annotated[int, Field(ge=1)]], AfterValidator(_verifiers_only)] = Field(
        default_factory=dict
    )
