"""A run's model behind HTTP: ``POST /predict`` and ``GET /health``.

The answers are those of ``star predict``, by the same code. One thread answers, a request at a
time and in a batch: there is one model in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException

from star.active_learning.predictor import Predictor
from star.active_learning.trained_run import TrainedRun
from star.data.questions import Question, examples_of
from star.errors import InputError
from star.service.guard import Guard, error
from star.service.limits import Limits

WANTED = "a text, or a list of texts or of rows (column: text)"


class Body(BaseModel):
    """What ``POST /predict`` takes.

    Attributes:
        texts: A text, or a list of texts, or of rows of the prompt's columns.
        abstain: Give no label where its probability is lower.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: str | list[str | dict[str, str]]
    abstain: float | None = None


def app(
    predictor: Predictor, worker: Executor, *, limits: Limits, token: str | None = None
) -> FastAPI:
    """Return the service of a model.

    Args:
        predictor: Of the run.
        worker: Of one thread; it alone uses the model.
        limits: Of a request.
        token: What requests must carry; ``None``: nothing, and the host must be this machine.
    """
    service = FastAPI(openapi_url=None)  # no pages of documentation: they load scripts from afar
    service.add_middleware(Guard, token=token, most=limits.bytes)
    service.add_exception_handler(HTTPException, _refused)
    service.add_exception_handler(InputError, _unanswerable)
    service.add_exception_handler(Exception, _failed)
    about = description(predictor.trained)

    @service.get("/health")
    async def health() -> dict[str, Any]:
        return about

    @service.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a form of a page elsewhere cannot send this unasked
            raise HTTPException(415, f"the content type must be application/json, got {kind!a}")
        body = parsed(await request.body())
        questions = body.texts if isinstance(body.texts, list) else [body.texts]
        _check(questions, limits)
        places = [f"text {number}" for number in range(1, len(questions) + 1)]
        examples, _ = examples_of(predictor.trained.task, questions, places)
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(
            worker, lambda: predictor.predict(examples, places=places, abstain=body.abstain)
        )
        return {"answers": rows}

    return service


def description(trained: TrainedRun) -> dict[str, Any]:
    """Return what ``GET /health`` says; no place on this machine is named."""
    return {
        "ready": True,
        "run": trained.folder.path.resolve().name,
        "task": trained.config.task.name,
        "model": trained.config.model.name_or_path.rstrip("/").rpartition("/")[2],
        "round": trained.round_,
        "labels_bought": trained.folder.metrics(trained.round_)["labeled"],
        "labels": trained.task.labels,
        "calibrated": trained.temperatures is not None,
    }


def parsed(content: bytes) -> Body:
    """Return what a body asks for.

    Raises:
        HTTPException: 400, it is not JSON; 422, it is not what is wanted.
    """
    try:
        return Body.model_validate_json(content)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
    place, what = ".".join(map(str, first["loc"])), first["msg"]
    if first["type"] == "json_invalid":
        raise HTTPException(400, f"the body is no JSON: {what.removeprefix('Invalid JSON: ')}")
    if not place:
        raise HTTPException(422, 'the body must be an object, such as {"texts": ["..."]}')
    if first["type"] == "extra_forbidden":
        raise HTTPException(422, f"unknown key {place[:40]!a}; allowed: texts, abstain")
    if place == "abstain":
        raise HTTPException(422, "abstain must be a number from 0 to 1, or null")
    raise HTTPException(422, f"texts must be {WANTED}")


def _check(questions: Sequence[Question], limits: Limits) -> None:
    if not questions:
        raise HTTPException(422, f"texts is empty; give {WANTED}")
    if len(questions) > limits.texts:
        raise HTTPException(413, f"{len(questions)} texts, at most {limits.texts} are allowed")
    for number, question in enumerate(questions, start=1):
        parts = question.values() if isinstance(question, Mapping) else [question]
        length = sum(map(len, parts))
        if length > limits.characters:
            raise HTTPException(
                413, f"text {number}: {length} characters, at most {limits.characters} are allowed"
            )


async def _refused(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, HTTPException)
    return error(problem.status_code, str(problem.detail))


async def _unanswerable(request: Request, problem: Exception) -> JSONResponse:
    return error(422, str(problem))


async def _failed(request: Request, problem: Exception) -> JSONResponse:
    # What is wrong stands in the log, with a traceback; it may hold what others need not read.
    return error(500, "the service failed; its log says why")
