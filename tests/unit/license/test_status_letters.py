from __future__ import annotations

import pytest

from elicense.license.status_letters import LETTERS, Effect, is_known, letter_info

MEANING = {
    Effect.NONE: "A",
    Effect.NOTE: "HINPT",
    Effect.CURABLE: "MS",
    Effect.FORBIDS: "BDEFGJKLRU",
    Effect.UNDECIDED: "CZ",
}


@pytest.mark.parametrize(("effect", "letters"), MEANING.items())
def test_each_letter_has_its_effect(effect: Effect, letters: str) -> None:
    assert "".join(sorted(code for code, info in LETTERS.items() if info.effect is effect)) == letters


def test_only_the_letters_that_end_a_licence_are_terminal() -> None:
    assert "".join(code for code, info in LETTERS.items() if info.terminal) == "EFG"


def test_whatever_does_not_plainly_allow_driving_bars_an_electronic_licence() -> None:
    for info in LETTERS.values():
        assert info.bars_electronic == (info.effect not in (Effect.NONE, Effect.NOTE)), info


@pytest.mark.parametrize("letter", ["O", "Q", "V", "", "AA", "正"])
def test_an_unknown_letter_lets_nobody_drive(letter: str) -> None:
    assert not is_known(letter)
    info = letter_info(letter)
    assert info.effect is Effect.UNDECIDED
    assert info.bars_electronic


def test_every_meaning_is_one_sentence() -> None:
    for info in LETTERS.values():
        assert info.name
        assert info.meaning.endswith(".")
        assert info.meaning.count(".") == 1
        assert info.forbids_driving == (info.effect in (Effect.CURABLE, Effect.FORBIDS))
