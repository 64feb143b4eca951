"""The application: its routes, over one :class:`workers.serving.retrieval.Retrieval`."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import FastAPI, File, Path, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from index.answers.records import answers_csv, answers_json
from index.audit import AuditLog
from model.errors import CbmirError, ImageError, IndexLockedError, ModelMismatchError, SettingError, VectorIndexError
from workers.serving.access import Guard
from workers.serving.downloads import answer_sheet
from workers.serving.metrics import Counted, ServingMetrics
from workers.serving.page import FILES, render_error, render_page
from workers.serving.question import Asked, Likeness, Question
from workers.serving.retrieval import NotFoundError, Retrieval, Shown
from workers.serving.settings import ServingSettings

_DESCRIPTION = "Stored pictures that look like a picture. Not a medical device, and not for diagnosis."

Pictures = Annotated[list[UploadFile], File(description="Pictures in any format that cbmir reads.", max_length=20)]
Uid = Annotated[str, Path(max_length=200, description="Id, of which the first digits will do, or a UID.")]
Side = Annotated[int, Query(ge=16, le=2048, description="Longest side in pixels.")]


def make_application(settings: ServingSettings, load: Callable[[ServingSettings], Retrieval] = Retrieval) -> FastAPI:
    """The application; model and index are opened when it starts, and let go of when it ends."""
    metrics = ServingMetrics()
    audit = AuditLog(settings.audit_log) if settings.audit_log else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with load(settings) as retrieval:
            app.state.retrieval = retrieval
            yield

    app = FastAPI(
        title="cbmir",
        description=_DESCRIPTION,
        version=version("cbmir"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.add_middleware(Guard, access=settings.access)
    app.add_middleware(Counted, metrics=metrics)  # the outer one, so that what is refused is counted, too
    _add_errors(app)
    _add_api(app, settings, audit)
    _add_page(app, settings, audit)

    @app.get("/healthz", response_class=PlainTextResponse, tags=["operation"])
    async def healthz() -> str:  # needs no thread, of which all may wait
        """Answer as long as this process does."""
        return "ok\n"

    @app.get("/metrics", response_class=PlainTextResponse, tags=["operation"])
    def prometheus() -> Response:
        """Metrics for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _add_api(app: FastAPI, settings: ServingSettings, audit: AuditLog | None) -> None:
    @app.post("/api/search", tags=["search"], responses=_REFUSALS)
    def search(request: Request, image: Pictures, asked: Annotated[Asked, Query()]) -> list[dict[str, Any]]:
        """The stored pictures nearest to each picture, as ``cbmir search --format json`` prints them."""
        retrieval = _retrieval(request)
        answers = [
            retrieval.answer_picture(one.filename or "picture", one.file.read(), asked, asked.frame, asked.crop)
            for one in image
        ]
        return [_record(request, settings, audit, shown) for shown in answers]

    @app.get("/api/like/{uid}", tags=["search"], responses=_REFUSALS)
    def like(request: Request, uid: Uid, asked: Annotated[Likeness, Query()]) -> dict[str, Any]:
        """The stored pictures nearest to a stored one; ``more`` of what it is like, and ``less`` of what it is not."""
        question = Question(**asked.model_dump(exclude={"more"}), like=[uid, *asked.more])
        return _record(request, settings, audit, _retrieval(request).answer(question))

    @app.get("/api/points/{uid}", tags=["pictures"], responses=_REFUSALS)
    def point(request: Request, uid: Uid) -> dict[str, Any]:
        """What the index stores with a picture."""
        found, payload = _retrieval(request).point(uid)
        return {"id": str(found), **payload.to_dict()}

    @app.get("/api/points/{uid}/image", tags=["pictures"], responses=_JPEG, response_class=Response)
    def point_image(request: Request, uid: Uid, side: Side = 256) -> Response:
        """A stored picture as displayed."""
        return _jpeg(_retrieval(request).point_picture(uid, side), "private, max-age=3600")

    @app.get("/api/facets", tags=["search"], responses=_REFUSALS)
    def facets(request: Request) -> dict[str, dict[str, int]]:
        """How many pictures have each organ, modality, body part, label and view."""
        return _retrieval(request).facets()

    @app.get("/api/status", tags=["operation"], responses=_REFUSALS)
    def status(request: Request) -> dict[str, Any]:
        """What is served."""
        retrieval = _retrieval(request)
        statistics = retrieval.index.ask(lambda index: index.statistics())
        writer = retrieval.index.ask(lambda index: index.asked)
        description = retrieval.description
        return {
            "index": str(settings.index),
            "pictures": statistics.points,
            "graph_complete": statistics.complete,
            "written_by": writer,
            "layers": list(description.layers),
            "classes": list(description.classes),
            "model_fingerprint": description.model_fingerprint,
            "version": version("cbmir"),
        }


def _add_page(app: FastAPI, settings: ServingSettings, audit: AuditLog | None) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page(request: Request, question: Annotated[Question, Query()]) -> str:
        retrieval = _retrieval(request)
        shown = retrieval.answer(question) if question.asks else None
        if shown:
            _audit(request, settings, audit, shown)
        return render_page(settings, retrieval, question, shown)

    @app.post("/", include_in_schema=False)
    def bring(request: Request, image: Pictures, question: Annotated[Question, Query()]) -> RedirectResponse:
        retrieval = _retrieval(request)
        kept = [retrieval.keep(one.filename or "picture", one.file.read()) for one in image if one.filename]
        asked = question.address(upload=kept, at=0, like=[], less=[], crop="", frame=0, within=None)
        return RedirectResponse(asked, 303)

    @app.get("/uploads/{key}", include_in_schema=False, response_class=Response)
    def upload(
        request: Request,
        key: str,
        frame: Annotated[int, Query(ge=1)] = 1,
        side: Side = 512,
        crop: str = "",
    ) -> Response:
        return _jpeg(_retrieval(request).upload_picture(key, frame, side, crop), "no-store")

    @app.get("/answer.{kind}", include_in_schema=False, response_class=Response)
    def download(
        request: Request, kind: Literal["json", "csv", "png"], question: Annotated[Question, Query()]
    ) -> Response:
        retrieval = _retrieval(request)
        if not question.asks:
            raise SettingError("there is nothing to answer: bring a picture, or name a stored one")
        shown = retrieval.answer(question)
        _audit(request, settings, audit, shown)
        viewer = settings.viewer_url
        name = {"Content-Disposition": f'attachment; filename="answer.{kind}"'}
        if kind == "png":
            return Response(answer_sheet(retrieval, question, shown), media_type="image/png", headers=name)
        if kind == "csv":
            return Response(answers_csv([shown.answer], shown.roots, viewer), media_type="text/csv", headers=name)
        return Response(answers_json([shown.answer], shown.roots, viewer), media_type="application/json", headers=name)

    @app.get("/page.{kind}", include_in_schema=False)
    def file(kind: Literal["css", "js", "svg"]) -> FileResponse:
        return FileResponse(FILES / f"page.{kind}", headers={"Cache-Control": "no-cache"})


def _retrieval(request: Request) -> Retrieval:
    retrieval: Retrieval = request.app.state.retrieval
    return retrieval


def _record(request: Request, settings: ServingSettings, audit: AuditLog | None, shown: Shown) -> dict[str, Any]:
    _audit(request, settings, audit, shown)
    record: dict[str, Any] = json.loads(answers_json([shown.answer], shown.roots, settings.viewer_url))[0]
    return record


def _audit(request: Request, settings: ServingSettings, audit: AuditLog | None, shown: Shown) -> None:
    if audit:
        client = request.client.host if request.client else ""
        who = getattr(request.state, "user", "") or client
        answer = shown.answer
        audit.write(who, str(settings.index), str(answer.query.id), (str(hit.id) for hit in answer.hits))


def _jpeg(data: bytes, caching: str) -> Response:
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": caching})


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is cut off, or larger than may be."},
    401: {"description": "A token is needed."},
    403: {"description": "It was sent by a page of another site."},
    421: {"description": "The server is not called so."},
    404: {"description": "No such picture."},
    413: {"description": "The picture is too large."},
    415: {"description": "The body is no multipart/form-data."},
    422: {"description": "The question or the picture cannot be read."},
    429: {"description": "Too many pictures at once."},
    503: {"description": "The index is busy or away: ask again."},
}
_JPEG: dict[int | str, dict[str, Any]] = {
    **_REFUSALS,
    200: {"description": "The picture.", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
}

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFoundError, 404),
    (IndexLockedError, 503),
    (ModelMismatchError, 422),
    (VectorIndexError, 503),
    (SettingError, 422),
    (ImageError, 422),
    (CbmirError, 500),
)


def _add_errors(app: FastAPI) -> None:
    """Every error is one sentence: JSON for programs, a page for people."""

    def told(request: Request, status: int, sentence: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": sentence}, status)
        return HTMLResponse(render_error(sentence), status)

    @app.exception_handler(CbmirError)
    async def ours(request: Request, error: CbmirError) -> Response:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        return told(request, status, str(error))

    @app.exception_handler(HTTPException)
    async def no_such_page(request: Request, error: HTTPException) -> Response:
        return told(request, error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def a_fault(request: Request, error: Exception) -> Response:
        logging.getLogger("cbmir.serving").error("a request failed", exc_info=error)
        return told(request, 500, f"unexpected {type(error).__name__}: a fault of this program")

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in {"query", "body"})
        return told(request, 422, f"{where or 'the question'}: {first['msg']}")
