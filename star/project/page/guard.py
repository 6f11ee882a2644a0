"""Who may speak to the page: its own browser window, with the token where one is needed.

A server on one's own machine can be reached by every page that the browser shows. So each request
is asked whose it is, before anything else sees it:

* ``Host`` must be a name of this machine: a foreign name that was made to point here (DNS
  rebinding) is refused;
* what changes something must come from the page (``Origin`` the same as ``Host``) and carry a
  header with a secret that no other page can read;
* where others reach the port, a cookie must hold the token that was printed with the address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from star.listening import LOOPBACK, name_of, whole_body

LIMIT_BYTES = 1_000_000
"""Of a request's body."""

SECRET_HEADER = "x-star-page"

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


def names_of_here(host: str) -> set[str]:
    """Return the names by which a server bound to ``host`` may be called, addresses aside."""
    own = socket.gethostname().lower()
    others = () if host in LOOPBACK else (host.lower(), own, f"{own}.local", socket.getfqdn())
    return {"localhost", *(name.lower() for name in others)}


class Guard:
    """The application behind it sees only requests that may be made, bodies of 1 MB at most."""

    def __init__(
        self, app: ASGIApp, *, secret: str, token: str | None = None, host: str = "127.0.0.1"
    ) -> None:
        """Stand before an application.

        Args:
            app: Which.
            secret: What the page's own requests carry.
            token: What the browser must have been told once; ``None``: nothing.
            host: What the server is bound to.
        """
        self.app = app
        self._secret, self._token = secret, token
        self._names, self._open = names_of_here(host), host not in LOOPBACK
        digest = hashlib.sha256((token or "").encode()).hexdigest()
        self._cookie = f"star_{digest[:12]}"  # of its own: cookies do not part ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})
        headers, query = Headers(scope=scope), QueryParams(scope["query_string"])
        shown = self._token is not None and self._is(query.get("token"), self._token)
        first_visit = shown and scope["path"] == "/"

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out[name] = value
                if first_visit and message["status"] == 200:
                    out.append(
                        "set-cookie",
                        f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/",
                    )
            await send(message)

        refused = self._refusal(scope, headers, first_visit)
        try:
            bare = refused or scope["method"] in ("GET", "HEAD")
            body = b"" if bare else await whole_body(receive, LIMIT_BYTES)
        except ClientDisconnect:
            return None  # half a request is none
        if body is None:
            refused = (413, f"a request may have {LIMIT_BYTES:,} bytes at most")
        if refused is not None:
            status, why = refused
            # What is left of its body is not read: the connection ends.
            answer = JSONResponse({"error": why}, status, {"connection": "close"})
            return await answer(scope, receive, sent)
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replayed() -> Message:
            return next(messages, None) or await receive()

        return await self.app(scope, replayed, sent)

    def _refusal(self, scope: Scope, headers: Headers, first_visit: bool) -> tuple[int, str] | None:
        """Return status and reason if a request may not be made."""
        host = headers.get("host", "")
        if not self._is_here(host):
            return 400, f"this address is not served under the name {host!a:.60}"
        origins = headers.getlist("origin")
        foreign = any(urlsplit(o).netloc.lower() != host.lower() for o in origins)
        kept = scope["method"] in ("GET", "HEAD")
        # A link from elsewhere may open the page, and nothing else.
        strange = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
        if foreign or (strange and not (kept and scope["path"] == "/")):
            return 403, "this request is from another page"
        if self._token is not None and not first_visit:
            cookies = cookie_parser("; ".join(headers.getlist("cookie")))
            if not self._is(cookies.get(self._cookie), self._token):
                return 401, "open the address with its token that star annotate has printed"
        if kept:
            return None
        if not origins or not self._is(headers.get(SECRET_HEADER), self._secret):
            return 403, "this request is from no page of this server, or from an old one: reload"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > LIMIT_BYTES:
            return 413, f"a request may have {LIMIT_BYTES:,} bytes at most"
        return None

    def _is_here(self, host: str) -> bool:
        name = name_of(host)
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._open or address.is_loopback

    @staticmethod
    def _is(given: str | None, known: str) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), known.encode())
