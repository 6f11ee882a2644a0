"""A function of the user's own, ``module:function``: found, known by its source, called."""

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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star.acquisition import skactiveml_pool
from star.acquisition.needs import NEEDS, OUTCOMES
from star.cache import digest
from star.errors import InputError, nearest
from star.models import identity

if TYPE_CHECKING:
    from star.acquisition.components import Components  # late: it brings torch

logger = logging.getLogger(__name__)

Function = Callable[["Components"], Any]  # to scores or a batch: see `star.acquisition.strategies`
PACKAGE = __name__.partition(".")[0]


def resolve(name: str, key: str = "acquisition.strategy") -> Callable[..., Any]:
    """Return the function of ``module:function``; modules are looked for in the folder too.

    Args:
        name: Of the function.
        key: The setting that names it, for messages.

    Raises:
        InputError: No such module or function.
    """
    module, _, attribute = name.partition(":")
    if module == skactiveml_pool.NAME:
        return skactiveml_pool.strategy(attribute)
    here = os.getcwd()
    if here not in sys.path:  # the folder that the command is given in, as `python -m` has it
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{key}={name}: {error}; install it, or start in the folder it is in"
        ) from None
    except (Exception, SystemExit) as error:  # somebody else's module: whatever it raises
        told = _told(f"{key}={name}", error)
        raise InputError(f"{key}={name}: {module} cannot be imported: {told}") from error
    if not hasattr(found, attribute):
        hint = nearest(attribute, vars(found))
        raise InputError(f"{key}={name}: {module} has no {attribute}{hint}")
    function = getattr(found, attribute)
    if not callable(function):
        raise InputError(f"{key}={name} must be a function, got {function!r}")
    return function  # type: ignore[no-any-return]


def fingerprint(name: str | None) -> str | None:
    """Return the SHA-256 (hex) of the source of a strategy of the user's own, ``None`` of none.

    A configuration holds the function's name alone: this tells whether it still does the same. The
    source is the module's and that of all that it imports and that is not installed; of
    scikit-activeml it is the version.

    Raises:
        InputError: See :func:`resolve`; or the module has no file.
    """
    if name is None:
        return None
    resolve(name)
    module = name.partition(":")[0]
    if module == skactiveml_pool.NAME:
        return skactiveml_pool.fingerprint()
    files = _own_files(module)
    if module not in files:
        raise InputError(
            f"acquisition.strategy={name}: {module} has no source file, so a run cannot tell "
            "whether it still does the same; put the function into a file"
        )
    hashes = {one: identity.hash_file(path) for one, path in files.items()}
    return hashes[module] if len(hashes) == 1 else digest(hashes)


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


def needs_of(name: str, function: Function) -> tuple[str, ...]:
    """Return what a user's function says that it needs, in its attribute ``needs``; else scores.

    Raises:
        InputError: A word is not of ``needs.NEEDS``.
    """
    words = getattr(function, "needs", ("scores",))
    if not isinstance(words, tuple | list | set | frozenset):
        raise InputError(
            f"acquisition.strategy={name}: its needs must be a tuple of words, ('history',), got "
            f"{words!r:.60}"
        )
    offered = [word for word in NEEDS if word != OUTCOMES]  # which reads labels
    for word in words:
        if word not in offered:
            hint = nearest(str(word), offered)
            raise InputError(
                f"acquisition.strategy={name}: its needs can be {', '.join(offered)}, got "
                f"{word!r:.60}{hint}"
            )
    return tuple(words)


def call(name: str, function: Function, pool: Components) -> Any:
    """Return what a user's function gives for a pool.

    Raises:
        InputError: It raised an error, whose traceback is logged.
    """
    try:
        return function(pool)
    except InputError:  # a stored score that is not there
        raise
    except (Exception, SystemExit) as error:  # somebody else's function: whatever it raises
        setting = f"acquisition.strategy={name}"
        raise InputError(
            f"{setting}, which is not star's, failed {pool.when}: {_told(setting, error)}; mend it "
            "and start the same command again: complete rounds stay"
        ) from error


def _told(setting: str, error: BaseException) -> str:
    """Return somebody else's error in one line; log its traceback without the frames of star."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    lines = "".join(traceback.format_exception(type(error), error, trace, chain=False))
    if trace is not None:
        logger.error("in %s:\n%s", setting, lines.rstrip())
    return " ".join(f"{type(error).__name__}: {error}".split())


def _is_ours(filename: str) -> bool:
    """Whether code is of this module, or of the import of another."""
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")
