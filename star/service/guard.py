"""The door of the service: who may come in, and with how much. A layer of ASGI."""

from __future__ import annotations

import secrets

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from star.listening import LOOPBACK, name_of, whole_body


class Guard:
    """Passes on what is allowed, with its whole body in one message.

    A body is counted as it comes, so one without ``Content-Length`` is refused as well, and none
    is held in memory beyond the limit. Without a token the service is this machine's alone, and
    the name it is called by must be this machine's: else a page elsewhere could reach it through a
    name that resolves to 127.0.0.1.

    Args:
        app: What is behind the door.
        token: What ``Authorization: Bearer …`` must say; ``None``: nothing.
        most: Bytes of a body.
    """

    def __init__(self, app: ASGIApp, token: str | None, most: int) -> None:
        self.app, self.token, self.most = app, token, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app do it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(Request(scope))
        try:
            body = b"" if refusal else await whole_body(receive, self.most)
        except ClientDisconnect:
            return  # half a request is none
        if body is None:
            refusal = self._too_large()
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self.app(scope, again, send)

    def _refusal(self, request: Request) -> JSONResponse | None:
        """Return what is wrong with a request before its body is read."""
        if self.token is None:
            host = request.headers.get("host", "")
            if name_of(host) not in LOOPBACK:
                return error(403, f"the host must be {' or '.join(LOOPBACK)}, got {host!a:.60}")
        else:
            given = request.headers.get("authorization", "")
            kind, _, word = given.partition(" ")
            right = secrets.compare_digest(word.strip().encode(), self.token.encode())
            if kind.lower() != "bearer" or not right:
                wants = {"WWW-Authenticate": "Bearer"}
                return error(401, "give the token as Authorization: Bearer TOKEN", wants)
        size = request.headers.get("content-length", "0")
        return self._too_large() if size.isdigit() and int(size) > self.most else None

    def _too_large(self) -> JSONResponse:
        return error(413, f"the body must be at most {self.most} bytes", {"Connection": "close"})


def error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that says in one line what is wrong."""
    return JSONResponse({"error": " ".join(message.split())}, status, headers)
