from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elicense.errors import CheckpointInvalid, Malformed, SignatureInvalid
from elicense.log import checkpoint, note
from elicense.log.checkpoint import Checkpoint
from elicense.log.merkle import EMPTY_ROOT, MAX_LOG_SIZE
from tests.unit.log.keys import signer

# A head that a public certificate log signed and a public witness cosigned.  The
# first line is of a kind that is not known here, by a key of the same name.
PUBLIC_ORIGIN = "arche2025h1.staging.ct.transparency.dev"
PUBLIC_HEAD = """arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
""".encode()  # noqa: E501
PUBLIC_LOG_KEY = note.parse_vkey(f"{PUBLIC_ORIGIN}+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f")
PUBLIC_WITNESS_KEY = note.parse_vkey("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2")

ORIGIN = "elicense.example/city/320500/1"
ROOT = bytes(range(32))
HEAD = Checkpoint(ORIGIN, 20852163, ROOT)
BODY = f"{ORIGIN}\n20852163\n{b64encode(ROOT).decode()}\n"
CITY = signer("city")
CITY_KEY = checkpoint.log_verifier_key(ORIGIN, CITY.public_key())
COSIGNER_NAME = "elicense.example/registry/cosigner"
REGISTRY = signer("registry")
REGISTRY_KEY = checkpoint.cosigner_verifier_key(COSIGNER_NAME, REGISTRY.public_key())
SIGNED = checkpoint.sign_checkpoint(HEAD, CITY)
TIME_S = 1_800_000_000
COSIGNED = checkpoint.cosign(SIGNED, name=COSIGNER_NAME, signer=REGISTRY, time_s=TIME_S)

lines = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)


class TestBody:
    def test_a_body_is_origin_size_and_root(self) -> None:
        assert HEAD.body() == BODY
        assert checkpoint.parse_checkpoint(BODY) == HEAD

    @given(lines, st.integers(1, MAX_LOG_SIZE), st.binary(min_size=32, max_size=32), st.lists(lines, max_size=3))
    def test_a_body_reads_back_as_its_checkpoint(
        self, origin: str, size: int, root: bytes, extensions: list[str]
    ) -> None:
        head = Checkpoint(origin, size, root, tuple(extensions))
        assert checkpoint.parse_checkpoint(head.body()) == head

    def test_an_empty_log_has_the_empty_root(self) -> None:
        head = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
        assert checkpoint.parse_checkpoint(head.body()) == head
        with pytest.raises(CheckpointInvalid):
            Checkpoint(ORIGIN, 0, ROOT)

    @pytest.mark.parametrize(
        "size",
        ["", "-1", "+1", "01", "00", "1.0", "1e3", " 1", "1 ", "1_0", "0x1", "١", "²", str(2**63), "9" * 5000],
    )
    def test_a_size_has_one_spelling(self, size: str) -> None:
        with pytest.raises(CheckpointInvalid):
            checkpoint.parse_checkpoint(BODY.replace("20852163", size))

    @pytest.mark.parametrize(
        "root",
        [
            "",
            "AAAA",
            b64encode(bytes(31)).decode(),
            b64encode(bytes(33)).decode(),
            b64encode(ROOT).decode()[:-1],
            b64encode(ROOT).decode()[:-2] + "9=",
            b64encode(ROOT).decode() + "=",
            " " + b64encode(ROOT).decode(),
            b64encode(b"\xff" * 32).decode().replace("/", "_"),
            "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I",
        ],
    )
    def test_a_root_has_one_spelling(self, root: str) -> None:
        with pytest.raises(CheckpointInvalid):
            checkpoint.parse_checkpoint(BODY.replace(b64encode(ROOT).decode(), root))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n",
            "\n\n\n",
            BODY[:-1],
            BODY + "\n",
            "\n" + BODY,
            BODY.replace("\n", "\r\n"),
            BODY.replace("\n", "\u2028"),
            BODY.replace("\n", "\v"),
            BODY.replace(ORIGIN, ""),
            BODY.replace(ORIGIN, "a\0b"),
            BODY.replace(ORIGIN, "a\x85b"),
            BODY.replace(ORIGIN, "\ud800"),
            BODY + "extension\n\n",
            f"{ORIGIN}\n20852163\n",
        ],
    )
    def test_every_other_form_is_refused(self, text: str) -> None:
        with pytest.raises(CheckpointInvalid):
            checkpoint.parse_checkpoint(text)

    @pytest.mark.parametrize(
        "change",
        [{"size": -1}, {"size": 2**63}, {"root": bytes(31)}, {"origin": ""}, {"origin": "a\nb"}, {"extensions": ("",)}],
    )
    def test_a_head_that_could_not_be_read_back_can_not_be_made(self, change: dict[str, object]) -> None:
        values: dict[str, object] = {"origin": ORIGIN, "size": 1, "root": ROOT, "extensions": ()}
        with pytest.raises(CheckpointInvalid):
            Checkpoint(**(values | change))  # type: ignore[arg-type]

    @settings(max_examples=500)
    @given(
        st.one_of(
            st.text(st.characters(), max_size=100),
            st.tuples(lines, st.text("0123456789 -\u0660", max_size=25), st.text("AB/+=\n", max_size=50)).map(
                lambda parts: "\n".join((*parts, ""))
            ),
        )
    )
    def test_reading_raises_typed_errors_only(self, text: str) -> None:
        try:
            head = checkpoint.parse_checkpoint(text)
        except CheckpointInvalid:
            return
        assert head.body() == text


class TestSignedHeads:
    def test_a_signed_head_opens_with_the_key_of_its_log(self) -> None:
        assert checkpoint.open_checkpoint(SIGNED, origin=ORIGIN, key=CITY_KEY) == HEAD

    def test_a_head_of_a_public_log_opens_with_its_published_key(self) -> None:
        head = checkpoint.open_checkpoint(PUBLIC_HEAD, origin=PUBLIC_ORIGIN, key=PUBLIC_LOG_KEY)
        assert head.size == 1432088532

    def test_signing_again_gives_the_same_bytes(self) -> None:
        assert checkpoint.sign_checkpoint(HEAD, CITY) == SIGNED

    def test_extensions_are_signed_and_kept(self) -> None:
        head = replace(HEAD, extensions=("one", "two"))
        signed = checkpoint.sign_checkpoint(head, CITY)
        assert checkpoint.open_checkpoint(signed, origin=ORIGIN, key=CITY_KEY) == head
        with pytest.raises(SignatureInvalid):
            checkpoint.open_checkpoint(signed.replace(b"two", b"too"), origin=ORIGIN, key=CITY_KEY)

    @pytest.mark.parametrize("origin", ["elicense.example/city/320500/2", "elicense.example/city/320501/1"])
    def test_a_head_of_another_log_or_epoch_is_refused_as_such(self, origin: str) -> None:
        key = checkpoint.log_verifier_key(origin, CITY.public_key())
        with pytest.raises(CheckpointInvalid):
            checkpoint.open_checkpoint(SIGNED, origin=origin, key=key)

    def test_a_head_that_another_key_signed_is_refused(self) -> None:
        forged = checkpoint.sign_checkpoint(HEAD, signer("thief"))
        with pytest.raises(SignatureInvalid):
            checkpoint.open_checkpoint(forged, origin=ORIGIN, key=CITY_KEY)

    @pytest.mark.parametrize(
        ("old", "new"), [("20852163", "20852164"), (b64encode(ROOT).decode(), b64encode(ROOT[::-1]).decode())]
    )
    def test_a_changed_head_is_refused(self, old: str, new: str) -> None:
        with pytest.raises(SignatureInvalid):
            checkpoint.open_checkpoint(SIGNED.replace(old.encode(), new.encode()), origin=ORIGIN, key=CITY_KEY)

    def test_a_signed_note_that_is_no_checkpoint_is_refused(self) -> None:
        signed = note.sign_note("some other text\n", ORIGIN, CITY)
        with pytest.raises(CheckpointInvalid):
            checkpoint.open_checkpoint(signed, origin=ORIGIN, key=CITY_KEY)
        with pytest.raises(CheckpointInvalid):
            checkpoint.cosign(signed, name=COSIGNER_NAME, signer=REGISTRY, time_s=TIME_S)

    def test_an_origin_that_can_not_name_a_key_is_not_signed(self) -> None:
        with pytest.raises(Malformed):
            checkpoint.sign_checkpoint(Checkpoint("two words", 1, ROOT), CITY)


class TestCosignedHeads:
    def test_a_cosigned_head_opens_with_both_keys(self) -> None:
        opened = checkpoint.open_cosigned(COSIGNED, origin=ORIGIN, log_key=CITY_KEY, cosigner_key=REGISTRY_KEY)
        assert opened.checkpoint == HEAD
        assert opened.time_s == TIME_S

    def test_a_publicly_cosigned_head_opens_with_the_published_keys(self) -> None:
        opened = checkpoint.open_cosigned(
            PUBLIC_HEAD, origin=PUBLIC_ORIGIN, log_key=PUBLIC_LOG_KEY, cosigner_key=PUBLIC_WITNESS_KEY
        )
        assert opened.time_s == 1_779_573_024

    def test_the_log_alone_still_opens_a_cosigned_head(self) -> None:
        assert checkpoint.open_checkpoint(COSIGNED, origin=ORIGIN, key=CITY_KEY) == HEAD

    def test_a_head_without_its_cosignature_is_refused(self) -> None:
        with pytest.raises(SignatureInvalid):
            checkpoint.open_cosigned(SIGNED, origin=ORIGIN, log_key=CITY_KEY, cosigner_key=REGISTRY_KEY)

    def test_a_cosignature_without_the_log_is_refused(self) -> None:
        read = note.parse_note(COSIGNED)
        alone = note.format_note(note.Note(read.text, read.signatures[1:]))
        with pytest.raises(SignatureInvalid):
            checkpoint.open_cosigned(alone, origin=ORIGIN, log_key=CITY_KEY, cosigner_key=REGISTRY_KEY)

    def test_a_cosignature_by_the_key_of_the_log_is_no_receipt(self) -> None:
        forged = checkpoint.cosign(SIGNED, name=COSIGNER_NAME, signer=CITY, time_s=TIME_S)
        with pytest.raises(SignatureInvalid):
            checkpoint.open_cosigned(forged, origin=ORIGIN, log_key=CITY_KEY, cosigner_key=REGISTRY_KEY)

    def test_the_latest_of_several_cosignatures_counts(self) -> None:
        twice = checkpoint.cosign(COSIGNED, name=COSIGNER_NAME, signer=REGISTRY, time_s=TIME_S + 60)
        thrice = checkpoint.cosign(twice, name=COSIGNER_NAME, signer=REGISTRY, time_s=TIME_S + 30)
        opened = checkpoint.open_cosigned(thrice, origin=ORIGIN, log_key=CITY_KEY, cosigner_key=REGISTRY_KEY)
        assert opened.time_s == TIME_S + 60

    def test_a_receipt_of_another_log_is_refused(self) -> None:
        with pytest.raises(CheckpointInvalid):
            checkpoint.open_cosigned(COSIGNED, origin=ORIGIN + "2", log_key=CITY_KEY, cosigner_key=REGISTRY_KEY)

    @settings(deadline=None, max_examples=500)
    @given(st.integers(0, len(COSIGNED) * 8 - 1))
    def test_no_flipped_bit_goes_unnoticed(self, bit: int) -> None:
        damaged = bytearray(COSIGNED)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CheckpointInvalid, SignatureInvalid)):
            checkpoint.open_cosigned(bytes(damaged), origin=ORIGIN, log_key=CITY_KEY, cosigner_key=REGISTRY_KEY)
