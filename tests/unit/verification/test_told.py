"""What a city signs that it knows has one form in bytes, and is no head of its log."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elicense.cli.main import main
from elicense.errors import CheckpointInvalid, SignatureInvalid
from elicense.log.checkpoint import log_verifier_key, open_checkpoint
from elicense.log.model import LogKey
from elicense.log.note import format_vkey, sign_note
from elicense.verification.told import MAX_TOLD_SIZE, Told, open_told, parse_told, sign_told
from tests.support.histories import History, keys_of, origin_of, signer

CITY = History(LogKey(320500, 1)).grow(9)
ORIGIN, OTHER_ORIGIN = origin_of(CITY.key), origin_of(LogKey(320500, 2))
KEY = next(iter(keys_of(CITY)))
TOLD = Told(ORIGIN, 9, 1, 4)


def test_what_a_city_signs_is_read_as_it_was() -> None:
    assert open_told(sign_told(TOLD, signer(ORIGIN)), key=KEY) == TOLD


def test_it_is_no_head_of_the_log_and_a_head_is_none() -> None:
    with pytest.raises(CheckpointInvalid):
        open_checkpoint(sign_told(TOLD, signer(ORIGIN)), origin=ORIGIN, key=KEY)
    with pytest.raises(CheckpointInvalid):
        open_told(CITY.note(), key=KEY)


@pytest.mark.parametrize(
    "text",
    [
        TOLD.text().replace("\n9\n", "\n09\n"),
        TOLD.text().replace("\n9\n", "\n-9\n"),
        TOLD.text().replace("\n9\n", "\n\u0669\n"),
        TOLD.text().replace("1 4", "1  4"),
        TOLD.text() + "more\n",
        TOLD.text().replace("told/1", "told/2"),
    ],
)
def test_another_form_is_refused_though_it_is_signed(text: str) -> None:
    with pytest.raises(CheckpointInvalid):
        open_told(sign_note(text, ORIGIN, signer(ORIGIN)), key=KEY)


def test_a_word_of_another_epoch_or_by_another_key_is_refused() -> None:
    other = Told(OTHER_ORIGIN, 9, 1, 4)
    with pytest.raises(CheckpointInvalid):
        open_told(sign_told(other, signer(OTHER_ORIGIN)), key=KEY)
    with pytest.raises(SignatureInvalid):
        open_told(sign_note(TOLD.text(), OTHER_ORIGIN, signer(OTHER_ORIGIN)), key=KEY)


def test_files_alone_show_what_a_city_signed_that_it_knows_and_that_it_did(tmp_path: Path) -> None:
    file = tmp_path / "told"
    file.write_bytes(sign_told(TOLD, signer(ORIGIN)))

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["log", words[0], str(file), *words[1:]])

    inspected = run("inspect")
    assert inspected.exit_code == 0, inspected.output
    assert f"word on custody: {TOLD.words}" in inspected.output
    assert f"signature line of {ORIGIN}" in inspected.output
    verified = run("verify", "--key", format_vkey(KEY))
    assert (verified.exit_code, verified.output) == (0, f"genuine: {TOLD.words}\n")

    # Another log's key says nothing about this one, and what was changed is not what was signed.
    other = format_vkey(log_verifier_key(OTHER_ORIGIN, signer(OTHER_ORIGIN).public_key()))
    file.write_bytes(sign_note(TOLD.text(), OTHER_ORIGIN, signer(OTHER_ORIGIN)))
    refused = run("verify", "--key", other)
    assert (refused.exit_code, "no known key has signed" in refused.output) == (1, True)
    file.write_bytes(sign_told(TOLD, signer(ORIGIN)).replace(b"\n9\n", b"\n8\n"))
    assert run("verify", "--key", format_vkey(KEY)).exit_code == 1


def test_what_is_too_large_is_not_read() -> None:
    with pytest.raises(CheckpointInvalid):
        parse_told(sign_told(Told("x" * MAX_TOLD_SIZE, 9, 1, 4), signer(ORIGIN)))
