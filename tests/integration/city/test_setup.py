"""Joining, configuration and the clerk's commands."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from google.protobuf.json_format import MessageToJson

from city_node import setup
from city_node.cli import main
from city_node.config import load_city_config
from city_node.store import access_metadata, metadata
from elicense import errors
from elicense.cli.main import main as elicense_main
from elicense.config import ConfigInvalid
from elicense.sql.migrations import differences, upgrade
from elicense.sql.schema import check_rules
from elicense.trust.spiffe import SpiffeId, city_id
from elicense.trust.x509 import chain_from_pem
from elicense.v1 import issuance_pb2 as pb
from tests.support.cluster import DEADLINE_S, SUZHOU, TIANJIN, TRUST_DOMAIN, City, Cluster, call, drivers
from tests.support.stores import EmptyStore


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_the_schema_keeps_the_rules_that_every_engine_needs() -> None:
    assert check_rules(metadata) == []
    assert check_rules(access_metadata) == []


def test_migrations_lead_to_exactly_the_tables_of_the_code(empty_store: EmptyStore) -> None:
    if empty_store.engine == "postgresql-partitioned":
        pytest.skip("partitions are made from the metadata, not by a migration")
    upgrade(empty_store.url, "city_node")
    assert differences(empty_store.url, metadata) == []


async def test_a_token_for_another_kind_of_bearer_makes_no_city(cluster: Cluster, tmp_path: Path) -> None:
    token = await cluster.national_token(SpiffeId(TRUST_DOMAIN, ("verifier", "police", "highway")))
    plan = setup.Plan(token=token, data_dir=tmp_path / "x", listen="127.0.0.1:0")
    with pytest.raises(errors.Malformed, match="not for a city node"):
        await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)


async def test_a_folder_with_a_node_is_not_joined_again(cluster: Cluster, suzhou: City) -> None:
    token = await cluster.national_token(city_id(TRUST_DOMAIN, SUZHOU))
    plan = setup.Plan(token=token, data_dir=suzhou.folder, listen="127.0.0.1:0")
    with pytest.raises(errors.AlreadyExists):
        await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)


async def test_a_join_whose_answer_was_lost_is_given_again(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await cluster.national_token(city_id(TRUST_DOMAIN, TIANJIN))
    plan = setup.Plan(token=token, data_dir=tmp_path / "tianjin", listen="127.0.0.1:0")

    def cut(*_: object) -> None:
        raise errors.StoreUnavailable("cut off after the registry has answered")

    with monkeypatch.context() as patched:
        patched.setattr(setup, "_keep_answer", cut)
        with pytest.raises(errors.StoreUnavailable):
            await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)
    assert not (plan.data_dir / "config.toml").exists()
    config = (await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)).config
    assert config.city.code == TIANJIN
    assert not list(config.keys_dir.glob("joining-*"))
    assert {path.stat().st_mode & 0o777 for path in config.keys_dir.iterdir() if path.is_file()} == {0o600}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"listen": "nonsense"}, "node.listen"),
        ({"listen": "127.0.0.1:99999"}, "node.listen"),
        ({"metrics": "127.0.0.1:x"}, "metrics.listen"),
        ({"database_url": "mysql://u:secret@host/x"}, "must start with"),
    ],
)
async def test_a_join_that_can_not_be_right_writes_nothing_and_leaves_the_token_good(
    cluster: Cluster, tmp_path: Path, wrong: dict[str, str], field: str
) -> None:
    token = await cluster.national_token(city_id(TRUST_DOMAIN, TIANJIN))
    plan = setup.Plan(token=token, data_dir=tmp_path / "tianjin", listen="127.0.0.1:0")
    with pytest.raises(errors.Malformed) as refused:
        await asyncio.to_thread(setup.join, replace(plan, **wrong), random=secrets.token_bytes)  # type: ignore[arg-type]
    assert field in str(refused.value)
    assert "secret" not in str(refused.value)
    assert not plan.data_dir.exists()
    assert (await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)).config.city.code == TIANJIN


async def test_a_join_given_again_with_another_address_asks_for_that_one(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await cluster.national_token(city_id(TRUST_DOMAIN, TIANJIN))
    plan = setup.Plan(token=token, data_dir=tmp_path / "tianjin", listen="wrong.example:7500")

    def away(*_: object) -> None:
        raise errors.PeerUnreachable("cut off before the registry has heard")

    with monkeypatch.context() as patched:
        patched.setattr(setup, "_enroll", away)
        with pytest.raises(errors.PeerUnreachable):
            await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)
    plan = replace(plan, listen="right.example:7500")
    config = (await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)).config
    leaf = chain_from_pem((config.credentials_dir / "chain.pem").read_bytes())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "right.example" in names.get_values_for_type(x509.DNSName)
    assert "wrong.example" not in names.get_values_for_type(x509.DNSName)


async def test_a_database_with_a_log_is_adopted_by_no_other_node(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    await suzhou.issue(wanted)
    for code, url in (
        (SUZHOU, suzhou.config.database_url),
        (TIANJIN, suzhou.config.database_url),
        (TIANJIN, cluster.registry_config.database.url),
    ):
        token = await cluster.national_token(city_id(TRUST_DOMAIN, code))
        plan = setup.Plan(token=token, data_dir=tmp_path / "again", listen="127.0.0.1:0", database_url=url)
        with pytest.raises(errors.AlreadyExists, match="holds the log of a node"):
            await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)


async def test_a_folder_may_have_any_name(cluster: Cluster, tmp_path: Path) -> None:
    token = await cluster.national_token(city_id(TRUST_DOMAIN, TIANJIN))
    plan = setup.Plan(token=token, data_dir=tmp_path / "q?x#y %41 市", listen="127.0.0.1:0")
    config = (await asyncio.to_thread(setup.join, plan, random=secrets.token_bytes)).config
    assert (plan.data_dir / "city.db").exists()
    assert run("check-config", "--config", str(plan.data_dir / "config.toml")).exit_code == 0
    assert config.data_dir == plan.data_dir


async def test_every_problem_of_a_configuration_is_named_at_once(suzhou: City, tmp_path: Path) -> None:
    text = (suzhou.folder / "config.toml").read_text()
    wrong = tmp_path / "config.toml"
    wrong.write_text(text.replace('trust_domain = "', 'trust_domain = "X ') + "\n[limits]\nheartbeet_seconds = 3\n")
    with pytest.raises(ConfigInvalid) as refused:
        load_city_config(wrong)
    assert {violation.field for violation in refused.value.violations} == {
        "node.trust_domain",
        "limits.heartbeet_seconds",
    }
    # Well formed, but in a folder without any key.
    wrong.write_text(text)
    result = run("check-config", "--config", str(wrong))
    assert result.exit_code == 1
    for missing in ("log.pem", "index.key", "subject.key"):
        assert missing in result.output or "key file does not exist" in result.output
    assert run("check-config", "--config", str(suzhou.folder / "config.toml")).exit_code == 0


async def test_check_config_opens_every_store_and_names_all_that_is_wrong(suzhou: City, tmp_path: Path) -> None:
    text = (suzhou.folder / "config.toml").read_text()
    wrong = suzhou.folder / "wrong.toml"
    wrong.write_text(
        text + '\n[access_log]\nurl = "sqlite:////nowhere/access.db"\n\n[keys]\nlog = "file:/nowhere/log.pem"\n'
    )
    result = run("check-config", "--config", str(wrong))
    assert result.exit_code == 1
    assert "access_log.url" in result.output
    assert "keys.log" in result.output


async def test_a_port_that_can_not_be_one_is_no_configuration(suzhou: City) -> None:
    text = (suzhou.folder / "config.toml").read_text()
    wrong = suzhou.folder / "wrong.toml"
    wrong.write_text(text.replace('listen = "127.0.0.1:0"', 'listen = "127.0.0.1:99999"'))
    with pytest.raises(ConfigInvalid) as refused:
        load_city_config(wrong)
    assert [each.field for each in refused.value.violations] == ["node.listen"]


async def test_input_in_another_encoding_is_an_error_in_one_line(suzhou: City, tmp_path: Path) -> None:
    file = tmp_path / "license.json"
    file.write_bytes('{"holder": "张"}'.encode("gb18030"))
    base = ("--credentials", str(suzhou.clerk))
    for result in (
        run("issue", str(file), *base),
        CliRunner().invoke(
            elicense_main,
            ["verify", "-", "--purpose", "window-service", *base],
            input=b"\xff\xfe\n",
        ),
        CliRunner().invoke(elicense_main, ["verify", "1\udcff", "--purpose", "window-service", *base]),
    ):
        assert result.exit_code == 1
        assert result.output.startswith("error: ")
        assert "not UTF-8" in result.output


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:99999"])
async def test_an_address_that_can_not_be_one_is_a_wrong_command(suzhou: City, address: str) -> None:
    result = run("list", "--credentials", str(suzhou.clerk), "--address", address)
    assert result.exit_code == 2
    assert "host:port" in result.output


@pytest.mark.parametrize("which", ["metrics", "node"])
async def test_a_port_in_use_is_an_error_in_one_line(suzhou: City, which: str) -> None:
    await suzhou.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = suzhou.folder / "busy.toml"
        text = (suzhou.folder / "config.toml").read_text()
        if which == "metrics":
            text += f'\n[metrics]\nlisten = "127.0.0.1:{port}"\n'
        busy.write_text(text if which == "metrics" else text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "city_node.cli", "serve", "--config", str(busy)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "PEER_UNREACHABLE" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


async def test_a_clerk_issues_shows_changes_and_lists_from_the_command_line(suzhou: City, tmp_path: Path) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    file = tmp_path / "license.json"
    file.write_text(MessageToJson(wanted))
    base = ("--credentials", str(suzhou.clerk), "--address", suzhou.running.address)

    async def clerk(*arguments: str) -> Result:
        result = await asyncio.to_thread(run, *arguments, *base)
        assert result.exit_code == 0, result.output
        return result

    assert "nothing stands against it" in (await clerk("issue", str(file), "--check-only")).output
    issued = json.loads((await clerk("issue", str(file), "--json")).output)
    name = issued["license"]["name"]
    assert name in (await clerk("show", name.rpartition("/")[2])).output
    changed = await clerk("set-status", name, "--add", "D", "--basis", "道路交通安全法 第九十一条")
    assert "letters   D" in changed.output
    assert len((await clerk("revisions", name)).output.splitlines()) == 2
    assert name in (await clerk("list")).output
    again = await asyncio.to_thread(run, "issue", str(file), *base)
    assert again.exit_code == 1
    assert "LICENSE_EXISTS" in again.output
    assert wanted.holder.document.number not in again.output


async def test_status_shows_how_far_the_registry_is_behind(cluster: Cluster, suzhou: City) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await cluster.stop_registry()
    await suzhou.issue(second)
    result = await asyncio.to_thread(run, "status", "--config", str(suzhou.folder / "config.toml"), "--json")
    shown = json.loads(result.output.splitlines()[-1])
    assert (shown["log_size"], shown["confirmed_size"], shown["backlog"]) == (2, 1, 1)


async def test_a_revoked_clerk_can_do_nothing_any_more(suzhou: City) -> None:
    stub = suzhou.issuance()
    await call(stub.ListLicenses(pb.ListLicensesRequest(parent=suzhou.parent), timeout=DEADLINE_S))
    subject = str(suzhou.clerk_credentials.subject)
    result = await asyncio.to_thread(run, "revoke", subject, "--config", str(suzhou.folder / "config.toml"))
    assert result.exit_code == 0, result.output
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await call(stub.ListLicenses(pb.ListLicensesRequest(parent=suzhou.parent), timeout=DEADLINE_S))
            except errors.Unauthenticated:
                break
