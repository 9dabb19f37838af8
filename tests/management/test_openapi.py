"""The description holds what the endpoint does."""

from __future__ import annotations

import re

from raft_engine.management.kv_routes import KV_ENDPOINTS
from raft_engine.management.openapi import DESCRIPTION, description
from raft_engine.management.problems import PROBLEMS
from raft_engine.management.routes import ENDPOINTS

ROWS = [*ENDPOINTS, DESCRIPTION, *KV_ENDPOINTS]


def operations():
    return [(path, method, operation) for path, item in description()["paths"].items() for method, operation in item.items()]


async def test_it_is_served_as_json(client):
    reply = await client.get("/openapi.json")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json()["openapi"] == "3.1.0"


def test_every_row_of_the_tables_is_in_it_and_nothing_else():
    assert {(path, method.upper()) for path, method, _ in operations()} == {(row.path, row.method) for row in ROWS}


def test_every_reference_leads_somewhere():
    document = description()

    def references(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    found = set(references(document))
    assert found
    for reference in found:
        target = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target


def test_every_operation_has_a_success_its_errors_and_a_name_of_its_own():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    for path, _, operation in operations():
        statuses = set(operation["responses"])
        assert statuses & {"200", "202"}, path
        assert {"400", "500"} <= statuses, path
        assert "security" in operation
        assert operation["summary"].endswith(".")


def test_every_path_parameter_is_described():
    for path, _, operation in operations():
        named = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert named == re.findall(r"{(\w+)}", path)


def test_every_code_a_row_names_is_in_the_table_of_problems():
    assert {code for row in ROWS for code in row.codes} <= set(PROBLEMS)


def test_every_mutation_takes_an_idempotency_key_and_may_redirect():
    for _, method, operation in operations():
        headers = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"]
        assert ("Idempotency-Key" in headers) is (method != "get")
        assert ("307" in operation["responses"]) is (method != "get")
