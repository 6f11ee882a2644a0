"""The page's server killed at any moment: what it has confirmed is in the journal."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from projects import LABELS

from star.project.project import Project

pytest.importorskip("uvicorn", reason="the extra 'web' is not installed")
pytest.importorskip("fastapi", reason="the extra 'web' is not installed")


@contextlib.contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve a project's page; yield the process and the address."""
    command = [sys.executable, "-m", "star", "annotate", str(folder), "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("annotate at http://127.0.0.1:"), line
            yield process, line.split()[2]
        finally:
            process.kill()


class Window:
    """A connection as a browser window has one."""

    def __init__(self, address: str) -> None:
        at = urlsplit(address)
        self.connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
        self.headers = {"content-type": "application/json", "origin": f"http://{at.netloc}"}
        self.headers["x-star-page"] = self.send("GET", "/api/project")["secret"]

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, method: str, path: str, body: Any = None, *, refused: bool = False) -> Any:
        content = None if body is None else json.dumps(body)
        self.connection.request(method, path, content, self.headers)
        reply = self.connection.getresponse()
        told = json.loads(reply.read())
        assert reply.status == 200 or refused, told
        return told if reply.status == 200 else None


def label(address: str, annotator: str, confirmed: list[tuple[int, str, str, str]]) -> None:
    """Label rows over and over, noting what is confirmed, until the server is gone."""
    with contextlib.suppress(OSError, http.client.HTTPException), Window(address) as window:
        for k in range(10**6):
            ask, told = f"/api/next?annotator={annotator}", None
            mine = [row for _, row, who, _ in [*confirmed] if who == annotator]
            if k % 2 and mine:  # again what is decided, unless the other has it on the screen
                told = window.send("GET", f"{ask}&row={mine[k % len(mine)]}", refused=True)
            told = told or window.send("GET", ask)
            if told["item"] is None:
                continue
            row, own = told["item"]["id"], told["own"]
            said = {"annotator": annotator, "id": row, "outcome": "answer"}
            said["answer"] = LABELS[own is None or own["answer"] == LABELS[0]]
            said["replaces"] = None if own is None else own["number"]
            number = window.send("POST", "/api/decisions", said)["saved"]
            confirmed.append((number, row, annotator, said["answer"]))


@pytest.mark.slow
def test_what_was_confirmed_is_there_after_ten_kills(project: Path) -> None:
    confirmed: list[tuple[int, str, str, str]] = []
    for k in range(10):
        before = len(confirmed)
        with served(project) as (process, address):
            people = ("ann", "bob")
            threads = [threading.Thread(target=label, args=(address, w, confirmed)) for w in people]
            for thread in threads:
                thread.start()
            while len(confirmed) == before:
                assert process.poll() is None and any(t.is_alive() for t in threads)
                time.sleep(0.005)
            time.sleep(random.Random(k).uniform(0, 0.5))
            os.kill(process.pid, signal.SIGKILL)
            for thread in threads:
                thread.join()
        assert len(confirmed) > before
    entries = Project.of(project).entries()  # which checks the whole chain
    kept = [(e.number, e.decision.id, e.decision.annotator, e.decision.answer) for e in entries]
    assert {*confirmed} <= {*kept}
    assert len({*confirmed}) == len(confirmed)  # nothing was confirmed twice
    assert len(kept) <= len(confirmed) + 2 * 10  # of each kill and annotator one without a reply
    with served(project) as (_, address), Window(address) as window:
        told = window.send("GET", "/api/overview")
    assert told["annotators"] == {
        who: len({row for _, row, name, _ in kept if name == who}) for who in ("ann", "bob")
    }


@pytest.mark.slow
def test_a_server_reads_no_more_than_it_takes(project: Path) -> None:
    with served(project) as (_, address), Window(address) as window:
        headers, at = window.headers, urlsplit(address)
        with socket.create_connection((at.hostname, at.port), timeout=30) as line:
            lines = [f"{name}: {value}" for name, value in headers.items()]
            head = ["POST /api/decisions HTTP/1.1", f"host: {at.netloc}", *lines]
            line.sendall("\r\n".join([*head, "transfer-encoding: chunked", "", ""]).encode())
            chunk, sent = b"10000\r\n" + b" " * 65_536 + b"\r\n", 0
            with contextlib.suppress(ConnectionError):  # it hangs up
                while sent < 100_000_000:
                    line.sendall(chunk)
                    sent += 65_536
            with contextlib.suppress(ConnectionError):
                assert line.recv(4096).startswith(b"HTTP/1.1 413")
        assert sent < 20_000_000  # what lay in buffers
        assert window.send("GET", "/api/overview")["labelled"] == 0


@pytest.mark.slow
def test_a_token_is_in_the_address_and_the_end_is_clean(project: Path) -> None:
    with served(project, "--token") as (process, address):
        at = urlsplit(address)
        assert at.query.startswith("token=")
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
        connection.request("GET", "/api/project")
        assert connection.getresponse().status == 401
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
