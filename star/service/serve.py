"""The server: a socket, a model, and an end when it is asked to end."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI

from star.active_learning.predictor import Predictor
from star.active_learning.trained_run import TrainedRun
from star.listening import LOOPBACK, address, bound
from star.service.app import app
from star.service.limits import Limits, check_token

WAITING = 100  # requests; those beyond are answered with 503
PATIENCE = 60  # seconds for what is being answered when the service is ended


def serve(
    trained: TrainedRun,
    *,
    host: str,
    port: int,
    limits: Limits,
    token: str | None,
    ready: Callable[[str, str | None], None],
) -> None:
    """Answer requests until SIGTERM or SIGINT; what is being answered then is answered.

    Args:
        trained: The run and the round.
        host: An address of this machine; beyond 127.0.0.1 with a token alone.
        port: 0: any that is free.
        limits: Of a request.
        token: ``None``: none at home, a new one beyond.
        ready: Called with the address and the token once requests are taken.

    Raises:
        InputError: The address cannot be had, the token can be guessed, the model cannot be loaded.
    """
    if token is None and host not in LOOPBACK:
        token = secrets.token_urlsafe(24)
    check_token(host, token)
    with (
        bound(host, port) as place,
        Predictor.of(trained) as predictor,
        ThreadPoolExecutor(1) as worker,
    ):
        server = server_of(app(predictor, worker, limits=limits, token=token))
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                # uvicorn takes them over, ends, and raises them again: which then is no news.
                signal.signal(number, lambda *_: None)
        place.listen()
        ready(address(host, place.getsockname()[1]), token)
        server.run(sockets=[place])


def server_of(service: FastAPI) -> uvicorn.Server:
    """Return the server of an app. It logs what fails, and no text."""
    return uvicorn.Server(
        uvicorn.Config(
            service,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=WAITING,
            timeout_graceful_shutdown=PATIENCE,
        )
    )
