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
    from star.listening import LOOPBACK, bound
    from star.project.project import Project

    project = Project.of(options.folder)
    try:
        import uvicorn

        from star.project.page.app import application
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "pydantic"):
            raise
        raise InputError(
            f"star annotate needs {error.name}, which is not installed: pip install 'star-al[web]'"
        ) from None
    token = secrets.token_urlsafe(24)
    shown = token if options.token or options.host not in LOOPBACK else None
    app = application(project, host=options.host, token=shown)
    with bound(options.host, options.port) as listener:
        listener.listen()
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


def _address(host: str, port: int, token: str | None) -> str:
    """Return what is opened in a browser."""
    from star.listening import address

    everywhere = host in ("0.0.0.0", "::", "")
    opened = address(socket.gethostname() if everywhere else host, port)
    return f"{opened}/" + ("" if token is None else f"?token={token}")
