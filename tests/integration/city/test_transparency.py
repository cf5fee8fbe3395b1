"""What a city node shows of its own log: to the city's people no head younger than the full minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from city_node.keys import load_keys as load_city_keys
from elicense import errors
from elicense.clock import utc_micros
from elicense.log.checkpoint import log_verifier_key, open_checkpoint
from elicense.log.merkle import verify_consistency
from elicense.rpc.channel import secure_channel
from elicense.trust.enrollment import city_log_origin
from elicense.v1 import transparency_pb2 as pb
from elicense.v1 import transparency_pb2_grpc
from tests.support.cluster import DEADLINE_S, SUZHOU, TRUST_DOMAIN, call, drivers, run_cluster

LOG = pb.LogName(city=SUZHOU, epoch=1)
MINUTE_US = 60_000_000


async def test_a_clerk_sees_the_head_of_the_last_full_minute_and_proves_that_it_grows(tmp_path: Path) -> None:
    start = utc_micros()
    # The whole test happens within one minute, until it says otherwise.
    offset = [-start % MINUTE_US]

    def clock() -> int:
        return start + offset[0]

    async with run_cluster(tmp_path, SUZHOU, clock=clock) as cluster:
        city = cluster.cities[SUZHOU]
        people = list(drivers(SUZHOU, 3))
        origin = city_log_origin(TRUST_DOMAIN, SUZHOU, 1)
        key = log_verifier_key(origin, load_city_keys(city.config, random=bytes).log.of(1).public_key())
        async with secure_channel(city.clerk_credentials, retries=False, local_pool=True) as channel:
            stub = transparency_pb2_grpc.TransparencyServiceStub(channel)

            async def head() -> tuple[int, bytes]:
                answer = await call(stub.GetCheckpoint(pb.GetCheckpointRequest(log=LOG), timeout=DEADLINE_S))
                opened = open_checkpoint(answer.checkpoint, origin=origin, key=key)
                return opened.size, opened.root

            await city.issue(people[0])
            with pytest.raises(errors.NotFound):
                await head()
            offset[0] += MINUTE_US
            first = await head()
            await city.issue(people[1])
            await city.issue(people[2])
            assert await head() == first
            offset[0] += MINUTE_US
            second = await head()
            assert (first[0], second[0]) == (1, 3)
            request = pb.GetConsistencyProofRequest(log=LOG, first=1, second=3)
            proof = (await call(stub.GetConsistencyProof(request, timeout=DEADLINE_S))).hashes
            verify_consistency(first=1, first_root=first[1], second=3, second_root=second[1], proof=proof)
            with pytest.raises(errors.NotFound):
                await call(stub.GetHeadVector(pb.GetHeadVectorRequest(), timeout=DEADLINE_S))
