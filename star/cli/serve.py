"""``star serve``: a run's model as an HTTP service."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

from star.errors import InputError

DESCRIPTION = """\
Answer texts over HTTP with the model that a run has trained: the labels or answers, probabilities
and abstentions are those of star predict. One model is kept in memory and one request is answered
at a time, its texts as a batch. Needs pip install 'star-al[web]'. SIGTERM or Ctrl-C ends it, once
what is being answered is answered.
"""

NOTES = """\
  curl 127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{"texts": ["what a day"]}'
  {"answers":[{"label":"joy","probability":0.91,...}]}

POST /predict    {"texts": T, "abstain": P}; T: a text, or a list of texts or of rows (column:
                 text); P, which may be left out: no label below this probability
GET  /health     ready, run, task, model, round, labels_bought, labels, calibrated
what is wrong    {"error": "a line"}: 400 no JSON, 401 no token, 403 another host, 413 too large or
                 too many, 415 no application/json, 422 not what is wanted, 503 too many waiting

Beyond 127.0.0.1 requests must carry a token, Authorization: Bearer TOKEN. It is that of the
variable STAR_TOKEN (16 characters or more), which is then wanted at home, too, or else a new one
that is printed. What goes over the network is not encrypted: put a proxy that does before it.
"""
TOKEN = "STAR_TOKEN"


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "serve",
        help="answer texts over HTTP with a run's model",
        description=DESCRIPTION,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("run", metavar="RUN", help="a run folder")
    verb.add_argument("--round", type=int, metavar="N", help="whose adapter, from 0; default: last")
    verb.add_argument("--host", default="127.0.0.1", help="the address to listen at; default: home")
    verb.add_argument("--port", type=int, default=8000, help="0: one that is free; default: 8000")
    for name, most, what in (
        ("bytes", 1_048_576, "of a request's body"),
        ("texts", 256, "of a request"),
        ("characters", 20_000, "of a text"),
    ):
        verb.add_argument(
            f"--max-{name}", type=int, default=most, metavar="N", help=f"{what}; default: {most}"
        )
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Serve until asked to end."""
    for package in ("fastapi", "uvicorn"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError:
            raise InputError(
                f"star serve needs {package}, which is not installed: pip install 'star-al[web]'"
            ) from None
    from star.active_learning.trained_run import TrainedRun
    from star.service.limits import Limits

    limits = Limits(options.max_bytes, options.max_texts, options.max_characters)
    trained = TrainedRun.of(options.run, options.round)
    from star.service.serve import serve

    def ready(address: str, token: str | None) -> None:
        print(address, flush=True)
        print(f"serves {trained.summary()}; Ctrl-C ends it", file=sys.stderr)
        if token is not None and TOKEN not in os.environ:
            print(f"Authorization: Bearer {token}", file=sys.stderr)

    serve(
        trained,
        host=options.host,
        port=options.port,
        limits=limits,
        token=os.environ.get(TOKEN),
        ready=ready,
    )
    return 0
