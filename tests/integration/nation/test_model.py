"""Several cities, partitions and restarts in any order: what must hold after every single step.

Hypothesis picks the steps.  A model of what each step should answer would be the
rules written twice; what is checked instead are the promises themselves:

- no two licences of a person verify VALID, whichever nodes are asked, and under whichever of their numbers;
- once every partition is over, all nodes agree, and both sides' views are what their logs say.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from city_node.cli import main as city_main
from elicense import errors
from elicense.errors import Error
from elicense.v1 import conflict_pb2 as cpb
from elicense.v1 import conflict_pb2_grpc, license_pb2, log_pb2, transfer_pb2_grpc
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import transfer_pb2 as tpb
from registry.cli import main as registry_main
from tests.integration.city.test_issuance import suspension
from tests.integration.nation.world import ANSWER_S, CITIES, NUMBERS, PERSONS, Answer, Drivers, Nation
from tests.support.cluster import DEADLINE_S, City, call, eventually

T = TypeVar("T")

REFUSALS = (errors.AlreadyExists, errors.NotFound, errors.Refused, errors.Unavailable, errors.Aborted)
"""What a city may answer to a step that is not legal, or not possible now."""


POSITIONS = (log_pb2.CONFLICT_POSITION_CONTEST, log_pb2.CONFLICT_POSITION_WITHDRAW)
PEOPLE = st.integers(0, PERSONS - 1)
WHICH = st.integers(0, NUMBERS - 1)
CODES = st.sampled_from(CITIES)
PICKS = st.integers(0, 20)


class History(RuleBasedStateMachine):
    """What happens to the persons of one example; subclassed with the nation that it happens in."""

    nation: ClassVar[Nation]
    runner: ClassVar[asyncio.Runner]
    seeds: ClassVar[Iterator[int]]

    def __init__(self) -> None:
        super().__init__()
        self.people = Drivers(next(self.seeds))
        self.licenses: list[tuple[int, str]] = []

    def _do(self, pending: Awaitable[T]) -> T | None:
        async def tried() -> T | None:
            try:
                return await call(pending)
            except REFUSALS:
                return None

        return self.runner.run(tried())

    def _patience(self, code: int) -> float:
        """How long a clerk waits; one whose city falls silent leaves, and what was begun may still happen."""
        return ANSWER_S if self.nation.wires[code].holding else DEADLINE_S

    def silent(self) -> bool:
        return any(wire.holding for wire in self.nation.wires.values())

    def _license(self, pick: int) -> tuple[City, str] | None:
        if not self.licenses:
            return None
        code, name = self.licenses[pick % len(self.licenses)]
        return self.nation.city(code), name

    @initialize(codes=st.lists(CODES, min_size=PERSONS, max_size=PERSONS))
    def everybody_applies(self, codes: list[int]) -> None:
        for person, code in enumerate(codes):
            self.issue(person, code)

    @rule(person=PEOPLE, code=CODES, number=WHICH)
    def apply_where_nobody_can_ask(self, person: int, code: int, number: int) -> None:
        self.nation.wires[code].hold()
        self.issue(person, code, number)

    @rule(person=PEOPLE, code=CODES, number=WHICH)
    def issue(self, person: int, code: int, number: int = 0) -> None:
        done = self._do(self.nation.city(code).issue(self.people.form(person, code, number)))
        if done is not None:
            self.licenses.append((code, done.license.name))

    @rule(pick=PICKS, letter=st.sampled_from("DHIF"))
    def restrict(self, pick: int, letter: str) -> None:
        self._set_status(pick, add_letters=[suspension(letter)])

    @rule(pick=PICKS, letter=st.sampled_from("DHI"))
    def lift(self, pick: int, letter: str) -> None:
        self._set_status(pick, lift_letters=[letter])

    def _set_status(self, pick: int, **fields: Any) -> None:
        found = self._license(pick)
        if found is not None:
            city, name = found
            request = pb.SetStatusRequest(name=name, request_id=str(uuid.uuid4()), **fields)
            self._do(city.issuance().SetStatus(request, timeout=DEADLINE_S))

    @rule(pick=PICKS)
    def correct_the_letters(self, pick: int) -> None:
        """Take back every letter as a mistake, that of a revocation and its bar too."""
        found = self._license(pick)
        if found is None:
            return
        city, name = found
        current = self._do(city.issuance().GetLicense(pb.GetLicenseRequest(name=name), timeout=DEADLINE_S))
        if current is not None:
            request = pb.CorrectLicenseRequest(
                name=name, corrects_revision=current.revision, reason="written to another driver's file"
            )
            request.update_mask.paths.append("status_letters")
            request.request_id = str(uuid.uuid4())
            self._do(city.issuance().CorrectLicense(request, timeout=DEADLINE_S))

    @rule(pick=PICKS, after_a_mistake=st.booleans())
    def renew(self, pick: int, after_a_mistake: bool) -> None:
        if after_a_mistake:
            self.correct_the_letters(pick)
        found = self._license(pick)
        if found is not None:
            city, name = found
            request = pb.RenewLicenseRequest(name=name, request_id=str(uuid.uuid4()))
            self._do(city.issuance().RenewLicense(request, timeout=DEADLINE_S))

    @rule(pick=PICKS, person=PEOPLE, number=WHICH)
    def change_the_number(self, pick: int, person: int, number: int) -> None:
        """Mostly to a number of the driver's own; to that of somebody else too."""
        found = self._license(pick)
        if found is None:
            return
        city, name = found
        current = self._do(city.issuance().GetLicense(pb.GetLicenseRequest(name=name), timeout=DEADLINE_S))
        document = self.people.document(person, number)
        request = pb.ChangeIdentityRequest(
            name=name, document=document, legal_basis="Article 21", request_id=str(uuid.uuid4())
        )
        done = self._do(city.issuance().ChangeIdentity(request, timeout=self._patience(city.code)))
        if done is not None and current is not None:
            self.people.link(current.holder.document, document)

    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        found = self._license(pick)
        if found is not None:
            city, name = found
            request = pb.CancelLicenseRequest(
                name=name, request_id=str(uuid.uuid4()), legal_basis="asked by the holder"
            )
            if self._do(city.issuance().CancelLicense(request, timeout=DEADLINE_S)) is not None:
                # The steps to come are for those that stand.
                self.licenses.remove((city.code, name))

    @rule(pick=PICKS, code=CODES)
    def offer(self, pick: int, code: int) -> None:
        found = self._license(pick)
        if found is not None and found[0].code != code:
            city, name = found
            stub = transfer_pb2_grpc.TransferServiceStub(city.channel())
            request = tpb.OfferTransferRequest(
                name=name, to_city=code, legal_basis="Article 21", request_id=str(uuid.uuid4())
            )
            self._do(stub.OfferTransfer(request, timeout=DEADLINE_S))

    @rule(pick=PICKS)
    def take_the_offer_back(self, pick: int) -> None:
        found = self._license(pick)
        if found is not None:
            city, name = found
            stub = transfer_pb2_grpc.TransferServiceStub(city.channel())
            request = tpb.WithdrawTransferRequest(name=name, legal_basis="Article 21", request_id=str(uuid.uuid4()))
            self._do(stub.WithdrawTransfer(request, timeout=DEADLINE_S))

    @rule(pick=PICKS, code=CODES)
    def move(self, pick: int, code: int) -> None:
        self.offer(pick, code)
        self.take_over(pick, code)

    @rule(pick=PICKS, code=CODES)
    def take_over(self, pick: int, code: int) -> None:
        found = self._license(pick)
        if found is not None:
            city, name = self.nation.city(code), found[1]
            stub = transfer_pb2_grpc.TransferServiceStub(city.channel())
            request = tpb.AcceptTransferRequest(
                parent=city.parent, license=name, legal_basis="Article 21", request_id=str(uuid.uuid4())
            )
            done = self._do(stub.AcceptTransfer(request, timeout=self._patience(code)))
            if done is not None:
                self.licenses.append((code, done.license.name))

    @rule(pick=PICKS, code=CODES, position=st.sampled_from(POSITIONS))
    def speak_to_a_conflict(self, pick: int, code: int, position: log_pb2.ConflictPosition) -> None:
        stub = conflict_pb2_grpc.ConflictServiceStub(self.nation.city(code).channel())
        inbox = self._do(stub.ListConflicts(cpb.ListConflictsRequest(), timeout=self._patience(code)))
        if inbox is not None and inbox.conflicts:
            conflict = inbox.conflicts[pick % len(inbox.conflicts)]
            request = cpb.StatePositionRequest(name=conflict.name, position=position, grounds="as the file shows")
            self._do(stub.StatePosition(request, timeout=self._patience(code)))

    @rule(pick=PICKS, waiting=st.booleans())
    def decide_a_conflict(self, pick: int, waiting: bool) -> None:
        channel = self.nation.channel_of_the_operator
        stub = conflict_pb2_grpc.ConflictServiceStub(channel)
        inbox = self._do(stub.ListConflicts(cpb.ListConflictsRequest(), timeout=DEADLINE_S))
        if inbox is not None and inbox.conflicts:
            conflict = inbox.conflicts[pick % len(inbox.conflicts)]
            side = conflict.waiting if waiting else conflict.counting
            request = cpb.DecideConflictRequest(
                name=conflict.name, standing_license=side.license, basis="the earlier application"
            )
            ruling = conflict_pb2_grpc.ConflictRulingServiceStub(channel)
            self._do(ruling.DecideConflict(request, timeout=DEADLINE_S))

    @rule(code=CODES)
    def fall_silent(self, code: int) -> None:
        self.nation.wires[code].hold()

    @precondition(lambda self: self.silent())
    @rule(code=CODES)
    def speak_again(self, code: int) -> None:
        self.nation.wires[code].heal()

    @precondition(lambda self: self.silent())
    @rule(code=CODES)
    def catch_up(self, code: int) -> None:
        self.nation.wires[code].heal()
        self.runner.run(self.nation.city(code).replicated())

    @rule(code=CODES)
    def restart(self, code: int) -> None:
        async def again() -> None:
            await self.nation.city(code).stop()
            await self.nation.city(code).start()

        if not self.nation.wires[code].holding:
            self.runner.run(again())

    @invariant()
    def nobody_has_two_licenses_that_verify(self) -> None:
        async def asked() -> list[dict[int, Answer | None]]:
            documents = self.people.documents()
            return await asyncio.gather(*(self.nation.everywhere(document) for document in documents))

        answers = self.runner.run(asked())
        for numbers in self.people.persons():
            valid = {answer.license for each in numbers for answer in answers[each].values() if answer is not None}
            assert len(valid) <= 1, [answers[each] for each in numbers]

    def teardown(self) -> None:
        async def agreed() -> None:
            await self.nation.heal()
            for document in self.people.documents():

                async def same(document: license_pb2.IdentityDocument = document) -> bool:
                    answers = await self.nation.everywhere(document)
                    return len(set(answers.values())) == 1

                await eventually(same)

        self.runner.run(agreed())


def test_the_promises_hold_after_every_step_of_any_history(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        nation = runner.run(Nation.found(tmp_path))
        try:
            run_state_machine_as_test(
                type("AnyHistory", (History,), {"nation": nation, "runner": runner, "seeds": count(1_000)}),
                settings=settings(
                    max_examples=5,
                    stateful_step_count=25,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    # Each step is a call to real nodes: what fails is shown whole rather than made shorter for minutes.
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
            runner.run(nation.heal())
        finally:
            with suppress(Error):
                runner.run(nation.close())
    configs = [(registry_main, tmp_path / "registry"), *((city_main, tmp_path / str(code)) for code in CITIES)]
    for main, folder in configs:
        checked = CliRunner().invoke(main, ["fsck", "--config", str(folder / "config.toml"), "--json"])
        assert checked.exit_code == 0, checked.output
        assert json.loads(checked.output.splitlines()[-1])["findings"] == []
