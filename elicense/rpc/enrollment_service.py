"""The enrolment service over gRPC: hands the caller and the request to the use case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elicense.rpc.context import current_caller
from elicense.v1 import enrollment_pb2, enrollment_pb2_grpc

if TYPE_CHECKING:
    import grpc

    from elicense.trust.enrollment import Enrollment

SERVICE_NAME = enrollment_pb2.DESCRIPTOR.services_by_name["EnrollmentService"].full_name


class EnrollmentServicer(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Adapter of :class:`~elicense.trust.enrollment.Enrollment`.

    Args:
        enrollment: The use case.
    """

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment

    async def Enroll(
        self, request: enrollment_pb2.EnrollRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> enrollment_pb2.EnrollResponse:
        """Sign the joiner's keys; see the proto."""
        return await self._enrollment.enroll(current_caller(), request)
