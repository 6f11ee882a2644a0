"""The page and its API. Everything an annotator is told leaves through here, and is made here.

No text but the masked one, no label but those that people gave and may see: a row to be decided
comes without anybody's answer, one to be settled with the annotators'.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException as NoSuchPage
from starlette.types import ASGIApp

from star.annotation.records import Decision, as_pairs, now
from star.errors import InputError, one_line
from star.project.page.desk import NEW, Desk, Overtaken
from star.project.page.guard import Guard
from star.project.page.moment import Handed
from star.project.page.overview import overview
from star.project.page.training import Training
from star.project.project import Project

KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class _Body(BaseModel):
    """A request's body: nothing is guessed, nothing is left over."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DecisionBody(_Body):
    """A decision as the page sends it; see :class:`star.annotation.records.Decision`.

    ``replaces`` and ``like`` are :meth:`Desk.decide`'s and :meth:`Desk.said_by`'s.
    """

    annotator: str
    id: str
    outcome: str
    answer: str | None = None
    comment: str = ""
    highlights: list[list[int]] = []
    seconds: float | None = None
    final: bool = False
    replaces: int | None = None
    like: str | None = None


class UndoBody(_Body):
    """Which decision is taken back: the number that ``last`` in the overview names."""

    annotator: str
    number: int


class TrainingBody(_Body):
    """Whether one new label is enough."""

    force: bool = False


def files() -> dict[str, bytes]:
    """Return what the browser loads, by name."""
    folder = resources.files("star.project.page") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def application(
    project: Project,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    training: Training | None = None,
) -> ASGIApp:
    """Return the page's application, to be served or tested.

    Args:
        project: Whose rows are labelled.
        host: What the server is bound to.
        token: What a browser must show once; ``None``: nothing, which is for this machine alone.
        training: What "train now" starts; ``None``: ``star train``.

    Raises:
        InputError: The project is damaged.
    """
    desk = Desk(project)
    trainer = training or Training(project.path, project.masked)
    secret = secrets.token_urlsafe(32)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        trainer.stop()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=life)
    _answer_errors(app)
    _serve_files(app)
    _serve_reading(app, desk, trainer, secret)
    _serve_deciding(app, desk, trainer)
    return Guard(app, secret=secret, token=token, host=host)


def _answer_errors(app: FastAPI) -> None:
    """Say every error in one line, under ``error``."""

    def said(status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": message.encode(errors="replace").decode()}, status)

    @app.exception_handler(InputError)
    def wrong(_: Request, error: InputError) -> Response:
        return said(422, one_line(error))

    @app.exception_handler(Overtaken)
    def overtaken(_: Request, error: Overtaken) -> Response:
        return said(409, one_line(error))

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return said(422, f"{where}: {first['msg']}"[:300])

    @app.exception_handler(NoSuchPage)
    def refused(_: Request, error: NoSuchPage) -> Response:
        return said(error.status_code, str(error.detail)[:300])


def _serve_files(app: FastAPI) -> None:
    content = files()

    @app.get("/")
    def page() -> Response:
        return Response(content["index.html"], media_type=KINDS["html"])

    @app.get("/static/{name}")
    def file(name: str) -> Response:
        if name not in content:
            raise HTTPException(404, "there is no such file")
        return Response(content[name], media_type=KINDS[name.rpartition(".")[2]])


def _serve_reading(app: FastAPI, desk: Desk, trainer: Training, secret: str) -> None:
    @app.get("/api/project")
    def about() -> dict[str, Any]:
        """Return what does not change, and what requests that change something must carry."""
        task = desk.project.data.task
        return {
            "name": desk.project.path.resolve().name,
            "options": None if task.labels is None else list(task.labels),
            "secret": secret,
        }

    @app.get("/api/overview")
    def told(annotator: str | None = None) -> dict[str, Any]:
        return {**overview(desk, annotator), "training": trainer.state()}

    @app.get("/api/next")
    def following(annotator: str, queue: str = NEW, row: str | None = None) -> dict[str, Any]:
        return shown(desk.hand(annotator, queue, row))

    @app.get("/api/training")
    def progress() -> dict[str, Any]:
        return trainer.state()


def _serve_deciding(app: FastAPI, desk: Desk, trainer: Training) -> None:
    @app.post("/api/decisions")
    def decide(said: DecisionBody) -> dict[str, Any]:
        """Return the number in the journal, on the disk by now."""
        answer = said.answer
        if said.like is not None and not said.final:
            raise InputError("like takes over an answer to settle a conflict by; set final")
        if said.like is not None:
            answer = desk.said_by(said.id, said.like, said.answer)
        entry = desk.decide(
            Decision(
                said.id,
                said.outcome,
                said.annotator,
                now(),
                answer=answer,
                comment=said.comment,
                highlights=as_pairs(said.highlights),
                seconds=said.seconds,
                final=said.final,
            ),
            said.replaces,
        )
        return {"saved": entry.number}

    @app.post("/api/undo")
    def undo(said: UndoBody) -> dict[str, Any]:
        entry = desk.undo(said.annotator, said.number)
        return {"saved": entry.number, "id": entry.decision.id}

    @app.post("/api/training", status_code=202)
    def train(said: TrainingBody) -> dict[str, Any]:
        trainer.start(force=said.force)
        return trainer.state()


def shown(handed: Handed) -> dict[str, Any]:
    """Return a handed row as the page gets it: no score, no suggestion, no answer of others."""
    item, own = handed.item, handed.own
    return {
        "left": handed.left,
        "held": handed.held,
        "item": None
        if item is None
        else {"id": item.id, "text": item.text, "options": list(item.options) or None},
        "own": None
        if own is None
        else {
            "number": own.number,
            "outcome": own.decision.outcome,
            "answer": own.decision.answer,
            "comment": own.decision.comment,
            "highlights": [list(pair) for pair in own.decision.highlights],
        },
        "answers": handed.answers,
    }
