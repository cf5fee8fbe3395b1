"""The reference of every row: a bare call on the same server stack.

The same credentials, options, event loop and message sizes as a node; no
interceptor, no parsing, and an answer that lies ready.  A request begins with
the size of the answer that it wants.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import grpc

from elicense.rpc.server import SERVER_OPTIONS, ReloadingCredentials, run, stop_on_signals

SERVICE: Final = "elicense.bench.Echo"
METHOD: Final = f"/{SERVICE}/Call"
_SIZE_BYTES: Final = 4


def request_of(size: int, answer_size: int) -> bytes:
    """Return a request of a size that wants an answer of another.

    Args:
        size: Bytes of the request, at least 4.
        answer_size: Bytes of the answer.
    """
    return answer_size.to_bytes(_SIZE_BYTES, "big").ljust(size, b"\0")


async def _call(request: bytes, _context: Any) -> bytes:
    return bytes(int.from_bytes(request[:_SIZE_BYTES], "big"))


async def _serve(credentials: Path, listen: str) -> int:
    stop = stop_on_signals()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Call": grpc.unary_unary_rpc_method_handler(_call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)  # as generated code does
    server.add_secure_port(listen, ReloadingCredentials(credentials).server_credentials())
    await server.start()
    await stop.wait()
    await server.stop(None)
    return 0


@click.command()
@click.option("--credentials", required=True, type=click.Path(path_type=Path, file_okay=False), help="Of a node.")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where to listen.")
def main(credentials: Path, listen: str) -> None:
    """Answer bare calls until SIGTERM."""
    run(lambda: _serve(credentials, listen))


if __name__ == "__main__":
    main()
