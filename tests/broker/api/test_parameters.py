"""Misspelt query parameters are refused on every route of the API, and elsewhere nothing is."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from broker.api.access import ACCESS
from tests.broker.api.core import Core

GETS = sorted(path for method, path in ACCESS if method == "GET" and path.startswith("/api/v1/"))
#: Made by FastAPI itself, without our dependencies; it has no parameters.
GETS.remove("/api/v1/openapi.json")


def declared(app: FastAPI, path: str) -> list[str]:
    """Query parameters of a route, as the published description has them."""
    operation = app.openapi()["paths"][path]["get"]
    return [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]


@pytest.mark.parametrize("path", GETS)
def test_every_route_refuses_what_it_does_not_have(core: Core, path: str) -> None:
    """422 with the parameter and the known ones; the known ones themselves are never called unknown."""
    client = core.as_role("admin", "auditor", "engineer")
    address = path.replace("{", "").replace("}", "")
    known = declared(core.app, path)
    answer = client.get(address, params={"afterr": "xyz"})
    assert answer.status_code == 422
    [told] = [one for one in answer.json()["detail"] if one["where"] == "query.afterr"]
    assert told["message"].endswith(f"there are: {', '.join(known)}" if known else "this takes none")
    answer = client.get(address, params=dict.fromkeys(known, "1"))
    assert "no such parameter" not in answer.text


@pytest.mark.parametrize(
    ("query", "hint"),
    [("records?afterr=xyz&limit=1", "'after'"), ("records?lmit=2", "'limit'"), ("anomalies?statee=closed", "'state'")],
)
def test_the_nearest_name_is_told(core: Core, query: str, hint: str) -> None:
    """An MES that misspells its cursor would pull the beginning for ever."""
    answer = core.as_role("consumer").get(f"/api/v1/{query}")
    assert answer.status_code == 422
    assert f"no such parameter; did you mean {hint}?; there are: " in answer.json()["detail"][0]["message"]


@pytest.mark.parametrize(
    "address", ["/", "/ui/anomalies", "/ask", "/login", "/healthz", "/metrics", "/static/fairlead.css"]
)
def test_pages_and_checks_may_be_asked_with_more(core: Core, address: str) -> None:
    """What a browser, a bookmark or a load balancer appends changes nothing there."""
    client = core.as_role("engineer")
    assert client.get(f"{address}?_=17").status_code == client.get(address).status_code == 200


@pytest.mark.parametrize("route", ["records", "gaps"])
@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00Z", "1000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_beyond_64_bits_is_no_limit(core: Core, route: str, edge: str) -> None:
    """People write 9999 for "no end": the nearest time that can be stored stands for it."""
    client = core.as_role("consumer")
    assert client.get(f"/api/v1/{route}", params={"from": edge}).status_code == 200
    assert client.get(f"/api/v1/{route}", params={"to": edge}).status_code == 200
