"""What a node says about itself: JSON lines, and the metrics port.

A log line is a string put into a list; one thread writes what has gathered.  No
line ever holds request data.
"""

from __future__ import annotations

import json
import logging
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from elicense.errors import PeerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

LINE_INTERVAL_S: Final = 0.1
"""How long a log line may wait before it is written."""

MAX_WAITING_LINES: Final = 100_000
"""Lines kept while the output is blocked; beyond it lines are dropped and counted, never waited for."""

WRITE_BYTES: Final = 4096
"""Most that is written at once (PIPE_BUF): workers of one node share an output, and a line must stay whole."""


class LineWriter:
    """Writes lines from one daemon thread, so that nobody waits for the output.

    Args:
        stream: Where lines go.
        interval_s: How long lines gather before they are written.
    """

    def __init__(self, stream: TextIO, *, interval_s: float = LINE_INTERVAL_S) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._lines: list[str] = []
        self._stop = threading.Event()
        self._flushing = threading.Lock()
        self.dropped = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line; the newline is added here."""
        lines = self._lines
        if len(lines) >= MAX_WAITING_LINES:
            self.dropped += 1
            return
        lines.append(line)

    def flush(self) -> None:
        """Write what has gathered, now."""
        with self._flushing:
            # Cut by count: other threads may append meanwhile, and only at the end.
            count = len(self._lines)
            if not count:
                return
            lines = self._lines[:count]
            del self._lines[:count]
            try:
                for part in _parts(lines):
                    self._stream.write(part)
                    self._stream.flush()
            except (OSError, ValueError):
                self.dropped += count
                raise

    def close(self) -> None:
        """Write what has gathered and end the thread."""
        self._stop.set()
        self._thread.join()
        try:
            self.flush()
        except (OSError, ValueError):
            self.failed += 1

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.flush()
            except (OSError, ValueError):
                # A full disk or a reader that went away: the next lines may get through, and the count tells.
                self.failed += 1


def _parts(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines with their ends, as many together as one write may hold; a longer one is alone."""
    data = ("\n".join(lines) + "\n").encode()
    start, end = 0, len(data)
    while start < end:
        # Behind the last line that ends within what one write holds, or else behind the first of all.
        cut = data.rfind(b"\n", start, start + WRITE_BYTES) + 1 or data.index(b"\n", start) + 1
        yield data[start:cut].decode()
        start = cut


class LineMetrics(Collector):
    """Tells of log lines that never reached their output, which the log itself can not.

    Args:
        writer: Whose lines.
        registry: Where to register.
    """

    def __init__(self, writer: LineWriter, registry: CollectorRegistry) -> None:
        self._writer = writer
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they stand; called by the thread that serves the metrics port."""
        yield CounterMetricFamily("elicense_log_lines_dropped", "Lines dropped", value=self._writer.dropped)
        yield CounterMetricFamily(
            "elicense_log_writes_failed", "Writes of lines that failed", value=self._writer.failed
        )


class Stamp:
    """Formats instants as RFC 3339; remembers the second, since calls come thick.

    Args:
        clock: UTC microseconds.
    """

    __slots__ = ("_clock", "_prefix", "_second")

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._second = -1
        self._prefix = ""

    def __call__(self) -> str:
        """Return now as text."""
        second, micros = divmod(self._clock(), 1_000_000)
        if second != self._second:
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._second = second
        return f"{self._prefix}{micros:06d}Z"


def describe_exception(error: BaseException) -> dict[str, Any]:
    """Return an exception's type and frames, and those of its causes, without a word of their messages.

    The message of an unexpected exception may quote the data that upset it, and
    that data may be a holder's.
    """
    types: list[str] = []
    frames: list[str] = []
    current: BaseException | None = error
    while current is not None and len(types) < 8:
        types.append(f"{type(current).__module__}.{type(current).__qualname__}")
        step = current.__traceback__
        while step is not None and len(frames) < 64:
            code = step.tb_frame.f_code
            frames.append(f"{step.tb_frame.f_globals.get('__name__', '?')}:{code.co_name}:{step.tb_lineno}")
            step = step.tb_next
        current = current.__cause__ or current.__context__
    return {"raised": types, "frames": frames}


def _hide_exception(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event.update(describe_exception(error))
    return event


class _LineHandler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(self.format(record))


def configure_logging(writer: LineWriter, *, level: str = "INFO") -> None:
    """Send structlog's and the standard library's records to ``writer`` as JSON lines.

    Args:
        writer: Where lines go.
        level: Name of the lowest level that is written.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _hide_exception,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _LineHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=to_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def to_json(value: object, **_: object) -> str:
    """Return ``value`` as one compact line of JSON; what JSON does not know becomes its type's name."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=lambda other: type(other).__name__)


class MetricsServer:
    """The metrics port of one process; only clients with a certificate below our root may read it.

    Args:
        registry: What to show.
        host: Address to listen on.
        port: Port, or 0 for any that is free.
        credentials: Folder with key, chain and root; None serves in the clear, for a loopback address alone.

    Raises:
        PeerUnreachable: The address can not be listened on.
    """

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int, credentials: Path | None) -> None:
        tls: dict[str, Any] = {}
        if credentials is not None:
            tls = {
                "certfile": str(credentials / "chain.pem"),
                "keyfile": str(credentials / "key.pem"),
                "client_cafile": str(credentials / "root.pem"),
                "client_auth_required": True,
                "tls_min_version": ssl.TLSVersion.TLSv1_3,
            }
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry, **tls)
        except OSError as error:
            raise PeerUnreachable(
                f"the metrics port {host}:{port} can not be listened on: {error.strerror}; is it in use?"
            ) from error

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
