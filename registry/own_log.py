"""The registry's own log, put together: its writer, its anchor and the mark that stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from elicense.clock import SECOND_US
from elicense.errors import Error
from elicense.log.anchor import Anchor
from elicense.log.metrics import LogMetrics
from elicense.log.writer import LogWriter
from elicense.trust.spiffe import registry_id
from elicense.workers.place import STOP_MARK
from elicense.workers.stop_mark import StopMark
from registry.board import Outcome
from registry.decider import Command, RegistryDecider
from registry.ground import Ground
from registry.names import registry_origin
from registry.transfer_decider import TransferDecider

_log = structlog.stdlib.get_logger(__name__)


class OwnLog:
    """The log of the registry's decisions, as one process writes it.

    Args:
        ground: What the registry stands on.
        set_ready: Tells callers whether this process serves.

    Attributes:
        anchor: The head that was signed last.
        writer: Writes the log.
    """

    def __init__(self, ground: Ground, *, set_ready: Callable[[bool], Coroutine[Any, Any, None]]) -> None:
        config, place, clock = ground.config, ground.place, ground.clock
        origin = registry_origin(ground.trust_domain, ground.own_key.epoch)
        self._set_ready = set_ready
        self._mark = None if place.folder is None else StopMark(place.folder / STOP_MARK, clock)
        self._running: set[asyncio.Task[None]] = set()
        self.anchor = Anchor(config.anchor_path, origin)
        self.writer: LogWriter[Command, Outcome] = LogWriter(
            database=ground.database,
            log_store=ground.store.logs,
            key=ground.own_key,
            signer=ground.keys.log,
            origin=origin,
            decider=RegistryDecider(
                store=ground.store,
                transfers=TransferDecider(store=ground.store, persons=ground.keys.persons),
                actor=str(registry_id(ground.trust_domain)),
                lease_us=config.limits.claim_lease_minutes * 60 * SECOND_US,
                conflict_us=config.limits.conflict_days * 86_400 * SECOND_US,
                clock=clock,
            ),
            clock=clock,
            random=ground.random,
            metrics=LogMetrics(ground.metrics),
            on_fatal=self._stop_signing,
            before_answer=self.anchor.keep,
            signed_before=self.anchor.last,
        )

    async def look_at_mark(self) -> None:
        """Stop signing once another process of the registry had to: one is reason enough for all."""
        if self._mark is not None and (reason := self._mark.read()) is not None:
            self.writer.halt(reason)

    def _stop_signing(self, error: Error) -> None:
        # A registry that must not sign is of no use to cities; verifiers are told to go elsewhere too.
        _log.error("signing_stopped", reason=error.reason)
        if self._mark is not None and self._mark.read() is None:
            with suppress(OSError):
                self._mark.set(error)
        task = asyncio.get_running_loop().create_task(self._set_ready(False))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
