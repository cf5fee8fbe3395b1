"""Status letters (驾驶证状态, GA/T 16.25): what each means and whether it forbids driving.

A licence carries a *set* of letters.  The table is data; the readings of the
rarer letters differ between sources, so correct them here and nowhere else.  A
letter that is not in the table fails safe: nobody may conclude that its bearer
may drive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Effect(Enum):
    """What a letter does to the right to drive."""

    NONE = "none"
    """Nothing at all."""
    NOTE = "note"
    """Driving stays allowed; there is something to settle."""
    CURABLE = "curable"
    """Forbids driving until the holder does what was missed."""
    FORBIDS = "forbids"
    """Forbids driving."""
    UNDECIDED = "undecided"
    """Says nothing about the right to drive, so nothing may be concluded."""


@dataclass(frozen=True, slots=True)
class LetterInfo:
    """One letter.

    Attributes:
        letter: The letter.
        name: Name in characters.
        meaning: What follows from it, in one English sentence.
        effect: What it does to the right to drive.
        bars_electronic: No electronic licence is issued while it is in effect.
        terminal: Ends the licence; no status change lifts it.
        needs_basis: May be set only with its legal basis.
    """

    letter: str
    name: str
    meaning: str
    effect: Effect
    bars_electronic: bool
    terminal: bool = False
    needs_basis: bool = True

    @property
    def forbids_driving(self) -> bool:
        """Whether the letter forbids driving while it is in effect."""
        return self.effect in (Effect.FORBIDS, Effect.CURABLE)


def _letter(letter: str, name: str, effect: Effect, meaning: str, *, bars: bool) -> LetterInfo:
    return LetterInfo(
        letter,
        name,
        meaning,
        effect,
        bars_electronic=bars,
        terminal=letter in "EFG",
        needs_basis=letter not in "AC",
    )


LETTERS: Mapping[str, LetterInfo] = MappingProxyType(
    {
        info.letter: info
        for info in (
            _letter("A", "正常", Effect.NONE, "The licence is in order.", bars=False),
            _letter(
                "B",
                "超分",
                Effect.FORBIDS,
                "Twelve points are reached: driving is forbidden until the exam is passed.",
                bars=True,
            ),
            _letter("C", "转出", Effect.UNDECIDED, "The licence has moved: ask the city that took it over.", bars=True),
            _letter("D", "暂扣", Effect.FORBIDS, "The licence is suspended: driving is forbidden.", bars=True),
            _letter("E", "撤销", Effect.FORBIDS, "The licence is annulled: driving is forbidden for good.", bars=True),
            _letter("F", "吊销", Effect.FORBIDS, "The licence is revoked: driving is forbidden for good.", bars=True),
            _letter("G", "注销", Effect.FORBIDS, "The licence is cancelled: driving is forbidden for good.", bars=True),
            _letter(
                "H",
                "违法未处理",
                Effect.NOTE,
                "A traffic violation is open: driving is allowed, settle it.",
                bars=False,
            ),
            _letter("I", "事故未处理", Effect.NOTE, "An accident is open: driving is allowed, settle it.", bars=False),
            _letter("J", "停止使用", Effect.FORBIDS, "The licence is out of use: driving is forbidden.", bars=True),
            _letter("K", "扣押", Effect.FORBIDS, "The licence is held as evidence: driving is forbidden.", bars=True),
            _letter("L", "锁定", Effect.FORBIDS, "The licence is locked: driving is forbidden.", bars=True),
            _letter(
                "M",
                "逾期未换证",
                Effect.CURABLE,
                "Renewal is overdue: driving is forbidden until it is renewed.",
                bars=True,
            ),
            _letter("N", "延期换证", Effect.NOTE, "Renewal was put off with leave: driving is allowed.", bars=False),
            _letter(
                "P",
                "延期体检",
                Effect.NOTE,
                "The medical check was put off with leave: driving is allowed.",
                bars=False,
            ),
            _letter(
                "R",
                "注销可恢复",
                Effect.FORBIDS,
                "The licence is cancelled but can be restored: driving is forbidden till then.",
                bars=True,
            ),
            _letter(
                "S",
                "逾期未审验",
                Effect.CURABLE,
                "The review is overdue: driving is forbidden until it is passed.",
                bars=True,
            ),
            _letter("T", "延期审验", Effect.NOTE, "The review was put off with leave: driving is allowed.", bars=False),
            _letter(
                "U", "扣留", Effect.FORBIDS, "The licence is retained by the police: driving is forbidden.", bars=True
            ),
            _letter(
                "Z", "其他", Effect.UNDECIDED, "Another status that is not coded: ask the city in custody.", bars=True
            ),
        )
    }
)
"""Every letter that this node knows."""

_UNKNOWN_NAME = "未知"
_UNKNOWN_MEANING = "This node does not know the letter: ask the city in custody before relying on the licence."


def letter_info(letter: str) -> LetterInfo:
    """Return what is known of a letter; for an unknown one an entry that lets nobody drive on it."""
    return LETTERS.get(letter) or LetterInfo(
        letter, _UNKNOWN_NAME, _UNKNOWN_MEANING, Effect.UNDECIDED, bars_electronic=True
    )


def is_known(letter: str) -> bool:
    """Tell whether the table has the letter."""
    return letter in LETTERS
