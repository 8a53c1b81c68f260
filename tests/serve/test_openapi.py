"""The OpenAPI document is true: requests invented from it get the answers that it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.serve.conftest import Server, Stub, grey
from yolo_lite.serve.application import Access
from yolo_lite.serve.limits import Limits
from yolo_lite.serve.openapi import describe
from yolo_lite.serve.parameters import CLASSIFY, DETECT, WHY, read_parameters

Start = Callable[..., Server]


def test_every_route_is_described(start: Start) -> None:
    server = start()
    document = server.ask("GET", "/openapi.json").document
    assert document == describe(server.application.limits, with_token=False)
    routes = server.application._router.routes
    assert set(document["paths"]) == {getattr(route, "path") for route in routes}  # noqa: B009
    for route in routes:
        path: Any = getattr(route, "path")  # noqa: B009
        methods = {method.lower() for method in getattr(route, "methods")} - {"head"}  # noqa: B009
        assert set(document["paths"][path]) == methods


def test_the_token_is_described_where_it_is_asked_for(start: Start) -> None:
    server = start(Access(token="t"))
    document = server.ask("GET", "/openapi.json").document
    guarded = {path for path, row in document["paths"].items() if "security" in next(iter(row.values()))}
    asked = {path for path, row in document["paths"].items() if server.ask(next(iter(row)).upper(), path).status == 401}
    assert guarded == asked == {"/v1/models", "/v1/model", "/v1/detect", "/v1/classify", "/v1/why", "/metrics"}


def test_real_answers_fit_their_schemas(real: Server, start: Start, photo: bytes) -> None:
    paths = describe(Limits(), with_token=False)["paths"]
    other = start()
    answers = [
        ("/v1/models", real.ask("GET", "/v1/models")),
        ("/v1/model", real.ask("GET", "/v1/model")),
        ("/v1/model", other.ask("GET", "/v1/model?model=light")),
        ("/healthz", real.ask("GET", "/healthz")),
        ("/samples", real.ask("GET", "/samples")),
        ("/v1/detect", real.ask("POST", "/v1/detect", body=photo)),
        ("/v1/classify", other.ask("POST", "/v1/classify", body=grey(3))),
        ("/v1/why", real.ask("POST", "/v1/why?box=2,18,512,600", body=photo)),
        ("/v1/why", real.ask("POST", "/v1/why?box=1,1,2,2", body=photo)),
    ]
    for path, answer in answers:
        assert answer.status == 200, (path, answer.body)
        (operation,) = paths[path].values()
        jsonschema.validate(answer.document, operation["responses"]["200"]["content"]["application/json"]["schema"])


def test_a_server_that_stops_answers_as_described(start: Start, stub: Stub) -> None:
    server = start()
    stub.gate.clear()
    responses = describe(Limits(), with_token=False)["paths"]["/healthz"]["get"]["responses"]
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(server.ask, "POST", "/v1/detect", body=grey(1))
        assert stub.begun.wait(60)
        server.application.engine.stop()
        answer = server.ask("GET", "/healthz")
        assert (answer.status, answer.document["status"]) == (503, "stopping")
        jsonschema.validate(answer.document, responses["503"]["content"]["application/json"]["schema"])
        stub.gate.set()
        assert accepted.result(60).status == 200


@pytest.mark.parametrize("parameters", [DETECT, CLASSIFY, WHY], ids=["detect", "classify", "why"])
def test_the_schema_of_a_parameter_and_its_reader_agree(parameters: Any) -> None:
    values: dict[str, tuple[str, ...]] = {
        "tiles": ("1x1", "64x64", "0x1", "65x1", "2", "2x", "02x2", "2x2x2"),
        "tile": ("32", "31", "99999", "100000", "-5", "1.5", "x"),
        "overlap": ("0", "0.9", "0.91", "-0.1", "nan", "x"),
        "score_threshold": ("0", "1", "0.5", "1e-3", "1.01", "-1", "inf", ""),
        "top": ("1", "1000", "0", "1001", "2.5"),
        "box": ("1,2,3,4", "0,0,0.5,0.5", "1,2,3", "a,b,c,d", ""),
        "classes": ("person", "a,b", ",", "", " "),
        "model": ("a", "", "x" * 201),
        "source": ("a", "", "x" * 200),
    }
    from yolo_lite.serve.limits import RefusedError

    for parameter in parameters:
        needed = [("box", "1,2,3,4")] if parameters is WHY and parameter.name != "box" else []
        for text in values[parameter.name]:
            try:
                read_parameters([*needed, (parameter.name, text)], parameters)
                accepted = True
            except RefusedError:
                accepted = False
            value: Any = text
            if parameter.schema["type"] in ("number", "integer"):
                try:
                    value = float(text)
                except ValueError:
                    value = text
                value = int(value) if isinstance(value, float) and value.is_integer() else value
            fits = not list(jsonschema.Draft202012Validator(parameter.schema).iter_errors(value)) and value == value
            assert accepted == fits, (parameter.name, text)


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "t0ken"])
def test_requests_that_schemathesis_invents_get_what_is_promised(
    start: Start, token: str | None, tmp_path: Path
) -> None:
    """Wrong values must be refused with 4xx, and every answer must have a status, type and schema of the document."""
    pytest.importorskip("schemathesis")
    server = start(Access(token=token), seconds=5)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run"),
        f"http://127.0.0.1:{server.port}/openapi.json",
        *("--max-examples", "40", "--seed", "1", "--no-color", "--generation-database", "none"),
        *(("-H", f"Authorization: Bearer {token}") if token else ()),
        # Random bytes are no image, so what fits the schema is refused all the same.
        *("--exclude-checks", "positive_data_acceptance"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=os.environ.copy())
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert server.ask("POST", "/v1/detect", body=grey(1), headers={"Authorization": f"Bearer {token}"}).status == 200
