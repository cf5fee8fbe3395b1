"""Every method of a server, each in its wrapping, behind one handler.

Generated code would also register each method with the server by itself.  The
server of grpc.aio then waits for a call of each, and at every call that comes sets
up and takes down the wait for all of them.  Behind one generic handler it waits for
the next call, whatever it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elicense.rpc.interceptor import NodeInterceptor

    _Handler = grpc.RpcMethodHandler[Any, Any]


class Methods(grpc.GenericRpcHandler):
    """What generated ``add_*_to_server`` functions take for a server.

    Args:
        interceptor: What stands before every method; each is wrapped once, when it is added.
    """

    def __init__(self, interceptor: NodeInterceptor) -> None:
        self._interceptor = interceptor
        self._handlers: dict[str, _Handler] = {}

    def add_generic_rpc_handlers(self, _handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add nothing: the same methods come by name."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, _Handler]) -> None:
        """Add the methods of a service."""
        for method, handler in method_handlers.items():
            name = f"/{service_name}/{method}"
            self._handlers[name] = self._interceptor.wrap(name, handler)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        """Return the wrapped handler of a method; None, as gRPC has it, when there is no such method."""
        return self._handlers.get(handler_call_details.method)
