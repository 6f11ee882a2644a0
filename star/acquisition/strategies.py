"""A strategy of one's own: a function from score components to scores, named in the configuration.

``acquisition.strategy: my_package.my_module:my_function`` calls it after each round::

    def my_function(pool: Components) -> NDArray:      # (N,), higher = more informative
        return pool.score("full", "max_entropy") * pool.prompt_tokens

It sees scores, lengths and places in the schedule, and no answer, so it is label-free wherever
the continuation is. The functions below are such strategies: the controls for the length of
answers, since sums over tokens favour long ones.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star import seeding
from star.acquisition import blending
from star.errors import InputError, nearest
from star.models import identity

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Components:
    """What a strategy is told of the N unlabelled examples after round t, in pool order.

    The arrays are read-only copies: what the run goes on with and writes is what it scored.

    Attributes:
        index: (N,) pool indices, ascending.
        base: Measure name to (N, 1) scores of the base model, summed over its continuation, nats.
        full: Measure name to (N, S) scores of the fine-tuned model, one an MC-dropout pass.
        base_num_tokens: (N,) tokens of the base model's continuation; 1 where choices are scored.
        full_num_tokens: (N,) tokens of the fine-tuned model's.
        prompt_tokens: (N,) tokens of the prompt.
        blended: (N,) score of the configuration: ``measure``, ``reduction``, ``combine``, …
        round: t, counted from 0.
        rounds: R, the number of trainings.
        query_size: K, how many will be picked: the K highest scores, ties by the smaller index.
        base_weight: λ(t) of the configuration.
        random: Generator of this seed and round, for strategies that draw.
    """

    index: NDArray[np.int64]
    base: Mapping[str, Array]
    full: Mapping[str, Array]
    base_num_tokens: NDArray[np.int64]
    full_num_tokens: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    blended: Array
    round: int
    rounds: int
    query_size: int
    base_weight: float
    random: np.random.Generator

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                kept: Any = _read_only(value)
            elif isinstance(value, Mapping):
                kept = MappingProxyType({key: _read_only(a) for key, a in value.items()})
            else:
                continue
            object.__setattr__(self, name, kept)

    def score(self, view: str, measure: str, reduction: str = "mean") -> Array:
        """Return (N,) scores of a view, the mean over its passes.

        Args:
            view: ``base`` or ``full``.
            measure: ``predictive_entropy``, ``max_entropy``, ``margin`` or ``least_confidence``.
            reduction: ``mean`` or ``sum`` over the continuation's tokens.
        """
        sums, tokens = getattr(self, view), getattr(self, f"{view}_num_tokens")
        total: Array = sums[measure].mean(axis=1)
        return total / tokens if reduction == "mean" else total


Strategy = Callable[[Components], Array]


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def resolve(name: str) -> Strategy:
    """Return the function of ``module:function``; modules are looked for in the folder too.

    Raises:
        InputError: No such module or function.
    """
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:  # the folder that the command is given in, as `python -m` has it
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"acquisition.strategy={name}: {error}; install it, or start in the folder it is in"
        ) from None
    except (Exception, SystemExit) as error:  # somebody else's module: whatever it raises
        told = _told(name, error)
        raise InputError(
            f"acquisition.strategy={name}: {module} cannot be imported: {told}"
        ) from error
    if not hasattr(found, attribute):
        hint = nearest(attribute, vars(found))
        raise InputError(f"acquisition.strategy={name}: {module} has no {attribute}{hint}")
    function = getattr(found, attribute)
    if not callable(function):
        raise InputError(f"acquisition.strategy={name} must be a function, got {function!r}")
    return function  # type: ignore[no-any-return]


def fingerprint(name: str | None) -> str | None:
    """Return the SHA-256 (hex) of the source of a strategy of the user's own.

    A configuration holds the function's name alone: this tells whether it still does the same. The
    source is the module's and that of all that it imports and that is not installed.

    Returns:
        ``None`` where ``name`` is no ``module:function``, or one of this package's own, which the
        version of the code tells.

    Raises:
        InputError: See :func:`resolve`; or the module has no file.
    """
    if name is None or ":" not in name:
        return None
    resolve(name)
    module = name.partition(":")[0]
    if module.partition(".")[0] == PACKAGE:
        return None
    files = _own_files(module)
    if module not in files:
        raise InputError(
            f"acquisition.strategy={name}: {module} has no source file, so a run cannot tell "
            "whether it still does the same; put the function into a file"
        )
    hashes = {one: identity.hash_file(path) for one, path in files.items()}
    return hashes[module] if len(hashes) == 1 else identity.digest(hashes)


def _own_files(module: str) -> dict[str, Path]:
    """Return module name to file of a module and of what it imports, as far as it is the user's."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in kinds}
    top, found, seen, todo = module.partition(".")[0], {}, {PACKAGE}, [module]
    while todo:
        name = todo.pop()
        first = name.partition(".")[0]
        if name in seen or first == PACKAGE:
            continue
        seen.add(name)
        whole = _file_of(
            first, or_folder=True
        )  # its own first: to look inside a package is to import it
        if first != top and (whole is None or any(map(whole.is_relative_to, installed))):
            continue
        path = _file_of(name)
        if path is None:
            continue
        found[name] = path
        todo += [name.rpartition(".")[0]] if "." in name else []
        todo += _imports(name, path)
    return found


def _file_of(module: str, *, or_folder: bool = False) -> Path | None:
    """Return a module's file, whether or not it is imported yet; ``None``: no module, no file.

    Args:
        module: Its dotted name.
        or_folder: Of a package without a file, return the folder.
    """
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if spec is None:
        # A name imported from a module is looked for, too, and is mostly none.
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(module)
    if spec is None:
        return None
    places = [spec.origin] if spec.has_location else []
    if or_folder and not places:
        places = list(spec.submodule_search_locations or [])
    return Path(str(places[0])).resolve() if places else None


def _imports(module: str, path: Path) -> list[str]:
    """Return what a source file imports, as dotted names; names in modules among them."""
    if path.suffix != ".py":
        return []
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name]


def stream(seed: int, round_: int) -> np.random.Generator:
    """Return the generator of a seed and round that strategies draw from."""
    return np.random.default_rng(seeding.derive(seed, "strategy", round_))


def scores(name: str, strategy: Strategy, pool: Components) -> Array:
    """Return the (N,) scores that a strategy gives.

    Raises:
        InputError: It raised an error, whose traceback is logged, or returned something else than N
            numbers.
    """
    try:
        given = strategy(pool)
    except (Exception, SystemExit) as error:  # somebody else's function: whatever it raises
        raise InputError(
            f"acquisition.strategy={name}, which is not star's, failed after round {pool.round}: "
            f"{_told(name, error)}; mend it and start the same command again: complete rounds stay"
        ) from error
    try:
        found = np.asarray(given)
        shown = f"{found.dtype} of shape {found.shape}"
    except ValueError:  # rows of different lengths
        found, shown = np.empty(0), f"a {type(given).__name__} of {len(given)} unequal parts"
    if found.shape != pool.index.shape or found.dtype.kind not in "biuf":
        raise InputError(
            f"acquisition.strategy={name} must return {len(pool.index)} numbers, one an example; "
            f"got {shown} after round {pool.round}"
        )
    return found.astype(np.float64)


def _told(name: str, error: BaseException) -> str:
    """Return somebody else's error in one line; log its traceback without the frames of star."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    lines = "".join(traceback.format_exception(type(error), error, trace, chain=False))
    if trace is not None:
        logger.error("in acquisition.strategy=%s:\n%s", name, lines.rstrip())
    return " ".join(f"{type(error).__name__}: {error}".split())


def _is_ours(filename: str) -> bool:
    """Whether code is of this module, or of the import of another."""
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")


def longest_first(pool: Components) -> Array:
    """Return scores that pick the longest answers first; the longest prompts among equals.

    A control: sums over tokens favour long answers whatever the model thinks of them.
    """
    answers, prompts = pool.full_num_tokens, pool.prompt_tokens
    return np.asarray(answers + prompts / (1.0 + prompts.max()), dtype=np.float64)


def length_matched_random(pool: Components) -> Array:
    """Return scores that pick at random, among answers as long as the configuration would pick.

    A control: each of the K examples that ``blended`` would pick stands for its length; in its
    place another is drawn from the unlabelled ones whose answer, then prompt, is nearest in length.
    What this gains over a random choice is the lengths', what the configuration gains over this the
    uncertainty's.
    """
    picked = blending.top_k(pool.blended, pool.index, pool.query_size)
    places = np.searchsorted(pool.index, picked)
    length = longest_first(pool)
    free, chosen = np.ones(len(length), dtype=bool), np.zeros(len(length))
    for place in pool.random.permutation(places):
        # One of the ten nearest that are left: the example itself may come again, by chance alone.
        order = pool.random.permutation(np.flatnonzero(free))  # equal lengths in random order
        near = order[np.argsort(np.abs(length[order] - length[place]), kind="stable")[:10]]
        drawn = pool.random.choice(near)
        free[drawn], chosen[drawn] = False, 1.0
    return chosen
