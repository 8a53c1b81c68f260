"""The OpenAPI document of the server, written from the tables of parameters and limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_lite import messages
from yolo_lite.errors import counted
from yolo_lite.serve.bodies import FIELD
from yolo_lite.serve.limits import Limits
from yolo_lite.serve.parameters import CLASSIFY, DETECT, MODEL, WHY, Parameter
from yolo_lite.version import VERSION

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_FILE: Schema = {"type": "string", "format": "binary"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_REFUSED = {
    400: "The request is broken.",
    401: "The bearer token is missing or wrong.",
    403: "The Host or Origin header names another site.",
    404: "There is no such path or sample.",
    405: "The path does not have this method.",
    408: "The body arrived too slowly.",
    413: "The body has too many bytes, or the image too many pixels.",
    415: "The body is not an image, or its type is not accepted.",
    422: "A parameter is wrong, a class or network is unknown, or the image is damaged.",
    429: "The server is already working on as many requests as it accepts.",
    500: "The server failed.",
    503: "The server is stopping, or its memory for uploads is in use.",
    504: "The answer took too long.",
}
_RETRIED = (429, 503)


def describe(limits: Limits, *, with_token: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        limits: of the server.
        with_token: whether requests need a bearer token.

    Example:
        >>> document = describe(Limits(), with_token=False)
        >>> document["openapi"], sorted(document["paths"])[-2:]
        ('3.1.0', ['/v1/models', '/v1/why'])
    """
    components: dict[str, Any] = {"schemas": {"Error": _object({"error": _TEXT})}}
    if with_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    paths: dict[str, Any] = {
        path: {"get": _operation(words, _answers(kind, schema, statuses=refused), parameters)}
        for path, (words, kind, schema, refused, parameters) in _reads().items()
    }
    health = paths["/healthz"]["get"]["responses"]
    health["503"] = {**health["200"], "description": "The server is stopping, or has failed."}
    paths["/samples/{name}"]["get"]["parameters"] = [
        {"name": "name", "in": "path", "description": "Name from /samples.", "required": True, "schema": _TEXT}
    ]
    for path, (words, contents, parameters) in _uploads().items():
        statuses = (400, 403, 408, 413, 415, 422, 429, 500, 503, 504)
        operation = _operation(words, _described(contents, statuses), parameters)
        paths[path] = {"post": {**operation, "requestBody": _body(limits)}}
    for path, operations in paths.items():
        for operation in operations.values():
            if with_token and (path.startswith("/v1/") or path == "/metrics"):
                operation["security"] = [{"token": []}]
                operation["responses"]["401"] = _refusal(401)
    info = {"title": "yolo_lite", "version": VERSION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _reads() -> dict[str, tuple[str, str, Schema, tuple[int, ...], Sequence[Parameter]]]:
    """Return by path: a summary, type and schema of the answer, the statuses of refusals, and the parameters."""
    model = _object({"name": _TEXT, "task": {"enum": ["detect", "classify"]}})
    status = _object({"status": {"enum": ["ok", "stopping", "failed"]}})
    samples = _object({"samples": {"type": "array", "items": _TEXT}})
    json_type = "application/json"
    return {
        "/": ("The page.", "text/html", _TEXT, (403,), ()),
        "/v1/models": (
            "The networks that are served.",
            json_type,
            _object({"models": {"type": "array", "items": model}, "default": _TEXT}),
            (403, 422),
            (),
        ),
        "/v1/model": ("What a network and the server can do.", json_type, _model(), (403, 422), (MODEL,)),
        "/healthz": ("Whether requests are accepted.", json_type, status, (403,), ()),
        "/metrics": ("Counts and times, for Prometheus.", "text/plain", _TEXT, (403,), ()),
        "/openapi.json": ("This document.", json_type, {"type": "object"}, (403,), ()),
        "/samples": ("Images to try.", json_type, samples, (403,), ()),
        "/samples/{name}": ("One of these images.", "image/jpeg", _FILE, (403, 404), ()),
    }


def _uploads() -> dict[str, tuple[str, Mapping[str, Schema], Sequence[Parameter]]]:
    """Return by path: a summary, the schemas of the answer by type, and the parameters."""
    schema = Path(messages.__file__).with_name("frame.schema.json")
    frame = {key: value for key, value in json.loads(schema.read_text("utf-8")).items() if key != "$schema"}
    return {
        "/v1/detect": ("Detect the objects in an image.", {"application/json": frame, "image/jpeg": _FILE}, DETECT),
        "/v1/classify": ("Classify an image.", {"application/json": _labels()}, CLASSIFY),
        "/v1/why": ("Explain why an object was found or missed.", {"application/json": _why()}, WHY),
    }


def _operation(words: str, responses: Schema, parameters: Sequence[Parameter]) -> Schema:
    rows = [
        {
            "name": each.name,
            "in": "query",
            "description": each.help,
            "required": each.required,
            "schema": dict(each.schema),
        }
        for each in parameters
    ]
    return {"summary": words, "responses": responses, **({"parameters": rows} if rows else {})}


def _answers(kind: str, schema: Schema, *, statuses: Sequence[int]) -> Schema:
    return _described({kind: schema}, statuses)


def _described(contents: Mapping[str, Schema], statuses: Sequence[int]) -> Schema:
    good = {"description": "The answer.", "content": {kind: {"schema": schema} for kind, schema in contents.items()}}
    return {"200": good, **{str(status): _refusal(status) for status in statuses}}


def _refusal(status: int) -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    wait = {"Retry-After": {"description": "Seconds to wait.", "schema": _COUNT}}
    headers = {"headers": wait} if status in _RETRIED else {}
    return {"description": _REFUSED[status], "content": error, **headers}


def _body(limits: Limits) -> Schema:
    form = {
        "type": "object",
        "properties": {FIELD: _FILE},
        "required": [FIELD],
        "additionalProperties": False,
    }
    raw: Schema = {"schema": _FILE}
    kinds = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
    words = (
        f"An image of at most {counted(limits.max_bytes, 'byte')} and {counted(limits.max_pixels, 'pixel')}; it must "
        f"arrive in {limits.seconds:g} s."
    )
    content = {**dict.fromkeys(kinds, raw), "multipart/form-data": {"schema": form}}
    return {"description": words, "required": True, "content": content}


def _object(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": dict(properties),
    }


def _model() -> Schema:
    limits = _object({"max_bytes": _COUNT, "max_pixels": _COUNT, "seconds": {"type": "number"}, "queue": _COUNT})
    return _object(
        {
            "name": _TEXT,
            "task": {"enum": ["detect", "classify"]},
            "class_names": {"type": "array", "items": _TEXT},
            "image_size": {**_pair("integer"), "description": "height and width of the input"},
            "score_threshold": {"type": ["number", "null"]},
            "lowest_score": {"type": ["number", "null"], "description": "the lowest threshold of a request"},
            "iou_threshold": {"type": ["number", "null"]},
            "max_detections": {"type": ["integer", "null"]},
            "backend": {"enum": ["torch", "onnxruntime", "openvino"]},
            "device": _TEXT,
            "explains": {"type": "boolean"},
            "card": {"type": "object"},
            "limits": limits,
        }
    )


def _labels() -> Schema:
    label = _object({"class_name": _TEXT, "label": _COUNT, "score": _SHARE})
    return _object(
        {
            "schema_version": {"const": 1},
            "source": _TEXT,
            "image_size": _pair("integer"),
            "labels": {"type": "array", "items": label},
        }
    )


def _why() -> Schema:
    level = _object(
        {"stride": _COUNT, "points": _COUNT, "score": _SHARE, "class_name": {"type": ["string", "null"]}, "iou": _SHARE}
    )
    candidate = _object(
        {
            "class_name": _TEXT,
            "label": _COUNT,
            "score": _SHARE,
            "iou": _SHARE,
            "stride": _COUNT,
            "point": _pair("number"),
            "cell": _pair("number"),
            "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
            "fate": {"enum": ["kept", "below", "suppressed"]},
            "by_score": _SHARE,
            "by_iou": _SHARE,
        }
    )
    return _object(
        {
            "schema_version": {"const": 1},
            "image_size": _pair("integer"),
            "input_size": _pair("integer"),
            "score_threshold": _SHARE,
            "iou_threshold": _SHARE,
            "levels": {"type": "array", "items": level},
            "candidates": {"type": "array", "items": candidate},
        }
    )


def _pair(kind: str) -> Schema:
    return {"type": "array", "items": {"type": kind}, "minItems": 2, "maxItems": 2}
