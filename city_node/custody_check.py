"""What the log and the registry's feed together say of custody: for the check of everything that is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from city_node.custody import ACCEPTED, AWAY, ENDS, LATE, NOT_IN_CUSTODY, REFUSED, gone, notice
from city_node.store import StoredDisposition
from city_node.transfer_store import Direction, HandOver, HandOverState
from elicense.license.verdict import ViewFlags
from elicense.log.check import Finding
from elicense.v1 import license_pb2
from elicense.view.model import ViewRow

_Place = tuple[int, int]
_Key = tuple[bytes, int, int, int, int]


@dataclass(slots=True)
class CustodyFold:
    """Folds feed and log into what should be stored; the feed first.

    Attributes:
        city: Division code of this city.
        states: What the registry decided on take-overs, by epoch and index.
        void: Records that were written after custody had moved away.
        flag_words: (licence, kind) of the words that count for flags, in order.
        away: Where licences have moved, by licence.
    """

    city: int
    states: dict[_Place, HandOverState] = field(default_factory=dict)
    void: set[_Place] = field(default_factory=set)
    flag_words: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    away: dict[bytes, int] = field(default_factory=dict)
    _departures: list[tuple[bytes, _Place]] = field(default_factory=list)
    _hand_overs: dict[_Key, tuple[int, HandOverState]] = field(default_factory=dict)
    _undone: set[_Place] = field(default_factory=set)
    _withdrawn: dict[_Key, _Place] = field(default_factory=dict)

    def hear(self, word: StoredDisposition) -> None:
        """Fold one word of the feed."""
        place = (word.epoch, word.idx)
        if word.kind == ACCEPTED:
            if self.states.get(place) is HandOverState.DONE:
                return
            self.states[place] = HandOverState.DONE
            # Whatever a licence counted for before it moved away is over.
            self.flag_words.pop(word.license_id, None)
            self.away.pop(word.license_id, None)
        elif word.kind == REFUSED:
            if self.states.get(place) is HandOverState.DONE:
                self._undone.add(place)
                self.away[word.license_id] = word.other_city or 0
            self.states[place] = HandOverState.REFUSED
        elif word.kind == AWAY:
            # Said again by a registry that was set back, it says nothing new.
            if (word.license_id, place) not in self._departures:
                self.away[word.license_id] = word.other_city or 0
                self._departures.append((word.license_id, place))
        elif word.kind == LATE:
            made = notice(word)
            self._hand_overs[made.place] = made.other_city, HandOverState.OPEN
        elif word.kind == NOT_IN_CUSTODY and word.license_id in self.away:
            self.void.add(place)
        else:
            self.flag_words[word.license_id].append(word.kind)

    def arrives(self, record: license_pb2.LicenseRecord, index: int) -> bool:
        """Fold a take-over; return whether it brought custody here."""
        state = self.states.get((record.epoch, index), HandOverState.OPEN)
        key = (record.license_id, int(Direction.IN), self.city, record.epoch, index)
        self._hand_overs[key] = record.taken_over_from.city, state
        return state is HandOverState.DONE or (record.epoch, index) in self._undone

    def wrote(self, record: license_pb2.LicenseRecord, index: int) -> None:
        """Fold any other record."""
        if record.event == license_pb2.LICENSE_EVENT_TRANSFERRED_OUT:
            key = (record.license_id, int(Direction.OUT), self.city, record.epoch, index)
            self._hand_overs[key] = record.license.offered_to_city, HandOverState.OPEN
        elif record.event in ENDS:
            for key in self._offers(record.license_id):
                other, state = self._hand_overs[key]
                if state is HandOverState.OPEN:
                    self._hand_overs[key] = other, ENDS[record.event]
                    self._withdrawn[key] = record.epoch, index

    def moved(self, rows: Mapping[bytes, ViewRow]) -> dict[bytes, ViewRow]:
        """Return the rows of licences that have moved away, or whose recall is confirmed, as they should stand."""
        recalled = {key[0] for key, (_, state) in self._hand_overs.items() if state is HandOverState.RECALLED}
        confirmed = {key[0] for key in self._withdrawn} - recalled
        stand = {
            license_id: replace(rows[license_id], flags=rows[license_id].flags & ~int(ViewFlags.RECALLED))
            for license_id in confirmed
            if license_id in rows
        }
        away = {
            license_id: gone(rows[license_id], to_city)
            for license_id, to_city in self.away.items()
            if license_id in rows
        }
        return stand | away

    def settle(self, stored: Iterable[HandOver], confirmed: _Place) -> None:
        """End hand-overs as the feed says, once feed and log are folded.

        Args:
            stored: The list of hand-overs.  Where a recall is confirmed by the receipt alone, it says whether
                the whole feed had come by then.
            confirmed: Epoch and number of entries under the registry's latest receipt.
        """
        for license_id, place in self._departures:
            self._depart(license_id, place)
        listed = {each.place: each.state for each in stored}
        for key, (other, _) in self._hand_overs.items():
            # That a clerk has dealt with a notice stands in the list alone.
            if key[1] == Direction.LATE and listed.get(key) == HandOverState.DONE:
                self._hand_overs[key] = other, HandOverState.DONE
        for key, place in self._withdrawn.items():
            other, state = self._hand_overs[key]
            ended = listed.get(key) == HandOverState.WITHDRAWN
            if state is HandOverState.RECALLED and ended and place < confirmed:
                self._hand_overs[key] = other, HandOverState.WITHDRAWN

    def compare(self, stored: Iterable[HandOver]) -> list[Finding]:
        """Compare with what is stored, once all is settled."""
        # As numbers: a damaged one may be none that there is.
        held: dict[_Key, tuple[int, int]] = {each.place: (each.other_city, each.state) for each in stored}
        wrong = {key[0] for key in held.keys() | self._hand_overs.keys() if held.get(key) != self._hand_overs.get(key)}
        what = "its hand-overs stand otherwise in the list than in the log and the feed"
        return [Finding(f"license {UUID(bytes=license_id)}", what) for license_id in sorted(wrong)]

    def _depart(self, license_id: bytes, last: _Place) -> None:
        """Let the offer that was taken up be done, and those that came after it be void."""
        offers = sorted(self._offers(license_id), key=lambda key: key[3:])
        taken = [key for key in offers if key[3:] <= last]
        for key in taken[-1:]:
            self._hand_overs[key] = self._hand_overs[key][0], HandOverState.DONE
        later = [key for key in offers if key[3:] > last and key[3:] in self.void]
        for key in later:
            other, state = self._hand_overs[key]
            if state in (HandOverState.OPEN, HandOverState.RECALLED):
                self._hand_overs[key] = other, HandOverState.WITHDRAWN

    def _offers(self, license_id: bytes) -> list[_Key]:
        return [key for key in self._hand_overs if key[:2] == (license_id, int(Direction.OUT))]
