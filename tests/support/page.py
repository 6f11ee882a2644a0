"""The annotation page's API, spoken to as its own page does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from star.project.page.app import application
from star.project.project import Project

ORIGIN = "http://127.0.0.1:8377"


class Page:
    """A browser window with the page of a project."""

    def __init__(self, folder: Path, **words: Any) -> None:
        self.folder = folder
        self.client = TestClient(application(Project.of(folder), **words), base_url=ORIGIN)
        self.headers = {"origin": ORIGIN, "x-star-page": self.get("/api/project")["secret"]}

    def get(self, path: str, **query: str) -> Any:
        reply = self.client.get(path, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        reply = self.client.post(path, json=body, headers=self.headers)
        assert reply.status_code == status, reply.text
        return reply.json()

    def next(self, annotator: str = "ann", queue: str = "new", **more: str) -> Any:
        return self.get("/api/next", annotator=annotator, queue=queue, **more)

    def decide(self, row: str, answer: str | None = None, status: int = 200, **more: Any) -> Any:
        outcome = {"outcome": "answer", "answer": answer} if answer is not None else {}
        words = {"annotator": "ann", "id": row, **outcome, **more}
        return self.post("/api/decisions", status, **words)
