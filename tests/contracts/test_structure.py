"""Rules of the house no reader should have to check: who imports whom, and what nobody does."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from star import checksums, run_files
from star.active_learning import locking

ROOT = Path(__file__).parents[2]
STAR = ROOT / "star"

# The floors of the house, ground floor first: a module imports from lower floors, and in its own
# folder without a circle. What stands beside `__init__` is a folder or a file.
FLOORS = (
    (
        *("__init__", "cache", "checksums", "errors", "files", "listening", "outputs"),
        *("names", "provenance", "redaction", "run_files", "seeding", "signals"),
    ),
    ("config",),
    ("data",),
    ("models",),
    ("acquisition", "evaluation"),  # neighbours that do not know each other
    ("annotation",),
    ("active_learning",),
    ("experiments",),
    ("project", "service"),  # neighbours, too
    ("cli",),
    ("__main__", "strategies"),  # doors: the command, and two names that committed tables say
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The science, to be reviewed alone: arrays and tensors, no models.
PURE = (
    "seeding",
    "data.pool",
    "acquisition.uncertainty",
    "acquisition.blending",
    "acquisition.points",
    "acquisition.stochastic",
    "acquisition.diversity",
    "acquisition.energy",
    "acquisition.random_share",
    "acquisition.representative",
    "acquisition.gradients",
    "acquisition.information",
    "acquisition.trust",
    "evaluation.outcomes",
    "evaluation.proper_scores",
    "evaluation.ranking",
    "evaluation.calibration",
    "evaluation.temperature",
    "evaluation.learning_curves",
    "evaluation.kappa",
    "evaluation.random_share",
    "evaluation.stopping",
    "annotation.agreement",
    "annotation.suspects",
    "evaluation.gains",
    "experiments.report.significance",
)
ARRAYS = {"numpy", "scipy", "sklearn", "threadpoolctl", "torch"}
HUGGING_FACE = {
    "accelerate",
    "datasets",
    "evaluate",
    "huggingface_hub",
    "peft",
    "safetensors",
    "tokenizers",
    "transformers",
}
# Where the name to import differs from the name to install.
DISTRIBUTIONS = {"yaml": "pyyaml", "sklearn": "scikit-learn"}
# They come with transformers, or FastAPI, and nothing else makes sense beside it.
WITH_OTHERS = {"huggingface_hub", "tokenizers", "pydantic", "starlette"}

FILES = sorted(STAR.rglob("*.py"))
PARSED = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in FILES}


def module_of(path: Path) -> str:
    """Return the dotted name below star: ``data.task``, ``config``, ``cli.main``, ``__init__``."""
    parts = path.relative_to(STAR).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in FILES}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted names a file imports, also inside functions; star's own below ``star.``."""
    for node in ast.walk(PARSED[path]):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            assert node.module is not None
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole.removeprefix("star.") in MODULES else node.module


def star_imports(path: Path) -> set[str]:
    names = {name for name in imports_of(path) if name == "star" or name.startswith("star.")}
    return {name.removeprefix("star.") if name != "star" else "__init__" for name in names}


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_is_in_a_room() -> None:
    assert {room(module) for module in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_below(module: str) -> None:
    for other in star_imports(MODULES[module]):
        assert other in MODULES, f"star.{module} imports star.{other}, which is not there"
        same, below = room(module) == room(other), FLOOR_OF[room(other)] < FLOOR_OF[room(module)]
        ground = FLOOR_OF[room(module)] == FLOOR_OF[room(other)] == 0
        assert same or below or ground, f"star.{module} imports star.{other}"


def test_no_cycles() -> None:
    graph = {module: star_imports(path) - {module} for module, path in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("module", [module for module in PURE if module in MODULES])
def test_the_science_needs_no_hugging_face(module: str) -> None:
    direct = {name.partition(".")[0] for name in imports_of(MODULES[module])} - {"star"}
    assert direct - set(sys.stdlib_module_names) <= ARRAYS
    seen, todo = set(), [module]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        found = {name.partition(".")[0] for name in imports_of(MODULES[current])} & HUGGING_FACE
        assert not found, f"star.{module} reaches {found} through star.{current}"
        todo += star_imports(MODULES[current])


@pytest.mark.parametrize("module", MODULES)
def test_only_config_knows_omegaconf(module: str) -> None:
    tops = {name.partition(".")[0] for name in imports_of(MODULES[module])}
    assert module == "config.reading" or "omegaconf" not in tops


@pytest.mark.parametrize("module", MODULES)
def test_evaluate_is_imported_by_metrics_alone(module: str) -> None:
    # It takes seconds, and it serves those who ask for star.evaluation.metrics by name.
    tops = {name.partition(".")[0] for name in imports_of(MODULES[module])}
    assert module == "evaluation.metrics" or "evaluate" not in tops
    assert "evaluation.metrics" not in star_imports(MODULES[module])


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints(module: str) -> None:
    calls = [
        node.lineno
        for node in ast.walk(PARSED[MODULES[module]])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert room(module) == "cli" or not calls, f"star.{module} prints in lines {calls}"


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_can_be_read_at_once(module: str) -> None:
    tree, path = PARSED[MODULES[module]], MODULES[module]
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"star.{module}.{node.name} has {lines} lines"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_pickled(module: str) -> None:
    tops = {name.partition(".")[0] for name in imports_of(MODULES[module])}
    assert not tops & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}


def spelled(path: Path) -> Iterator[str]:
    """Yield a file's string constants, parts of f-strings included, docstrings not."""
    texts = {id(node.value) for node in ast.walk(PARSED[path]) if isinstance(node, ast.Expr)}
    for node in ast.walk(PARSED[path]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node.value


@pytest.mark.parametrize("module", MODULES)
def test_the_names_of_a_runs_files_stand_in_one_module(module: str) -> None:
    names = [value for name, value in vars(run_files).items() if name.isupper()]
    plain = {name for name in names if "." in name} | {locking.NAME, checksums.NAME}
    homes = dict.fromkeys(names, "run_files")
    homes |= {locking.NAME: "active_learning.locking", checksums.NAME: "checksums"}
    # What users read says the names as they are: help, and what a key means.
    if room(module) not in ("config", "cli"):
        for text in spelled(MODULES[module]):
            for name in plain:
                there = re.search(rf"(?<![\w.]){re.escape(name)}\b", text)
                assert not there or homes[name] == module, f"star.{module} spells {name}: {text!r}"
    for node in ast.walk(PARSED[MODULES[module]]):  # words that mean other things elsewhere
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            right = node.right
            joined = right.value if isinstance(right, ast.Constant) else None
            assert joined not in names, f"star.{module}:{node.lineno} spells {joined}"


def test_no_drawer_for_everything_and_no_name_of_a_library() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "misc")]
    # A script's folder comes first in sys.path: scripts/datasets.py would hide the library.
    taken = set(sys.stdlib_module_names) | HUGGING_FACE | ARRAYS | declared() | {"star"}
    loose = [*ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert not [path for path in loose if path.stem in taken]


def test_tests_stand_where_what_they_test_stands() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    beside = {"contracts", "scripts", "support", "golden", "quoted", "__pycache__"}
    assert folders - beside <= {*FLOOR_OF}


def declared() -> set[str]:
    """Return the names of the distributions that star's installation brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # These extras are imported by those who ask for them; the others serve no run.
    extras = project["optional-dependencies"]
    words = [*project["dependencies"], *extras["nf4"], *extras["slurm"], *extras["web"]]
    return {re.match(r"[\w.-]+", word).group().lower() for word in words}


def test_every_import_is_a_declared_dependency() -> None:
    used = {name.partition(".")[0] for path in FILES for name in imports_of(path)}
    foreign = used - set(sys.stdlib_module_names) - WITH_OTHERS - {"star"}
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} <= declared()


def test_constraints_pin_every_dependency_once() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    names = [pin.partition("==")[0] for pin in pins]
    assert len(set(names)) == len(names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    words = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert {re.match(r"[\w.-]+", word).group().lower() for word in words} <= set(names)
