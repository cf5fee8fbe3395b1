"""What the scenes of the demo share."""

from __future__ import annotations

from pathlib import Path

import pytest

from elicense.cli.demo.stage import asked_of
from elicense.cli.verify import verify
from elicense.license.model import DocumentType, IdentityDocument


@pytest.mark.parametrize("kind", DocumentType)
def test_a_document_of_any_kind_is_asked_about_as_what_it_is(tmp_path: Path, kind: DocumentType) -> None:
    words = [*asked_of(IdentityDocument(kind, "E12345678")), "--purpose", "insurance", "--credentials", str(tmp_path)]
    understood = verify.make_context("verify", words).params
    assert understood["number"] == "E12345678"
    assert understood["document_type"] == kind.name.lower().replace("_", "-")
