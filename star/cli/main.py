"""The command line: ``star VERB …``, the same as ``python -m star VERB …``.

Exit status 0: done. 2: something the user can mend, said in one line on stderr. 1: our fault.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from star import __version__
from star import config as configuration
from star.cli import help_texts, tables
from star.cli import verbs as cli_verbs
from star.errors import InputError

# A shared machine with as many busy threads as cores: OpenMP's threads then spin at each barrier,
# waiting for one that has no core. Asleep they cost a little on a free machine, and spinning made a
# run here thirty times slower. Read when torch is loaded, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# What a disk, its rights and its names say no to, wherever that shows; the rest is our own fault.
MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.EMFILE),
)
# As torch says it: of a CPU, of a GPU.
NO_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status."""
    try:
        options = _options(arguments)
        _set_up_logging(options.verbose)
        if getattr(options, "json", None) is not None:  # before the work for it
            from star.files import refuse_output  # late: numpy

            sources = [options.config] if "config" in options else []
            refuse_output(options.json, force=options.force, sources=sources)
        status: int = options.call(options)
        return status
    except InputError as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        name = "" if error.filename is None else f" {os.fsdecode(error.filename)}"
        return _refuse(f"cannot read or write{name}: {error.strerror}")
    except UnicodeEncodeError as error:  # a name that this locale's files cannot have
        if error.encoding.startswith("utf"):
            raise
        return _refuse(
            f"{error.object!a} cannot be a file's name in this locale ({error.encoding}); set "
            "PYTHONUTF8=1, or another LC_ALL"
        )
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
            raise
        return _refuse(
            f"not enough memory ({(str(error).splitlines() or ['none'])[0][:200]}); use a smaller "
            "model, batch or adapter, or a larger machine"
        )
    except KeyboardInterrupt:
        print("interrupted; start the same command again to go on", file=sys.stderr)
        return 130


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes words behind an option for strangers: star run CONFIG --print-config seed=1
    worded = "overrides" in options
    strangers = [word for word in rest if not worded or word.startswith("-")]
    if strangers:
        parser.error(f"unrecognized arguments: {' '.join(strangers)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _refuse(message: str) -> int:
    """Say what is wrong in one line, and return the status for what the user can mend."""
    with contextlib.suppress(OSError):  # a full disk behind stderr
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line, as all of this program does."""

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse says nothing of a disk that is full

    def error(self, message: str) -> NoReturn:
        sys.exit(_refuse(f"{message} (see {self.prog} --help)"))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="star",
        description="Active learning for fine-tuning LLMs: a reimplementation of STAR "
        "(arXiv 2403.01165).",
    )
    parser.add_argument("--version", action="version", version=f"star-al {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="more log lines")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    run = verbs.add_parser(
        "run",
        help="run active learning from a configuration file",
        description="Run active learning: label, fine-tune, evaluate, score, query, repeat. "
        "The last line on stdout is the run folder.",
        epilog=help_texts.RUN_EXAMPLES + configuration.describe(),
        formatter_class=raw,
    )
    _configured(run)
    run.add_argument(
        "--print-config", action="store_true", help="show the resolved YAML and do nothing else"
    )
    run.set_defaults(call=cli_verbs.run)

    score = verbs.add_parser(
        "score",
        help="score prompts and continuations with a model",
        description="Read rows {prompt, continuation} and write num_tokens, nll and entropy (nats, "
        "summed over the continuation) and perplexity; order kept. A row without a "
        "continuation is scored on the model's own greedy one. With --mc-passes the mean "
        "and standard deviation over the passes are added.",
        formatter_class=raw,
    )
    score.add_argument("model", metavar="MODEL", help="as model.name_or_path of a configuration")
    score.add_argument("input", metavar="INPUT.jsonl")
    score.add_argument("-o", "--output", required=True, metavar="OUT.jsonl")
    score.add_argument("--force", action="store_true", help="replace OUT.jsonl if it is there")
    score.add_argument("--adapter", metavar="DIR", help="a PEFT LoRA adapter folder")
    score.add_argument("--mc-passes", type=int, default=0, metavar="S", help="MC-dropout passes")
    score.add_argument("--masks", choices=("consistent", "token"), default="consistent")
    score.add_argument("--seed", type=int, default=0, help="of the dropout masks")
    score.add_argument("--batch-size", type=int, default=16)
    score.add_argument("--max-new-tokens", type=int, default=256)
    score.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    score.add_argument("--device", default="auto")
    score.add_argument("--revision", help="of a model on the Hub: branch, tag or commit")
    score.add_argument("--quantization", choices=("none", "nf4"), default="none")
    score.add_argument(
        "--attn",
        choices=("sdpa", "eager", "flash_attention_2"),
        help="attention kernel; without it sdpa, or eager where the model has no other",
    )
    score.set_defaults(call=cli_verbs.score)

    estimate = verbs.add_parser(
        "estimate",
        help="say what a run will cost before it is started",
        description=help_texts.ESTIMATE_DESCRIPTION,
        epilog=help_texts.ESTIMATE_NOTES,
        formatter_class=raw,
    )
    _configured(estimate)
    estimate.add_argument(
        "--flops-per-second",
        type=float,
        metavar="F",
        help="what another device achieves, 1e14 say: measure nothing, load no weights",
    )
    estimate.add_argument(
        "--bytes-per-second",
        type=float,
        metavar="B",
        help="with it: how fast that device reads the weights, once a generated token of a batch",
    )
    estimate.add_argument("--json", metavar="FILE", help="also write the figures, round by round")
    estimate.add_argument("--force", action="store_true", help="replace FILE if it is there")
    estimate.set_defaults(call=cli_verbs.estimate)

    replay = verbs.add_parser(
        "replay",
        help="ask a run's stored scores what another strategy would have picked",
        description=help_texts.REPLAY_DESCRIPTION,
        epilog=help_texts.REPLAY_NOTES,
        formatter_class=raw,
    )
    replay.add_argument("run", metavar="RUN", help="a run folder")
    replay.add_argument("overrides", metavar="key=value", nargs="*", help="ask for another value")
    replay.add_argument("--json", metavar="FILE", help="also write the rows, with the indices")
    replay.add_argument("--force", action="store_true", help="replace FILE if it is there")
    replay.set_defaults(call=cli_verbs.replay)
    tables.add_to(verbs)
    return parser


def _configured(verb: argparse.ArgumentParser) -> None:
    """Let a verb take a configuration, as ``cli_verbs`` reads it."""
    verb.add_argument("config", metavar="CONFIG", help="YAML file; '-': stdin, or the defaults")
    verb.add_argument("overrides", metavar="key=value", nargs="*", help="override a key")
    verb.add_argument(
        "--preset",
        metavar="NAME",
        help="paper (the text's reading), released (the authors' code with its faults) or star "
        "(ours): a delta between CONFIG and key=value, see star/config/presets",
    )


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    logging.getLogger("star").setLevel(logging.DEBUG if verbose else logging.INFO)
