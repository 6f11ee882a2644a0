"""``star score``: score texts with a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

from star.config import McDropoutConfig, ModelConfig
from star.config.keys import fields_of


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "score",
        help="score prompts and continuations with a model",
        description="Read rows {prompt, continuation} and write num_tokens, nll and entropy (nats, "
        "summed over the continuation) and perplexity; order kept. A row without a "
        "continuation is scored on the model's own greedy one. With --mc-passes the mean "
        "and standard deviation over the passes are added. With --tokens each row also has lists, "
        "an item a token of the continuation: tokens, token_ids, token_nll and token_entropy (with "
        "--mc-passes token_nll_mean, token_nll_std and so on, too).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("model", metavar="MODEL", help="as model.name_or_path of a configuration")
    verb.add_argument("input", metavar="INPUT.jsonl")
    verb.add_argument("-o", "--output", required=True, metavar="OUT.jsonl")
    verb.add_argument("--force", action="store_true", help="replace OUT.jsonl if it is there")
    verb.add_argument("--adapter", metavar="DIR", help="a PEFT LoRA adapter folder")
    verb.add_argument("--mc-passes", type=int, default=0, metavar="S", help="MC-dropout passes")
    _add_key(verb, "--masks", McDropoutConfig, "masks")
    verb.add_argument("--seed", type=int, default=0, help="of the dropout masks")
    verb.add_argument("--tokens", action="store_true", help="give each token's scores too")
    verb.add_argument("--batch-size", type=int, default=16)
    verb.add_argument("--max-new-tokens", type=int, default=256)
    _add_key(verb, "--dtype", ModelConfig, "dtype")
    _add_key(verb, "--device", ModelConfig, "device")
    verb.add_argument("--revision", help="of a model on the Hub: branch, tag or commit")
    _add_key(verb, "--quantization", ModelConfig, "quantization")
    _add_key(
        verb, "--attn", ModelConfig, "attn_implementation", default=None,
        help="attention kernel; without it sdpa, or eager where the model has no other",
    )  # fmt: skip
    verb.set_defaults(execute=execute)


def _add_key(
    verb: argparse.ArgumentParser, option: str, section: type, key: str, **others: str | None
) -> None:
    """Add an option for a configuration's key, with the key's choices, default and help."""
    field = dict(fields_of(section))[key]
    choices = get_args(get_type_hints(section)[key]) or None
    words = {"default": field.default, "help": field.metadata["help"], **others}
    verb.add_argument(option, choices=choices, **words)


def execute(options: argparse.Namespace) -> int:
    """Write the scores of a file's rows."""
    from star.models.text_rows import read_rows

    read_rows(Path(options.input))  # what is wrong with them is said before torch is loaded
    from star.models.score_texts import score_file

    score_file(
        options.model,
        options.input,
        output=options.output,
        force=options.force,
        adapter=options.adapter,
        mc_passes=options.mc_passes,
        masks=options.masks,
        seed=options.seed,
        tokens=options.tokens,
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
        dtype=options.dtype,
        device=options.device,
        revision=options.revision,
        quantization=options.quantization,
        attn=options.attn,
        progress=sys.stderr.isatty(),
    )
    return 0
