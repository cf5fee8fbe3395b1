"""The registry as a node: enrolment, health, roles, revocation, configuration, metrics."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

from elicense import errors
from elicense.clock import utc_micros
from elicense.config import ConfigInvalid
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.tree import EMPTY_ROOT
from elicense.rpc.channel import secure_channel
from elicense.trust.signer import generate_key_file
from elicense.trust.spiffe import city_id
from elicense.trust.token import parse_token
from elicense.v1 import verification_pb2
from elicense.workers.node_lock import NodeBusy, alone
from elicense.workers.stop_mark import StopMark
from registry.app import build
from registry.cli import main
from registry.config import MetricsSection, load
from registry.init import Plan, initialize
from registry.keys import load_keys
from registry.serving import SERVICES
from tests.integration.registry.world import SUZHOU, TIANJIN, TRUST_DOMAIN, Verifier, World, set_up
from tests.support.city import enroll

NUMBER = "11010519491231002X"


async def test_a_city_learns_every_key_when_it_joins(world: World, tmp_path: Path) -> None:
    signer = generate_key_file(tmp_path / "log.pem")
    _, answer = await enroll(await world.token(str(city_id(TRUST_DOMAIN, SUZHOU))), signer, SUZHOU)
    assert answer.registry_log_key.startswith(f"{TRUST_DOMAIN}/registry/1+")
    assert answer.registry_cosigner_key.startswith(f"{TRUST_DOMAIN}/registry/cosigner+")
    assert answer.subject_key == world.keys.subject_key
    assert len(answer.authority_chain) == 2


async def test_a_city_must_prove_that_it_holds_the_key_of_its_log(world: World, tmp_path: Path) -> None:
    signer, stranger = generate_key_file(tmp_path / "log.pem"), generate_key_file(tmp_path / "other.pem")
    origin = f"{TRUST_DOMAIN}/city/{SUZHOU}/1"
    note = sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), stranger)
    token = await world.token(str(city_id(TRUST_DOMAIN, SUZHOU)))
    with pytest.raises(errors.SignatureInvalid):
        await enroll(token, signer, SUZHOU, log_possession_note=note)
    # The token is not spent by a request that was refused.
    await enroll(token, signer, SUZHOU)


async def test_a_city_that_is_enrolled_can_not_be_enrolled_with_another_key(world: World) -> None:
    city = await world.city(SUZHOU)
    city.issue(NUMBER)
    await city.replicate()
    with pytest.raises(errors.AlreadyExists):
        await world.city(SUZHOU)
    assert (await city.state()).next_index == 1


async def test_every_service_is_serving_once_the_node_is_ready(world: World) -> None:
    city = await world.city(SUZHOU)
    async with secure_channel(city.credentials) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", *SERVICES):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_registry_on_which_a_command_works_starts_once_that_has_ended(world: World) -> None:
    await world.node.stop(grace_s=0)
    world.node = await build(world.config, clock=world.clock)
    with alone(world.config.node.data_dir), pytest.raises(NodeBusy, match="start it once that has ended"):
        await world.node.start()
    await world.node.start()


async def test_a_registry_that_was_put_together_for_an_epoch_that_has_ended_does_not_start(world: World) -> None:
    await world.node.stop(grace_s=0)
    StopMark(world.config.stop_mark_path, utc_micros).set(errors.StoreCorrupt("its database reported damage"))
    world.node = await build(world.config, clock=world.clock)
    command = ["allow-signing", "--yes", "--config", f"{world.config.node.data_dir}/config.toml"]
    allowed = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert "in epoch 2" in allowed.output
    with pytest.raises(errors.EpochClosed, match="epoch 2 of the registry's log was opened while"):
        await world.node.start()
    await world.restart()
    city = await world.city(SUZHOU)
    await city.claim(NUMBER)


async def test_a_revoked_city_is_refused_within_a_second(world: World) -> None:
    city, other = await world.city(SUZHOU), await world.city(TIANJIN)
    await city.state()
    config = str(world.config.node.data_dir / "config.toml")
    outcome = CliRunner().invoke(main, ["revoke", str(city.credentials.subject), "--config", config])
    assert outcome.output == "1 certificate revoked\n"
    world.clock.advance(seconds=1)
    with pytest.raises(errors.Unauthenticated):
        await city.state()
    await other.state()


async def test_a_wrong_field_is_named(world: World) -> None:
    city = await world.city(SUZHOU)
    with pytest.raises(errors.Malformed) as refusal:
        await city.send(city.batch(0, first_index=-1))
    assert [violation.field for violation in refusal.value.violations] == ["first_index"]
    with pytest.raises(errors.Malformed) as refusal:
        await city.claim(NUMBER, license_ids=[b"short"])
    assert [violation.field for violation in refusal.value.violations] == ["claims[0].license_id"]


async def test_a_batch_of_more_than_three_mebibytes_is_refused(world: World) -> None:
    city = await world.city(SUZHOU)
    for _ in range(60):
        city.append(secrets.token_bytes(60_000))
    with pytest.raises(errors.Malformed, match="in parts"):
        await city.send(city.batch(0))


async def test_a_look_is_in_the_access_log_before_it_is_answered(world: World) -> None:
    verifier = await world.verifier()
    await verifier.ask(NUMBER)
    await verifier.channel.close()
    with closing(sqlite3.connect(world.config.node.data_dir / "access.db")) as access:
        rows = access.execute("SELECT caller, role, case_number, subjects FROM access").fetchall()
    subject = world.keys.subjects.person_key(1, NUMBER)
    assert rows == [(f"spiffe://{TRUST_DOMAIN}/verifier/police/test", "police", "case-1", subject)]


async def test_a_city_asks_for_the_verifiers_that_it_enrolled_and_for_no_others(world: World) -> None:
    city = await world.city(SUZHOU)
    verifier = Verifier(secure_channel(city.credentials, retries=False))
    with pytest.raises(errors.Malformed):
        await verifier.ask(NUMBER)
    own = f"spiffe://{TRUST_DOMAIN}/city/{SUZHOU}/verifier/police/station"
    assert (await verifier.ask(NUMBER, behalf=own)).outcome == verification_pb2.OUTCOME_NO_MATCH
    for path in (f"city/{TIANJIN}/verifier/police/station", "verifier/police/station"):
        with pytest.raises(errors.CallerNotAllowed):
            await verifier.ask(NUMBER, behalf=f"spiffe://{TRUST_DOMAIN}/{path}")
    await verifier.channel.close()


def test_init_makes_a_folder_that_others_can_not_read(tmp_path: Path) -> None:
    config = set_up(tmp_path / "registry")
    secrets_held = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and (path.suffix in (".key", ".pem") and "chain" not in path.name and path.name != "root.pem")
    ]
    assert len(secrets_held) == 8
    for path in secrets_held:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(config.node.data_dir.stat().st_mode) == 0o700


def test_init_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    plan = Plan(data_dir=tmp_path, trust_domain=TRUST_DOMAIN, listen="127.0.0.1:0")
    with pytest.raises(errors.AlreadyExists):
        initialize(plan, clock=utc_micros, random=secrets.token_bytes)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_init_names_every_wrong_option(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(
        main, ["init", "--data", str(tmp_path / "new"), "--trust-domain", "Not Good", "--listen", "nowhere"]
    )
    assert outcome.exit_code == 1
    assert "node.trust_domain" in outcome.output
    assert "node.listen" in outcome.output
    assert not (tmp_path / "new").exists()


def test_a_misspelt_or_wrong_key_of_the_configuration_is_named(tmp_path: Path) -> None:
    config = set_up(tmp_path / "registry")
    path = config.node.data_dir / "config.toml"
    path.write_text(path.read_text().replace("listen =", "lisen =") + '\n[limits]\nclaim_lease_minutes = "soon"\n')
    with pytest.raises(ConfigInvalid) as refusal:
        load(path)
    fields = {violation.field for violation in refusal.value.violations}
    assert fields == {"node.listen", "node.lisen", "limits.claim_lease_minutes"}


def test_check_config_says_what_is_wrong_and_with_which_key(tmp_path: Path) -> None:
    config = set_up(tmp_path / "registry")
    path = str(config.node.data_dir / "config.toml")
    assert CliRunner().invoke(main, ["check-config", "--config", path]).exit_code == 0
    config.index_key.chmod(0o644)
    outcome = CliRunner().invoke(main, ["check-config", "--config", path])
    assert outcome.exit_code == 1
    assert "keys.index: index.key is open to others" in outcome.output


def test_check_config_names_every_missing_key_and_store_at_once(tmp_path: Path) -> None:
    config = set_up(tmp_path / "registry")
    path = config.node.data_dir / "config.toml"
    (config.keys_dir / "log.pem").unlink()
    config.subject_key.unlink()
    path.write_text(path.read_text().replace("access.db", "missing/access.db"))
    outcome = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert outcome.exit_code == 1
    named = {line.split(":")[0].strip() for line in outcome.output.splitlines()[1:]}
    assert named == {"keys.log", "keys.subject", "access_log.url"}


def test_a_token_is_one_line_for_whom_it_names(tmp_path: Path) -> None:
    config = set_up(tmp_path / "registry")
    path = str(config.node.data_dir / "config.toml")
    for words, subject in (
        (["city", "320500"], "/city/320500"),
        (["verifier", "rental", "shouqi"], "/verifier/rental/shouqi"),
        (["operator", "wang"], "/operator/wang"),
        (["auditor", "li"], "/auditor/li"),
    ):
        outcome = CliRunner().invoke(main, ["token", *words, "--config", path, "--valid", "30m"])
        assert outcome.exit_code == 0, outcome.output
        assert str(parse_token(outcome.output).subject) == f"spiffe://{TRUST_DOMAIN}{subject}"
    for words in (["city", "999999"], ["operator", "a b"]):
        assert CliRunner().invoke(main, ["token", *words, "--config", path]).exit_code == 1


def test_keys_are_never_printed(tmp_path: Path) -> None:
    config = set_up(tmp_path / "registry")
    keys = load_keys(config, random=secrets.token_bytes)
    assert repr(keys.subject_key) not in repr(keys)
    assert keys.subject_key.hex() not in json.dumps(repr(keys))


async def test_a_call_without_a_certificate_is_refused(world: World) -> None:
    city = await world.city(SUZHOU)
    plain = grpc.aio.secure_channel(
        city.credentials.address,
        grpc.ssl_channel_credentials(city.credentials.root_pem),
        options=[("grpc.ssl_target_name_override", city.credentials.server_name)],
    )
    async with plain:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await health_pb2_grpc.HealthStub(plain).Check(health_pb2.HealthCheckRequest())
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_metrics_of_each_city_are_shown_to_whoever_has_a_certificate(world: World) -> None:
    city = await world.city(SUZHOU)
    city.issue(NUMBER)
    await city.replicate()
    metrics = MetricsSection(listen="127.0.0.1:0")
    world.config = world.config.model_copy(update={"metrics": metrics})
    await world.restart()
    city.issue("44052418800101001X")
    await city.replicate()
    folder = world.config.credentials_dir
    tls = ssl.create_default_context(cafile=str(folder / "root.pem"))
    tls.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    text = await asyncio.to_thread(_fetch, world.node.metrics_port or 0, tls)
    for line in (
        'elicense_replication_lag_entries{city="320500"} 0.0',
        'elicense_replication_entries_total{city="320500"} 1.0',
        "elicense_replication_batch_entries_count 1.0",
        "elicense_log_size",
        'grpc_method="AppendEntries"',
    ):
        assert line in text
    assert NUMBER not in text
    tls = ssl.create_default_context(cafile=str(folder / "root.pem"))
    with pytest.raises(OSError):
        await asyncio.to_thread(_fetch, world.node.metrics_port or 0, tls)


def _fetch(port: int, tls: ssl.SSLContext) -> str:
    # Prometheus checks the name of the certificate as any client does.
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        tls.wrap_socket(plain, server_hostname=f"registry.{TRUST_DOMAIN}") as connection,
    ):
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


def test_an_address_in_use_is_one_line_and_status_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        plan = Plan(
            data_dir=tmp_path / "registry", trust_domain=TRUST_DOMAIN, listen=f"127.0.0.1:{taken.getsockname()[1]}"
        )
        path = initialize(plan, clock=utc_micros, random=secrets.token_bytes)
        words = [sys.executable, "-c", "from registry.cli import main; main()", "serve", "--config", str(path)]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    errors_shown = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert len(errors_shown) == 1
    assert "is it in use?" in errors_shown[0]
    assert "Traceback" not in ended.stderr


def test_init_never_takes_over_a_database_in_use(tmp_path: Path) -> None:
    first = set_up(tmp_path / "first")
    before = Path(first.database.url.removeprefix("sqlite:///")).read_bytes()
    plan = Plan(
        data_dir=tmp_path / "second",
        trust_domain=TRUST_DOMAIN,
        listen="127.0.0.1:0",
        database_url=first.database.url,
    )
    with pytest.raises(errors.AlreadyExists):
        initialize(plan, clock=utc_micros, random=secrets.token_bytes)
    assert not (tmp_path / "second" / "config.toml").exists()
    assert Path(first.database.url.removeprefix("sqlite:///")).read_bytes() == before


def test_an_init_that_failed_can_be_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    words = ["init", "--data", str(folder), "--trust-domain", TRUST_DOMAIN, "--listen", "127.0.0.1:0"]
    wrong = CliRunner().invoke(main, [*words, "--database", "mysql://somewhere"])
    assert wrong.exit_code == 1
    assert not folder.exists()
    away = CliRunner().invoke(main, [*words, "--database", f"sqlite:///{tmp_path / 'missing' / 'registry.db'}"])
    assert away.exit_code == 1
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 0, again.output
    assert CliRunner().invoke(main, words).exit_code == 1
    assert CliRunner().invoke(main, ["check-config", "--config", str(folder / "config.toml")]).exit_code == 0


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["init", "--trust-domain", TRUST_DOMAIN, "--listen", "127.0.0.1:0"]
    for path in (tmp_path / "file" / "registry", tmp_path / "q?x#y"):
        outcome = CliRunner().invoke(main, [*words, "--data", str(path)])
        assert (outcome.exit_code, outcome.output.count("\n")) == (1, 1), outcome.output
        assert outcome.output.startswith("error: ")
