from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
import structlog
from prometheus_client import CollectorRegistry

from elicense.rpc.telemetry import WRITE_BYTES, LineMetrics, LineWriter, Stamp, configure_logging, describe_exception


@pytest.fixture
def logged() -> Iterator[tuple[io.StringIO, LineWriter]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    writer = LineWriter(stream)
    configure_logging(writer)
    yield stream, writer
    writer.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(logged: tuple[io.StringIO, LineWriter]) -> list[dict[str, object]]:
    logged[1].flush()
    return [json.loads(line) for line in logged[0].getvalue().splitlines()]


def test_instants_are_written_to_the_microsecond() -> None:
    now = [1_622_505_600_000_001]
    stamp = Stamp(lambda: now[0])
    assert stamp() == "2021-06-01T00:00:00.000001Z"
    now[0] += 1_000_000
    assert stamp() == "2021-06-01T00:00:01.000001Z"


def test_closing_a_writer_writes_every_line() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, interval_s=3600)
    for i in range(1000):
        writer.write(str(i))
    writer.close()
    assert stream.getvalue().splitlines() == [str(i) for i in range(1000)]


class Writes(io.StringIO):
    """An output that keeps each write by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def write(self, text: str) -> int:
        self.parts.append(text)
        return len(text)


@pytest.mark.parametrize("character", ["x", "市"])
@pytest.mark.parametrize(
    "sizes", [[10] * 1_000, [WRITE_BYTES - 1] * 3, [WRITE_BYTES] * 3, [5, 3 * WRITE_BYTES, 5, 5], [0, 0, 4_095, 0]]
)
def test_a_write_holds_whole_lines_and_no_more_than_a_pipe_takes_at_once(sizes: list[int], character: str) -> None:
    stream = Writes()
    writer = LineWriter(stream, interval_s=3600)
    written = [character * size for size in sizes]
    for line in written:
        writer.write(line)
    writer.close()
    assert "".join(stream.parts) == "".join(f"{line}\n" for line in written)
    for part in stream.parts:
        assert part.endswith("\n")
        assert len(part.encode()) <= WRITE_BYTES or part.count("\n") == 1
    together = [len((one + other).encode()) for one, other in pairwise(stream.parts)]
    assert all(size > WRITE_BYTES for size in together)


def test_both_kinds_of_logger_write_json_lines(logged: tuple[io.StringIO, LineWriter]) -> None:
    structlog.stdlib.get_logger("a").info("started", city=320500)
    logging.getLogger("b").warning("plain %s", "text")
    logging.getLogger("b").debug("not written")
    first, second = lines(logged)
    assert (first["event"], first["city"], first["level"], first["logger"]) == ("started", 320500, "info", "a")
    assert (second["event"], second["level"], second["logger"]) == ("plain text", "warning", "b")


def test_a_logged_exception_keeps_its_message_to_itself(logged: tuple[io.StringIO, LineWriter]) -> None:
    try:
        raise ValueError("Li Si 320501199001011234")
    except ValueError:
        logging.getLogger("b").exception("failed")
        structlog.stdlib.get_logger("a").exception("failed")
    for line in lines(logged):
        assert "Li Si" not in json.dumps(line)
        assert line["raised"] == ["builtins.ValueError"]
        assert line["frames"]


def test_the_causes_of_an_exception_are_named() -> None:
    try:
        try:
            raise KeyError("secret")
        except KeyError as error:
            raise RuntimeError("secret") from error
    except RuntimeError as error:
        described = describe_exception(error)
    assert described["raised"] == ["builtins.RuntimeError", "builtins.KeyError"]
    assert "secret" not in str(described)


class FullDisk(io.StringIO):
    """Refuses to write while it is full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True
        self.refused = threading.Event()

    def write(self, text: str, /) -> int:
        if self.full:
            self.refused.set()
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_the_log_goes_on_after_a_write_that_failed_and_the_metrics_tell() -> None:
    stream, metrics = FullDisk(), CollectorRegistry()
    writer = LineWriter(stream, interval_s=0.001)
    LineMetrics(writer, metrics)
    writer.write("lost")
    assert stream.refused.wait(10)
    stream.full = False
    writer.write("kept")
    writer.close()
    assert stream.getvalue() == "kept\n"
    assert metrics.get_sample_value("elicense_log_lines_dropped_total") == 1
    assert metrics.get_sample_value("elicense_log_writes_failed_total") == 1
