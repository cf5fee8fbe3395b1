"""The registry's own log, put together: its writer, its anchor and the marks that stop it.

One mark tells the other processes of this start; another, beside the keys, tells every
later start that the registry signed two histories, or that its database reported damage:
after that nothing is signed until the log has been read from the disk again and is whole.
While the log is in doubt, decisions may be missing: nobody is told that a licence is valid, and
nothing is erased.  Whether the database lacks what was signed is found out anew each time.
A lone writer that only ended, by a fault of its own, leaves the log whole: answers stay true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from elicense.clock import SECOND_US
from elicense.errors import DataLoss, EpochClosed, Error, LogBehind, LogForked, StoreCorrupt
from elicense.log.anchor import Anchor
from elicense.log.check import LogKeys
from elicense.log.checkpoint import log_verifier_key
from elicense.log.metrics import LogMetrics
from elicense.log.writer import LogWriter
from elicense.trust.spiffe import registry_id
from elicense.workers.place import STOP_MARK
from elicense.workers.stop_mark import StopMark
from registry.board import Outcome
from registry.decider import Command, RegistryDecider
from registry.given_back import GivenBack
from registry.ground import Ground
from registry.history import is_sound, open_key, own_doubt
from registry.names import registry_origin
from registry.replay import Replay
from registry.transfer_decider import TransferDecider

_log = structlog.stdlib.get_logger(__name__)


class OwnLog:
    """The log of the registry's decisions, as one process writes it.

    Args:
        ground: What the registry stands on.
        say_ready: Called when this process decides nothing more, and when it goes on: tells whoever asks or follows.

    Attributes:
        anchor: The head that was signed last.
        writer: Writes the log.
    """

    def __init__(self, ground: Ground, *, say_ready: Callable[[bool], Coroutine[Any, Any, None]]) -> None:
        self._ground = ground
        config, place, clock = ground.config, ground.place, ground.clock
        origin = registry_origin(ground.trust_domain, ground.own_key.epoch)
        self._say_ready = say_ready
        self._compared = False
        self._signed_by = LogKeys(origin, log_verifier_key(origin, ground.keys.log.public_key()), None)
        self._mark = None if place.folder is None else StopMark(place.folder / STOP_MARK, clock)
        # What nothing here can put right must outlive a restart: no witness beside the database tells of it.
        self._kept = StopMark(config.stop_mark_path, clock)
        self._running: set[asyncio.Task[None]] = set()
        self.anchor = Anchor(config.anchor_path, origin)
        self._transfers = TransferDecider(store=ground.store, persons=ground.keys.persons, log_is_whole=self.is_whole)
        self._decider = RegistryDecider(
            store=ground.store,
            transfers=self._transfers,
            actor=str(registry_id(ground.trust_domain)),
            lease_us=config.limits.claim_lease_minutes * 60 * SECOND_US,
            conflict_us=config.limits.conflict_days * 86_400 * SECOND_US,
            clock=clock,
        )
        self.writer: LogWriter[Command, Outcome] = LogWriter(
            database=ground.database,
            log_store=ground.store.logs,
            key=ground.own_key,
            signer=ground.keys.log,
            origin=origin,
            decider=self._decider,
            clock=clock,
            random=ground.random,
            metrics=LogMetrics(ground.metrics),
            on_fatal=self._stop_signing,
            before_answer=self.anchor.keep,
            signed_before=self.anchor.last,
        )

    def is_whole(self) -> bool:
        """Whether the log is whole, as far as this start of the registry knows: only then it is told who has a licence.

        Asked inside transactions; another process may have found the log in doubt a moment ago.
        """
        return self.writer.last_signed is not None and not self.lacks_decisions()

    def lacks_decisions(self) -> bool:
        """Whether decisions may be missing of the log: it is in doubt, or was not compared yet since the start.

        Whatever the doubt is: a registry that signed two histories lacks what it decided in the other one, and one
        whose database reports damage does not know what it holds.
        """
        if not self._compared or self.writer.failure is not None:
            return True
        return self._mark is not None and self._mark.read() is not None

    async def look_at_mark(self) -> None:
        """Stop signing once another process of the registry had to, and go on once the log is whole again."""
        reason = None if self._mark is None else self._mark.read()
        if reason is not None:
            self.writer.halt(reason)
        # Whoever left that mark may have ended since, or have compared before the last decision came back.
        if isinstance(reason or self.writer.failure, LogBehind):
            await self.go_on()

    def given_back(self, *, on_change: Callable[[], None]) -> GivenBack:
        """Return what takes the log back from the cities that mirror it.

        Args:
            on_change: Called after something was brought back.
        """
        ground = self._ground
        return GivenBack(
            database=ground.database,
            store=ground.store,
            key=ground.own_key,
            public_key=ground.keys.log.public_key(),
            trust_domain=ground.trust_domain,
            anchor=self.anchor,
            replay=Replay(
                store=ground.store, decider=self._decider, transfers=self._transfers, persons=ground.keys.persons
            ),
            deciding=self,
            on_change=on_change,
        )

    def stop(self, reason: DataLoss) -> None:
        """Decide nothing more."""
        if isinstance(reason, LogForked):
            # Whoever has stopped for less forgets nothing of it: what cities give back does not put this right.
            self._keep(self._kept, reason)
        self.writer.halt(reason)

    async def require_open(self) -> None:
        """Refuse once the epoch that this process was put together for is not the open one any more.

        Raises:
            EpochClosed: The next one was opened meanwhile.
            StoreUnavailable: The database is away.
            StoreCorrupt: The log is missing.
        """
        ground = self._ground
        found = await ground.database.read(lambda conn: open_key(conn, ground.store.logs))
        if found != ground.own_key:
            raise EpochClosed(
                f"epoch {found.epoch} of the registry's log was opened while this process started; start it again",
                openEpoch=found.epoch,
            )

    async def doubt(self) -> Error | None:
        """Return why the registry must decide nothing; None when it may.

        Raises:
            StoreUnavailable: The database is away.
            StoreCorrupt: Its own log is missing, or the head contradicts itself.
        """
        ground, kept = self._ground, self._kept.read()
        own = partial(is_sound, logs=ground.store.logs, key=ground.own_key, keys=self._signed_by)
        if isinstance(kept, StoreCorrupt) and await ground.database.read(own):
            await asyncio.to_thread(self._kept.clear)
            _log.info("log_is_whole")
            kept = None
        if kept is not None:
            return kept
        doubt = await ground.database.read(lambda conn: own_doubt(conn, ground.store.logs, ground.own_key, self.anchor))
        self._compared = self._compared or doubt is None
        return doubt

    async def go_on(self) -> bool:
        """Decide again if the database holds everything that was signed; tell whether it does.

        Raises:
            StoreUnavailable: The database is away.
        """
        doubt = await self.doubt()
        if not isinstance(self.writer.failure, LogBehind):
            return doubt is None
        if doubt is not None:
            # Another process may have taken the mark away, which compared before a later head was shown.
            self._tell_processes(doubt)
            return False
        if self._mark is not None:
            if not isinstance(self._mark.read(), LogBehind | None):
                return False  # another process found something worse meanwhile
            self._mark.clear()
        await self.writer.resume()
        await self._say_ready(True)
        _log.info("deciding_again")
        return True

    def _stop_signing(self, error: Error) -> None:
        # A registry that must not sign is of no use to cities; verifiers are told to go elsewhere too.
        _log.error("signing_stopped", reason=error.reason)
        self._tell_processes(error)
        if isinstance(error, LogForked | StoreCorrupt):
            self._keep(self._kept, error)
        task = asyncio.get_running_loop().create_task(self._say_ready(False))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _tell_processes(self, error: Error) -> None:
        """Leave the mark of this start."""
        # What is missing, a process that writes finds out by itself; one that only verifies need not stop it.
        if self._mark is not None and (self._ground.place.writes or not isinstance(error, LogBehind)):
            self._keep(self._mark, error)

    @staticmethod
    def _keep(mark: StopMark, error: Error) -> None:
        held = mark.read()
        # What is missing may come back, and damage may turn out to be none; that two histories were signed stays true.
        missing = isinstance(held, LogBehind) and not isinstance(error, LogBehind)
        if held is None or missing or (isinstance(error, LogForked) and not isinstance(held, LogForked)):
            with suppress(OSError):
                mark.set(error)
