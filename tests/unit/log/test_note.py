from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elicense.errors import CheckpointInvalid, Malformed, SignatureInvalid
from elicense.log import note
from elicense.log.note import COSIGNATURE, ED25519, Note, NoteSignature, VerifierKey
from tests.unit.log.keys import signer

# The example of c2sp.org/signed-note, and the one in the documentation of golang.org/x/mod/sumdb/note.
KNOWN = [
    (
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "This is an example message.\n",
        "— example.com/foo "
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n",
    ),
    (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n",
    ),
]

TEXT = "first line\n\nthird line\n"
NAME = "elicense.example/city/320500/1"
SIGNER = signer("city")
KEY = VerifierKey(NAME, ED25519, SIGNER.public_key())
NOTE = note.sign_note(TEXT, NAME, SIGNER)
COSIGNER = signer("registry")
COSIGNER_KEY = VerifierKey("elicense.example/registry/cosigner", COSIGNATURE, COSIGNER.public_key())
COSIGNED = note.cosign_note(NOTE, name=COSIGNER_KEY.name, signer=COSIGNER, time_s=1_800_000_000)

names = st.text(min_size=1, max_size=20).filter(lambda name: "+" not in name and name.isprintable() and " " not in name)


def line(name: str, blob: bytes) -> bytes:
    return f"— {name} {b64encode(blob).decode()}\n".encode()


OTHERS = [line(f"other.example/{i}", bytes([i]) * 68) for i in range(70)]


class TestKnownNotes:
    @pytest.mark.parametrize(("vkey", "text", "signature"), KNOWN)
    def test_a_published_note_opens_with_its_published_key(self, vkey: str, text: str, signature: str) -> None:
        key = note.parse_vkey(vkey)
        opened = note.open_note(f"{text}\n{signature}".encode(), [key])
        assert opened.text == text
        assert [signed.key for signed in opened.signatures] == [key]

    @pytest.mark.parametrize(("vkey", "text", "signature"), KNOWN)
    def test_a_changed_published_note_is_refused(self, vkey: str, text: str, signature: str) -> None:
        changed = text.replace("is", "was", 1)
        with pytest.raises(SignatureInvalid):
            note.open_note(f"{changed}\n{signature}".encode(), [note.parse_vkey(vkey)])


class TestVerifierKeys:
    @pytest.mark.parametrize(
        ("vkey", "algorithm"),
        [
            ("TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6", ED25519),
            ("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2", COSIGNATURE),
        ],
    )
    def test_a_published_key_reads_and_writes_back(self, vkey: str, algorithm: int) -> None:
        key = note.parse_vkey(vkey)
        assert key.algorithm == algorithm
        assert note.format_vkey(key) == vkey

    @given(names, st.sampled_from([ED25519, COSIGNATURE]))
    def test_a_key_reads_back_as_it_was_written(self, name: str, algorithm: int) -> None:
        key = VerifierKey(name, algorithm, SIGNER.public_key())
        assert note.parse_vkey(note.format_vkey(key)) == key

    def test_one_key_has_different_ids_for_different_uses(self) -> None:
        assert VerifierKey(NAME, COSIGNATURE, KEY.public_key).key_id != KEY.key_id
        assert VerifierKey(NAME + "2", ED25519, KEY.public_key).key_id != KEY.key_id

    @pytest.mark.parametrize(
        "vkey",
        [
            "",
            "TEST",
            "TEST+7997405c",
            "TEST+7997405d+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
            "TEST+7997405C+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
            "TEST+07997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
            "TEST2+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
            "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6\n",
            "TEST+7997405c+AgcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
            "TEST+7997405c+AwEB",
            "TEST+7997405c+",
            "TEST+7997405c+!",
            "TE ST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
            "+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
            "TEST\ud800+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
        ],
    )
    def test_every_other_text_is_refused(self, vkey: str) -> None:
        with pytest.raises(Malformed):
            note.parse_vkey(vkey)

    @given(st.text(st.characters(), max_size=80))
    @example("a+b+c")
    def test_reading_a_key_raises_typed_errors_only(self, vkey: str) -> None:
        with pytest.raises(Malformed):
            note.parse_vkey(vkey)

    @pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "a\0", "a\x7f", "a\u3000b", "a\u00a0b", "\ud800"])
    def test_a_name_that_could_be_read_in_two_ways_is_refused(self, name: str) -> None:
        with pytest.raises(Malformed):
            VerifierKey(name, ED25519, KEY.public_key)

    @pytest.mark.parametrize(
        "public_key",
        [
            # The points of small order, with both signs, and encodings beyond the field.
            "01" + "00" * 31,
            "01" + "00" * 30 + "80",
            "00" * 32,
            "00" * 31 + "80",
            "ec" + "ff" * 30 + "7f",
            "ec" + "ff" * 30 + "ff",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "ed" + "ff" * 30 + "7f",
            "ff" * 32,
            "02" * 31,
            "02" * 33,
        ],
    )
    def test_a_key_under_which_anything_could_be_denied_is_refused(self, public_key: str) -> None:
        with pytest.raises(Malformed):
            VerifierKey(NAME, ED25519, bytes.fromhex(public_key))


class TestForm:
    def test_a_note_is_written_as_it_was_read(self) -> None:
        read = note.parse_note(COSIGNED)
        assert read.text == TEXT
        assert [signature.name for signature in read.signatures] == [NAME, COSIGNER_KEY.name]
        assert note.format_note(read) == COSIGNED

    def test_the_last_empty_line_ends_the_text(self) -> None:
        text = "a\n\n" + OTHERS[0].decode()
        assert note.parse_note(note.sign_note(text, NAME, SIGNER)).text == text

    def test_sixteen_signatures_are_accepted_and_more_than_the_limit_are_not(self) -> None:
        assert len(note.parse_note(NOTE + b"".join(OTHERS[:15])).signatures) == 16
        assert len(note.parse_note(NOTE + b"".join(OTHERS[:63])).signatures) == note.MAX_SIGNATURES
        with pytest.raises(CheckpointInvalid):
            note.parse_note(NOTE + b"".join(OTHERS[:64]))

    def test_a_note_that_is_too_large_is_refused(self) -> None:
        text = "x" * note.MAX_NOTE_SIZE + "\n"
        with pytest.raises(CheckpointInvalid):
            note.sign_note(text, NAME, SIGNER)
        with pytest.raises(CheckpointInvalid):
            note.parse_note(text.encode() + NOTE)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\n",
            b"\n\n",
            b"text\n",
            b"text\n\n",
            b"text\n\n\n",
            NOTE[:-1],
            NOTE + b"\n",
            b"\n" + OTHERS[0],
            b"text\n" + OTHERS[0],
            NOTE.replace(b"\n", b"\r\n"),
            NOTE.replace(b"first", b"fi\rst"),
            NOTE.replace(b"first", b"fi\0st"),
            NOTE.replace(b"first", b"fi\tst"),
            NOTE.replace(b"first", b"fi\x7fst"),
            NOTE.replace(b"first", "fi\x85st".encode()),
            NOTE.replace(b"first", b"fi\xffst"),
            NOTE.replace(b"first", b"fi\xed\xa0\x80st"),
            NOTE.replace("—".encode(), b"-"),
            NOTE.replace("— ".encode(), "—".encode()),
            NOTE.replace("— ".encode(), "—  ".encode()),
            NOTE + OTHERS[0].replace(b"other", b"oth+er"),
            NOTE + OTHERS[0].replace(b"other", "oth\u2003er".encode()),
            NOTE + OTHERS[0].replace(b"\n", b" \n"),
            NOTE + OTHERS[0].replace(b"\n", b"=\n"),
            NOTE + "— name\n".encode(),
            NOTE + "— name \n".encode(),
            NOTE + line("name", b""),
            NOTE + line("name", bytes(4)),
            NOTE + line("", bytes(68)),
        ],
    )
    def test_every_other_form_is_refused(self, data: bytes) -> None:
        with pytest.raises(CheckpointInvalid):
            note.open_note(data, [KEY])

    @pytest.mark.parametrize(
        "spelling", ["AAAAAAB=", "AAAAAAA", "AAAAAAA==", "AAAA AAA=", "AAAAAA_=", "AAAAAA\n=", "AAAAAAA=AAAA"]
    )
    def test_base64_has_one_spelling(self, spelling: str) -> None:
        accepted = b"text\n\n" + "— name AAAAAAA=\n".encode()
        assert note.parse_note(accepted).signatures == (NoteSignature("name", bytes(4), bytes(1)),)
        with pytest.raises(CheckpointInvalid):
            note.parse_note(accepted.replace(b"AAAAAAA=", spelling.encode()))

    @pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "a\tb\n", "a\0\n", "\ud800\n"])
    def test_a_text_that_could_not_be_read_back_is_not_signed(self, text: str) -> None:
        with pytest.raises(CheckpointInvalid):
            note.sign_note(text, NAME, SIGNER)

    def test_a_note_without_signatures_can_not_be_made(self) -> None:
        with pytest.raises(CheckpointInvalid):
            Note(TEXT, ())
        with pytest.raises(CheckpointInvalid):
            Note(TEXT, (NoteSignature(NAME, bytes(3), bytes(64)),))


class TestOpening:
    def test_a_note_opens_with_its_key(self) -> None:
        opened = note.open_note(NOTE, [KEY])
        assert opened.text == TEXT
        assert [(signed.key, signed.time_s) for signed in opened.signatures] == [(KEY, None)]

    def test_a_cosignature_states_its_time(self) -> None:
        opened = note.open_note(COSIGNED, [COSIGNER_KEY, KEY])
        assert [(signed.key, signed.time_s) for signed in opened.signatures] == [
            (KEY, None),
            (COSIGNER_KEY, 1_800_000_000),
        ]

    def test_signing_again_gives_the_same_bytes(self) -> None:
        assert note.sign_note(TEXT, NAME, SIGNER) == NOTE

    def test_lines_of_unknown_keys_are_ignored(self) -> None:
        same_name = line(NAME, bytes(68))
        assert note.open_note(NOTE + b"".join(OTHERS[:20]) + same_name, [KEY]).text == TEXT

    def test_a_note_that_no_known_key_signed_is_refused(self) -> None:
        with pytest.raises(SignatureInvalid):
            note.open_note(NOTE, [])
        with pytest.raises(SignatureInvalid):
            note.open_note(NOTE, [COSIGNER_KEY])

    def test_one_bad_signature_of_a_known_key_refuses_the_whole_note(self) -> None:
        for bad in (bytes(64), bytes(63), b"x", bytes(200)):
            forged = NOTE + line(COSIGNER_KEY.name, COSIGNER_KEY.key_id + bad)
            assert note.open_note(forged, [KEY]).text == TEXT
            with pytest.raises(SignatureInvalid):
                note.open_note(forged, [KEY, COSIGNER_KEY])

    def test_a_good_line_does_not_excuse_a_bad_line_of_the_same_key(self) -> None:
        bad = line(NAME, KEY.key_id + bytes(64))
        for data in (NOTE + bad, NOTE.replace(b"\n\n\xe2\x80\x94", b"\n\n" + bad + b"\xe2\x80\x94")):
            with pytest.raises(SignatureInvalid):
                note.open_note(data, [KEY])

    def test_a_line_that_stands_twice_counts_once(self) -> None:
        signature = NOTE[NOTE.rindex("—".encode()) :]
        assert len(note.open_note(NOTE + signature, [KEY]).signatures) == 1

    def test_a_cosignature_is_bound_to_its_time_and_text(self) -> None:
        read = note.parse_note(COSIGNED)
        first, second = read.signatures
        later = NoteSignature(second.name, second.key_id, (1_800_000_001).to_bytes(8, "big") + second.signature[8:])
        moved = note.format_note(Note(read.text, (first, later)))
        other = note.format_note(Note("other\n", (second,)))
        for data in (moved, other):
            with pytest.raises(SignatureInvalid):
                note.open_note(data, [COSIGNER_KEY])

    def test_a_cosignature_is_no_plain_signature_and_the_reverse(self) -> None:
        read = note.parse_note(COSIGNED)
        plain_key = VerifierKey(COSIGNER_KEY.name, ED25519, COSIGNER_KEY.public_key)
        as_plain = NoteSignature(plain_key.name, plain_key.key_id, read.signatures[1].signature[8:])
        with pytest.raises(SignatureInvalid):
            note.open_note(note.format_note(Note(TEXT, (as_plain,))), [plain_key])

    def test_a_cosignature_time_out_of_range_is_refused(self) -> None:
        for time_s in (-1, 2**63):
            with pytest.raises(Malformed):
                note.cosign_note(NOTE, name=COSIGNER_KEY.name, signer=COSIGNER, time_s=time_s)
        late = 2**63
        message = f"cosignature/v1\ntime {late}\n{TEXT}".encode()
        blob = COSIGNER_KEY.key_id + late.to_bytes(8, "big") + COSIGNER.sign(message)
        with pytest.raises(SignatureInvalid):
            note.open_note(NOTE + line(COSIGNER_KEY.name, blob), [COSIGNER_KEY])

    def test_the_same_key_may_be_given_twice(self) -> None:
        assert note.open_note(NOTE, [KEY, note.parse_vkey(note.format_vkey(KEY))]).text == TEXT

    def test_keys_that_can_not_be_told_apart_are_refused(self) -> None:
        other = VerifierKey(NAME, ED25519, COSIGNER.public_key())
        object.__setattr__(other, "key_id", KEY.key_id)
        with pytest.raises(Malformed):
            note.open_note(NOTE, [KEY, other])

    def test_a_signer_of_another_algorithm_can_not_sign_notes(self) -> None:
        class Other:
            algorithm = "p256"

            def public_key(self) -> bytes:
                return bytes(65)

            def sign(self, message: bytes) -> bytes:
                return message

        with pytest.raises(Malformed):
            note.sign_note(TEXT, NAME, Other())


class TestFuzzing:
    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=400))
    def test_any_bytes_raise_typed_errors_only(self, data: bytes) -> None:
        with pytest.raises((CheckpointInvalid, SignatureInvalid)):
            note.open_note(data, [KEY, COSIGNER_KEY])

    @settings(deadline=None, max_examples=1000)
    @given(
        st.integers(0, len(COSIGNED)),
        st.integers(0, 3),
        st.one_of(st.binary(max_size=4), st.text(max_size=2).map(str.encode), st.sampled_from(OTHERS)),
    )
    def test_a_damaged_note_never_opens_with_another_text(self, at: int, cut: int, insert: bytes) -> None:
        data = COSIGNED[:at] + insert + COSIGNED[at + cut :]
        try:
            read = note.parse_note(data)
        except CheckpointInvalid:
            with pytest.raises(CheckpointInvalid):
                note.open_note(data, [KEY])
            return
        assert note.format_note(read) == data
        try:
            opened = note.open_note(data, [KEY])
        except SignatureInvalid:
            return
        assert opened.text == TEXT
