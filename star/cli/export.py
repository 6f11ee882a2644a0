"""``star export``: a run's model as a folder that other programs open."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Write the model of a run for use without star: its tokenizer, star.json (the prompt, the labels and
their words, the temperature), a model card with lines of plain transformers that give the run's own
predictions, and, with

  --merge    the base model with the adapter in its weights, as safetensors; llama.cpp's
             convert_hf_to_gguf.py makes a GGUF file of it
  --adapter  the adapter in PEFT's form; a base model that the Hub does not have lies beside it
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "export",
        help="write a run's model for use without star",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("run", metavar="RUN", help="a run folder")
    form = verb.add_mutually_exclusive_group(required=True)
    form.add_argument("--merge", action="store_true", help="one model, the adapter in its weights")
    form.add_argument("--adapter", action="store_true", help="the adapter alone, for PEFT")
    verb.add_argument(
        "--to", metavar="FOLDER",
        help="not there yet, or empty; or hub:OWNER/NAME; default: RUN's name with -merged or "
        "-adapter, in this folder",
    )  # fmt: skip
    verb.add_argument("--round", type=int, metavar="N", help="whose adapter, from 0; default: last")
    verb.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Write the folder and print where it is."""
    from star.active_learning.export import export

    form = "merged" if options.merge else "adapter"
    place = options.to or f"{Path(options.run).resolve().name}-{form}"
    print(export(options.run, place, merge=options.merge, round_=options.round))
    return 0
