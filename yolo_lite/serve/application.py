"""The HTTP application: routes, access, and an answer in one sentence to everything that is refused."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from yolo_lite.errors import InputError, short
from yolo_lite.serve import answers
from yolo_lite.serve.access import JPEG, JSON, check_host, check_origin, check_token, preferred
from yolo_lite.serve.engine import Engine, Work
from yolo_lite.serve.exchange import Exchange
from yolo_lite.serve.images import sentence
from yolo_lite.serve.limits import MOST_PLACES, Limits, RefusedError
from yolo_lite.serve.metrics import CONTENT_TYPE, Metrics
from yolo_lite.serve.models import Model, Models
from yolo_lite.serve.openapi import describe
from yolo_lite.serve.page import read_page
from yolo_lite.serve.parameters import CLASSIFY, DETECT, MODEL, WHY, Parameter, read_parameters
from yolo_lite.serve.uploads import GoneError, Hw, Task, Upload, Uploads
from yolo_lite.structures.tiles import tiling_of

_LOG = logging.getLogger(__name__)
_METHOD = 20  # letters of a method that an answer repeats
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may call.

    Attributes:
        token: that requests must bear; None: none.
        hosts: host names besides this machine's own by which it may be called; None: any.
    """

    token: str | None = None
    hosts: Collection[str] | None = ()


class Application:
    """The server's ASGI application.

    Args:
        models: what is served.
        limits: of a request.
        access: who may call.
        samples: image files that /samples offers.
        warm_up: whether the largest batches are tried before the first request.

    Example:
        >>> from yolo_lite.serve.models import Choices, open_models
        >>> application = Application(open_models(["yolo_lite-pico-voc5"], Choices(device="cpu", batch_size=1)))
        >>> application.engine.is_alive
        True
        >>> application.close()
    """

    def __init__(
        self,
        models: Models,
        limits: Limits | None = None,
        *,
        access: Access | None = None,
        samples: Sequence[Path] = (),
        warm_up: bool = False,
    ) -> None:
        self.models, self.limits, self.access = models, limits or Limits(), access or Access()
        self.metrics, self._shown = Metrics(), read_page()
        before = models.warm_up if warm_up else lambda: None
        self.engine = Engine(queue=self.limits.queue, on_batch=self.metrics.add_batch, warm_up=before)
        self._uploads = Uploads(self.engine, self.limits)
        self._samples = {path.name: path for path in samples}
        routes = [
            Route("/", self._page),
            Route("/v1/models", self._list_models),
            Route("/v1/model", self._model),
            Route("/v1/detect", self._detect, methods=["POST"]),
            Route("/v1/classify", self._classify, methods=["POST"]),
            Route("/v1/why", self._why, methods=["POST"]),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/samples", self._list_samples),
            Route("/samples/{name}", self._sample),
        ]
        self._paths = {route.path for route in routes}
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; whatever fails is answered, logged and counted here."""
        exchange, started = Exchange(scope, receive, send=send), time.monotonic()
        try:
            await self._answer(scope, exchange)
        finally:
            seconds = time.monotonic() - started
            self.metrics.add_request(self._route(scope["path"]), exchange.status, seconds=seconds)

    def close(self, *, at_once: bool = False) -> None:
        """End the threads: after what was accepted is finished, or at once, as soon as the present work is."""
        self.engine.close(wait=not at_once)
        self._uploads.close(wait=not at_once)

    async def _answer(self, scope: Scope, exchange: Exchange) -> None:
        try:
            self._check_access(Request(scope))
            # With an app in the scope, the router raises an error if it finds no route, instead of answering in text.
            await self._router({**scope, "app": self}, exchange.receive, exchange.send)
            return
        except GoneError:
            _LOG.info("%s %s 499: the client closed the connection", scope["method"], self._route(scope["path"]))
            return
        except HTTPException as error:
            answer = _refusal(_no_route(scope, error))
        except RefusedError as error:
            answer = _refusal(error)
        except InputError as error:
            answer = _refusal(RefusedError(422, sentence(error)))
        except Exception as error:
            for line in "".join(traceback.format_exception(error)).splitlines():
                _LOG.error("%s", line)
            kind = type(error).__name__
            answer = _refusal(RefusedError(500, f"The server failed ({kind}); its log says where. Try another image."))
        if not exchange.began:
            await answer(scope, exchange.receive, exchange.send)

    def _check_access(self, request: Request) -> None:
        headers, path = request.headers, request.scope["path"]  # a URL would be made from the Host header as well
        host = headers.get("host", "")
        check_host(host, self.access.hosts)
        if request.method not in ("GET", "HEAD"):
            check_origin(headers.get("origin"), host)
        if path.startswith("/v1/") or path == "/metrics":
            check_token(headers.get("authorization", ""), self.access.token)

    def _route(self, path: str) -> str:
        if path.startswith("/samples/"):
            return "/samples/{name}"
        return path if path in self._paths else "other"

    async def _page(self, request: Request) -> Response:
        headers = {**_SAFE, "Content-Security-Policy": self._shown.policy}
        return Response(self._shown.content, media_type="text/html", headers=headers)

    async def _list_models(self, request: Request) -> Response:
        _parameters(request, ())
        return _json(self.models.to_dict())

    async def _model(self, request: Request) -> Response:
        model = self.models.find(_parameters(request, (MODEL,)).get("model"))
        return _json({**model.to_dict(), "limits": asdict(self.limits)})

    async def _health(self, request: Request) -> Response:
        if self.engine.is_stopping:
            return _json({"status": "stopping"}, 503)
        return _json({"status": "ok"}) if self.engine.is_alive else _json({"status": "failed"}, 503)

    async def _metrics(self, request: Request) -> Response:
        gauges = {
            "requests_in_progress": ("Requests in progress or waiting.", self.engine.places),
            "queue_length": ("Images that wait for the network.", self.engine.waiting),
            "queue_limit": ("Most requests in progress or waiting at once.", self.limits.queue),
        }
        return Response(self.metrics.text(gauges), headers={**_SAFE, "Content-Type": CONTENT_TYPE})

    async def _openapi(self, request: Request) -> Response:
        return _json(describe(self.limits, with_token=self.access.token is not None))

    async def _list_samples(self, request: Request) -> Response:
        return _json({"samples": list(self._samples)})

    async def _sample(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._samples:
            raise RefusedError(404, f"There is no sample {short(name)}; /samples lists them.")
        content = await self._uploads.in_pool(self._samples[name].read_bytes)
        return Response(content, media_type=JPEG, headers=_SAFE)

    async def _detect(self, request: Request) -> Response:
        values = _parameters(request, DETECT)
        model = self.models.find(values.get("model"), task="detect")
        kind = preferred(request.headers.get("accept", ""))
        return await self._uploaded(request, model, _detection(model, values, kind), kind=kind)

    async def _classify(self, request: Request) -> Response:
        values = _parameters(request, CLASSIFY)
        model = self.models.find(values.get("model"), task="classify")
        return await self._uploaded(request, model, _classification(model, values))

    async def _why(self, request: Request) -> Response:
        values = _parameters(request, WHY)
        model = self.models.find(values.get("model"), task="detect")
        return await self._uploaded(request, model, _explanation(model, values))

    async def _uploaded(self, request: Request, model: Model, task: Task, *, kind: str = JSON) -> Response:
        content = await self._uploads.answer(request.receive, request.headers, task=task)
        self.metrics.add_image(model.name)
        return Response(content, media_type=kind, headers={**_SAFE, "Vary": "Accept"})


def _detection(model: Model, values: Mapping[str, Any], kind: str) -> Task:
    score_threshold, classes = values.get("score_threshold"), values.get("classes")
    if values.get("overlap") is not None and not (values.get("tiles") or values.get("tile")):
        raise RefusedError(422, "overlap is the overlap of tiles; add tiles=2x2 or tile=640.")
    tiles = tiling_of(values.get("tiles"), values.get("tile"), overlap=values.get("overlap"))
    detector: Any = model.detector(score_threshold=score_threshold, classes=classes, tiles=tiles)
    tiling = detector.tiling

    def check(hw: Hw) -> None:
        if tiling and tiling.count(hw) > MOST_PLACES:
            raise RefusedError(422, f"Tiles must divide the image into at most {MOST_PLACES - 1}; use larger ones.")

    def answer(upload: Upload, detections: Any) -> bytes:
        if kind == JPEG:
            return answers.drawing_answer(upload.image, detections)
        return answers.detections_answer(detections, upload.hw, source=upload.source, captured_at=upload.captured_at)

    key = (model.name, score_threshold, classes, str(tiling))
    work = Work(detector, key, sizes=(1,) if tiling else model.batch_sizes)
    return Task(work, answer, source=values.get("source", ""), max_16bit=detector.max_16bit, check=check)


def _classification(model: Model, values: Mapping[str, Any]) -> Task:
    classifier: Any = model.classifier()

    def answer(upload: Upload, result: Any) -> bytes:
        return answers.labels_answer(result, upload.hw, source=upload.source, top=values.get("top", 5))

    work = Work(classifier, (model.name,), sizes=model.batch_sizes)
    return Task(work, answer, source=values.get("source", ""), max_16bit=classifier.max_16bit)


def _explanation(model: Model, values: Mapping[str, Any]) -> Task:
    if model.task == "detect" and not model.explains:
        raise RefusedError(
            422, f"Explanations need a checkpoint; {model.name} is an exported file. Serve the checkpoint for them."
        )
    detector: Any = model.detector(score_threshold=values.get("score_threshold"))
    box = values["box"]

    def check(hw: Hw) -> None:
        if box[0] >= hw[1] or box[1] >= hw[0] or box[2] <= 0 or box[3] <= 0:
            raise RefusedError(422, f"box: it lies outside the image, which has {hw[1]} x {hw[0]} pixels.")

    work = Work(lambda images: answers.explain_images(detector, images, box=box), None)
    return Task(work, lambda _, document: answers.to_json(document), max_16bit=detector.max_16bit, check=check)


def _parameters(request: Request, parameters: Sequence[Parameter]) -> dict[str, Any]:
    return read_parameters(request.query_params.multi_items(), parameters)


def _json(document: Any, status: int = 200) -> Response:
    return Response(answers.to_json(document), status, media_type=JSON, headers=_SAFE)


def _refusal(error: RefusedError) -> Response:
    content = answers.to_json({"error": str(error)})
    return Response(content, error.status, media_type=JSON, headers={**_SAFE, **error.headers})


def _no_route(scope: Scope, error: HTTPException) -> RefusedError:
    """Return the refusal of an unknown path, or of a method that a path does not have."""
    path, headers = short(scope["path"]), dict(error.headers or {})
    if error.status_code == 405:
        methods = " or ".join(sorted(headers.get("Allow", "").split(", ")))
        return RefusedError(
            405, f"{scope['method'][:_METHOD]} is not possible for {path}; use {methods}.", headers=headers
        )
    return RefusedError(404, f"There is nothing at {path}; /openapi.json lists what there is.")
