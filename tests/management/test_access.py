"""Who may do what."""

from __future__ import annotations

import pytest

from raft_engine.errors import ConfigError
from raft_engine.management.access import Role, Security, Token, allowed_hosts, hash_token, host_name, load_tokens
from raft_engine.management.kv_routes import KV_ENDPOINTS
from raft_engine.management.openapi import DESCRIPTION
from raft_engine.management.routes import ENDPOINTS

TOKENS = {Role.READ: "r" * 32, Role.OPERATE: "o" * 32, Role.ADMIN: "a" * 32}


def secured(hosts: frozenset[str] = frozenset({"testserver"})) -> Security:
    tokens = (Token(role, str(role), bytes.fromhex(hash_token(text)[7:])) for role, text in TOKENS.items())
    return Security(hosts=hosts, tokens=tuple(tokens))


@pytest.mark.parametrize("row", [*ENDPOINTS, DESCRIPTION, *KV_ENDPOINTS], ids=lambda row: f"{row.method} {row.path}")
@pytest.mark.parametrize("given", [None, *TOKENS], ids=str)
async def test_every_endpoint_is_closed_to_every_role_below_its_own(node, app, client, row, given):
    node.security = secured()
    app.context.stopping = row.path == "/v1/events"  # the stream then ends after the first event
    headers = {"content-type": "application/json"}
    if given is not None:
        headers["authorization"] = f"Bearer {TOKENS[given]}"
    reply = await client.request(row.method, row.path.replace("{key}", "k").replace("{id}", "3"), headers=headers)
    if row.role is Role.OPEN or (given is not None and given >= row.role):
        assert reply.status_code not in {401, 403}
        return
    assert (401 if given is None else 403) == reply.status_code
    assert ("unauthorized" if given is None else "forbidden") == reply.json()["code"]
    assert node.calls == []
    assert node.raft.trigger.calls == []
    assert node.raft.now.applied.index == 12


async def test_the_roles_are_those_of_the_contract():
    role_of = {(row.method, row.path): row.role for row in (*ENDPOINTS, *KV_ENDPOINTS)}
    for trigger in ("heartbeat", "snapshot", "elect", "transfer-leader"):
        assert Role.OPERATE is role_of["POST", f"/v1/trigger/{trigger}"]
    for path in (
        "/v1/trigger/purge-log",
        "/v1/trigger/allow-next-revert",
        "/v1/node/wipe",
        "/v1/node/restore",
        "/v1/node/stop-raft",
        "/v1/init",
    ):
        assert Role.ADMIN is role_of["POST", path]
    assert all(role <= Role.READ for (method, _), role in role_of.items() if method == "GET")
    assert all(role >= Role.OPERATE for (method, _), role in role_of.items() if method != "GET")


@pytest.mark.parametrize("sent", ["Bearer wrong", "Bearer", "Basic " + "a" * 32, "a" * 32, "Bearer " + "a" * 31, ""])
async def test_anything_but_a_known_bearer_token_is_401_and_says_how_to_send_one(node, client, sent):
    node.security = secured()
    reply = await client.get("/v1/status", headers={"authorization": sent})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "a" * 31 not in reply.text


async def test_the_bearer_scheme_is_not_case_sensitive(node, client):
    node.security = secured()
    reply = await client.get("/v1/status", headers={"authorization": "bearer " + TOKENS[Role.READ]})
    assert reply.status_code == 200


@pytest.mark.parametrize("path", ["/v1/status", "/v1/kv/k", "/livez", "/nowhere"])
async def test_an_origin_is_refused_everywhere(client, path):
    reply = await client.get(path, headers={"origin": "http://testserver"})
    assert (reply.status_code, reply.json()["code"]) == (403, "origin_refused")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9101", "testserver.evil.example", "[::2]:80", ""])
async def test_a_foreign_host_is_refused(client, host):
    reply = await client.get("/v1/kv/k", headers={"host": host})
    assert (reply.status_code, reply.json()["code"]) == (403, "host_refused")


@pytest.mark.parametrize("host", ["testserver", "TESTSERVER:1234", "testserver.", "127.0.0.1:9101", "localhost"])
async def test_a_host_of_the_list_is_answered_on_any_port(client, host):
    assert (await client.get("/livez", headers={"host": host})).status_code == 200


def test_a_loopback_endpoint_answers_for_all_names_of_the_machine_itself():
    hosts = allowed_hosts("127.0.0.1:9101", "http://127.0.0.1:9101")
    assert {"127.0.0.1", "localhost", "::1"} == hosts


def test_an_endpoint_on_all_addresses_answers_only_for_what_is_advertised_and_listed():
    hosts = allowed_hosts("0.0.0.0:9101", "https://n1.example:9101/", ["Alias.Example"])
    assert {"n1.example", "alias.example"} == hosts


@pytest.mark.parametrize(
    ("authority", "host"), [("A.b:1", "a.b"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("h", "h"), ("", ""), (":80", "")]
)
def test_the_host_is_cut_out_of_an_authority(authority, host):
    assert host == host_name(authority)


def write(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_token_file_holds_roles_names_and_hashes(tmp_path):
    text = f"# who\n\nread  grafana  {hash_token('one')}\nadmin alice {hash_token('two')}\n"
    tokens = load_tokens(write(tmp_path / "tokens", text))
    security = Security(hosts=frozenset(), tokens=tokens)
    assert [(token.role, token.name) for token in tokens] == [(Role.READ, "grafana"), (Role.ADMIN, "alice")]
    assert Role.READ is security.role_of(b"one")
    assert Role.ADMIN is security.role_of(b"two")
    assert security.role_of(b"three") is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no token"),
        ("# nothing\n", "has no token"),
        ("read me\n", "line 1: 2 words"),
        ("root me sha256:00\n", "the role is none of"),
        ("read me SECRETSECRET\n", "not the token itself"),
        ("read me sha256:00\n", "64 hex digits"),
        ("read me sha256:" + "z" * 64, "64 hex digits"),
    ],
)
def test_a_bad_token_file_is_refused_without_quoting_it(tmp_path, text, complaint):
    with pytest.raises(ConfigError, match=complaint) as refused:
        load_tokens(write(tmp_path / "tokens", text))
    assert "SECRET" not in str(refused.value)


def test_a_token_file_that_others_may_write_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="chmod go-w"):
        load_tokens(write(tmp_path / "tokens", f"read me {hash_token('x')}\n", 0o622))


def test_a_missing_token_file_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tokens(tmp_path / "nowhere")
