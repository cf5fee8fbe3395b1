"""Adding to verdicts what a role may see: the step between judging and answering, on every node."""

from __future__ import annotations

from collections.abc import Sequence

from elicense.log.model import StoredEntry
from elicense.v1 import log_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.given import add_fields, add_standing, gives_with, reads_record
from elicense.verification.look import Look
from elicense.view.fold import read_record
from elicense.view.model import ViewRow
from elicense.view.records import RecordReader


class LicenseFields:
    """Gives fields out of the view, or out of the record where the role sees more.

    Args:
        records: Reads records.
    """

    def __init__(self, records: RecordReader) -> None:
        self._records = records

    async def close(self) -> None:
        """Wait for running reads."""
        await self._records.close()

    async def give(self, look: Look, judged: Sequence[tuple[pb.Verdict, ViewRow]]) -> pb.ProvedRecord | None:
        """Add to each verdict the fields that the look gets.

        Args:
            look: Who looks, and what it gets.
            judged: Verdicts of licences that match what was asked, with their rows.

        Returns:
            The record with its proof, where the look is at one licence and gets it.

        Raises:
            StoreCorrupt: A record is not where the view says.
            StoreUnavailable: The database is away.
        """
        shown = [(given, row) for given, row in judged if gives_with(look.rule, given.outcome)]
        if not shown or not look.fields:
            return None
        if not reads_record(look):
            for given, row in shown:
                add_standing(given, row.standing, look.fields)
            return None
        entries = await self._records.latest([row for _, row in shown])
        for (given, _), entry in zip(shown, entries, strict=True):
            if entry.record is not None:  # None: erased, there is nothing to see any more
                add_fields(given, read_record(entry.record).license, look.fields)
        if look.with_record and len(shown) == 1:
            return await self._proved(shown[0][1], entries[0])
        return None

    async def _proved(self, row: ViewRow, entry: StoredEntry) -> pb.ProvedRecord | None:
        proof = await self._records.proof(row)
        if proof is None or entry.record is None:
            return None
        return pb.ProvedRecord(
            entry=log_pb2.LogEntry(record=entry.record, salt=entry.salt or b""),
            proof=log_pb2.InclusionProof(
                position=log_pb2.LogPosition(city=row.city, epoch=row.epoch, index=row.idx),
                checkpoint=proof.checkpoint,
                hashes=proof.hashes,
            ),
        )
