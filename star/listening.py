"""What the two servers share: an address of this machine, and a request's body within a limit."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from star.errors import InputError

if TYPE_CHECKING:
    from starlette.types import Receive

LOOPBACK = ("127.0.0.1", "::1", "localhost")  # addresses that this machine alone can reach


def bound(host: str, port: int) -> socket.socket:
    """Return a socket of an address, which nobody can connect to before it listens.

    Args:
        host: A name or address of this machine; ``0.0.0.0``: all of them.
        port: 0: any that is free.

    Raises:
        InputError: No such address here, or the port is taken, or not to be had.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port must be from 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        place = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host}: no address of this machine ({error})") from None
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(where)
    except OSError as error:
        place.close()
        raise InputError(
            f"cannot listen at {host}, port {port}: {error.strerror}; give another --host or "
            "--port (0: one that is free)"
        ) from None
    return place


def address(host: str, port: int) -> str:
    """Return ``http://host:port``, as a browser takes it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def name_of(host: str) -> str:
    """Return the name in a request's header ``Host``, without port and brackets, in small letters.

    Empty where it is none.
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def whole_body(receive: Receive, most: int) -> bytes | None:
    """Return a request's body, counted as it comes, so that its announced length does not matter.

    Args:
        receive: Of the request.
        most: Bytes.

    Returns:
        ``None``: it is larger, and the rest is left where it is.

    Raises:
        starlette.requests.ClientDisconnect: The client has gone before its end.
    """
    from starlette.requests import ClientDisconnect

    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)
