"""``star annotate``: the page on which people label."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import socket
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "annotate",
        help="open the page on which people label",
        description="Serve a page for labelling in the browser: the rows that star query would "
        "write, one at a time. Each decision is on the disk before the page says so; the page can "
        "be closed at any time. Ctrl-C ends it.",
    )
    verb.add_argument("folder", metavar="FOLDER", help="a project")
    verb.add_argument("--port", type=int, default=8377, help="default: 8377; 0: any that is free")
    verb.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve at, 0.0.0.0 for all; a token is needed then. Default: 127.0.0.1, "
        "this machine alone",
    )
    verb.add_argument(
        "--token", action="store_true", help="need a token on 127.0.0.1 too: others log in here"
    )
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from star.errors import InputError
    from star.project.project import Project

    if not 0 <= options.port <= 65535:
        raise InputError(f"--port must be 0 to 65535, got {options.port}")
    project = Project.of(options.folder)
    try:
        import uvicorn

        from star.project.page.app import application
        from star.project.page.guard import LOOPBACK
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "pydantic"):
            raise
        raise InputError(
            f"star annotate needs {error.name}, which is not installed: pip install 'star-al[web]'"
        ) from None
    token = secrets.token_urlsafe(24)
    shown = token if options.token or options.host not in LOOPBACK else None
    app = application(project, host=options.host, token=shown)
    with _listening(options.host, options.port) as listener:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # its lines would have the token
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        port = listener.getsockname()[1]
        print(f"annotate at {_address(options.host, port, shown)} (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        InputError: The port is taken, or there is no such address here.
    """
    from star.errors import InputError

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InputError(
            f"cannot serve at {host}, port {port}: {error.strerror or error}; set --port (0: any "
            "that is free) or --host"
        ) from None


def _address(host: str, port: int, token: str | None) -> str:
    """Return what is opened in a browser."""
    everywhere = host in ("0.0.0.0", "::", "")
    name = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + ("" if token is None else f"?token={token}")
