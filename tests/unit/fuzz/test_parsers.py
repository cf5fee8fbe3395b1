"""Whatever bytes come from outside: a parser gives a value or a typed error, and nothing else, in bounded memory.

Short by default, with the same inputs each time; ``ELICENSE_FUZZ=100000`` gives each parser that many new ones.
"""

from __future__ import annotations

import random
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from elicense.cli.evidence_files import read_opening
from elicense.cli.log.verify import describe_head
from elicense.errors import Error
from elicense.log.tile_folder import TileFolder, check_export, root_of_first
from elicense.log.tiles import TILE_WIDTH
from elicense.log.tree import subtree_root
from tests.support.fuzzing import FUZZED, examples, seed
from tests.support.histories import History
from tests.unit.fuzz.parsers import CITY, KEYS, PARSERS

COUNT = examples(60)
INSERTED = [b"\n\n", b"\r\n", b"\x00", b"-", b"=", b"[" * 2_000, b"9" * 400, b"\xff" * 9, b"\\ud800", b'"', b","]

Record = Callable[[str, object], None]


def mutated(chance: random.Random, valid: bytes) -> bytes:
    """A valid input with a few bytes changed, taken out, put in or repeated; or anything at all."""
    if chance.randrange(10) == 0:
        return chance.randbytes(chance.randrange(400))
    data = bytearray(valid)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        match chance.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(0, 20))
            case 3:
                data[at:at] = data[at : at + 50] * chance.randint(1, 60)
            case 4 if at < len(data):
                data[at] = chance.randrange(256)
            case _:
                data[at:at] = chance.choice(INSERTED)
    return bytes(data)


def attack(parse: Callable[[bytes], object], valid: bytes, record_property: Record) -> None:
    """Give a parser its examples; anything but a value and a typed error fails."""
    chance = random.Random(seed())
    refused = 0
    for number in range(COUNT):
        data = mutated(chance, valid) if number else b""
        try:
            parse(data)
        except Error:
            refused += 1
        except Exception as error:  # every kind is a finding, and its input is what counts
            pytest.fail(f"{type(error).__name__} upon {data.hex()}: {traceback.format_exc()}")
    record_property(FUZZED, ("parsers", 1, COUNT, refused))


@pytest.mark.parametrize("kind", PARSERS)
def test_the_input_that_is_changed_is_one_that_the_parser_takes(kind: str) -> None:
    parse, valid = PARSERS[kind]
    parse(valid)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # the library's, of certificates that it takes
@pytest.mark.parametrize("kind", PARSERS)
def test_a_parser_gives_a_value_or_a_typed_error_for_any_bytes(kind: str, record_property: Record) -> None:
    attack(*PARSERS[kind], record_property)


@pytest.mark.parametrize("kind", PARSERS)
def test_a_parser_takes_little_memory_for_a_large_input(kind: str) -> None:
    parse, valid = PARSERS[kind]
    size = 1 << 20
    for data in (valid * (size // len(valid)), b"[" * size, b"\x81" * size, b"\n" * size):
        tracemalloc.start()
        try:
            parse(data)
        except Error:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        # Text of one byte a character takes four once it holds a single other one, and a copy or two is made.
        assert peak < 20 * size, kind


EXPORTED = History(CITY.key).grow(TILE_WIDTH + 9)
FULL, REST = EXPORTED.leaves()[:TILE_WIDTH], EXPORTED.leaves()[TILE_WIDTH:]


def bundle(entries: list[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


#: An export of a log that is a little longer than a tile: every kind of file is among it.
EXPORT = {
    "checkpoint": EXPORTED.note(),
    "tile/0/000": b"".join(FULL),
    "tile/0/001.p/9": b"".join(REST),
    "tile/1/000.p/1": subtree_root(FULL),
    "tile/entries/000": bundle(EXPORTED.entries()[:TILE_WIDTH]),
    "tile/entries/001.p/9": bundle(EXPORTED.entries()[TILE_WIDTH:]),
}


def check_folder(folder: TileFolder) -> None:
    """What ``elicense log verify`` does with a folder, and what proofs are made of."""
    check_export(folder, lambda _: None)
    describe_head(folder.note(), KEYS)
    root_of_first(folder, TILE_WIDTH + 3)
    folder.inclusion_proof(TILE_WIDTH + 1)
    folder.consistency_proof(7)


@pytest.mark.parametrize("name", EXPORT)
def test_a_file_of_an_export_may_hold_anything(tmp_path: Path, name: str, record_property: Record) -> None:
    for path, data in EXPORT.items():
        TileFolder(tmp_path).put(path, data)
    check_folder(TileFolder(tmp_path))

    def parse(data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        check_folder(TileFolder(tmp_path))

    attack(parse, EXPORT[name], record_property)


def test_the_opening_beside_a_signed_answer_may_hold_anything(tmp_path: Path, record_property: Record) -> None:
    path, valid = tmp_path / "answer.opening", b"0123456789abcdef" * 4 + b"\n"

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        assert len(read_opening(path)) == 32

    parse(valid)
    attack(parse, valid, record_property)
