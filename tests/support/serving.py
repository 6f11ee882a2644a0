"""A run's model in service from a thread, and how it is asked."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star.active_learning.predictor import Predictor
from star.active_learning.trained_run import TrainedRun
from star.listening import bound
from star.service.app import app
from star.service.limits import Limits
from star.service.serve import server_of

LIMITS = Limits(bytes=20_000, texts=8, characters=2_000)


@dataclass
class Service:
    """A server of a run, and how it is asked."""

    run: Path
    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, content: Any, path: str = "predict", **headers: str) -> tuple[int, Any]:
        """Return status and content; what is asked is sent as JSON, unless it is bytes."""
        data = content if isinstance(content, (bytes, type(None))) else json.dumps(content).encode()
        head = {"Content-Type": "application/json"} | self.headers
        head |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", data, head)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def raw(self, parts: Sequence[bytes]) -> bytes:
        """Return the first line that comes back for bytes on the wire."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as wire:
            for part in parts:
                wire.sendall(part)
            return wire.makefile("rb").readline()


@contextmanager
def serving(run: Path, token: str | None = None) -> Iterator[Service]:
    """Serve a run at a free port from a thread."""
    with (
        bound("127.0.0.1", 0) as place,
        Predictor.of(TrainedRun.of(run)) as predictor,
        ThreadPoolExecutor(1) as worker,
    ):
        place.listen()
        server = server_of(app(predictor, worker, limits=LIMITS, token=token))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        head = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            yield Service(run, place.getsockname()[1], head)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
