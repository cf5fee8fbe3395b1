"""Strict configuration files: TOML in, frozen values out, every problem at once.

An unknown key is an error, so that a misspelt limit can not be ignored in
silence.  Secrets never stand in a configuration file: it names their paths.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from elicense.errors import Malformed, Violation

SectionT = TypeVar("SectionT", bound="Section")


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
    try:
        return model.model_validate(values)
    except ValidationError as error:
        violations = [
            Violation(".".join(str(part) for part in problem["loc"]), problem["type"].upper(), problem["msg"])
            for problem in error.errors(include_url=False, include_input=False)
        ]
        listed = "; ".join(f"{violation.field}: {violation.message}" for violation in violations)
        raise ConfigInvalid(f"{path}: {listed}", violations=violations) from error
