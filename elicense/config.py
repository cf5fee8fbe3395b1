"""Strict configuration files: TOML in, frozen values out, every problem at once.

An unknown key is an error, so that a misspelt limit can not be ignored in
silence.  Secrets never stand in a configuration file: it names their paths.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from elicense.errors import Malformed, Violation

SectionT = TypeVar("SectionT", bound="Section")


_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})\Z")
_LAST_PORT: Final = 65_535


def check_address(text: str) -> str:
    """Return an address that has the form host:port.

    Raises:
        ValueError: It has not.
    """
    match = _ADDRESS.match(text)
    if match is None or int(match[1]) > _LAST_PORT:
        raise ValueError("write host:port, such as 127.0.0.1:7500")
    return text


Address = Annotated[str, AfterValidator(check_address)]
"""An address in a configuration file, host:port."""


class ConfigInvalid(Malformed):
    """A configuration file is missing, is not TOML, or has wrong or unknown keys; all are named."""

    reason = "CONFIG_INVALID"


class Section(BaseModel):
    """A table of a configuration file: frozen, typed, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def load_config(path: Path, model: type[SectionT]) -> SectionT:
    """Read the TOML file ``path`` as ``model``.

    Raises:
        ConfigInvalid: The file can not be read, is not TOML, or breaks the model; has one violation a problem.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: not a TOML file: {error}") from error
    return check_values(values, model, subject=str(path))


def check_values(values: Mapping[str, object], model: type[SectionT], *, subject: str) -> SectionT:
    """Return values as ``model``, also for whoever is about to write them.

    Raises:
        ConfigInvalid: They break the model; has one violation a problem.  Its message begins with ``subject``.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        violations = [
            Violation(".".join(str(part) for part in problem["loc"]), problem["type"].upper(), problem["msg"])
            for problem in error.errors(include_url=False, include_input=False)
        ]
        listed = "; ".join(f"{violation.field}: {violation.message}" for violation in violations)
        raise ConfigInvalid(f"{subject}: {listed}", violations=violations) from error
