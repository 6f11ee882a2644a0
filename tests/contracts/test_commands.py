"""The commands that READMEs show do run.

Every fenced ``bash`` block of a README says in the line above what becomes of it: it is run under
``<!-- test -->``, with ``--slow`` only under ``<!-- test: slow -->``, and not run under ``<!-- not
run: why -->``; there each ``star run CONFIG …`` is tried with ``--print-config``, so that its keys
exist. The blocks run one after the other, the main README's first, in one copy of the repository
with a virtual environment of its own, so nothing they write lands here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from readmes import READMES, ROOT

from star.cli.main import main

MARK = re.compile(
    r"<!-- (?P<kind>test|test: slow|not run: [^\n]+) -->[ \t]*\n(?P<rest>.*)", re.DOTALL
)
BLOCK = re.compile(r"```bash\n(?P<command>.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
# Not the user's data, and nothing that a clone would not have.
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".*_cache", "*.egg-info")


def marked(text: str) -> list[tuple[str, str]]:
    """Return (command, kind) of every bash block: ``test``, ``test: slow`` or ``not run: why``.

    Raises:
        ValueError: A block without a mark, or a mark that is misspelt or has no block below it.
    """
    found, places = [], set()
    for comment in re.finditer(r"<!--\s*(?:tests?|not run)\b", text):
        mark = MARK.match(text, comment.start())
        block = mark and BLOCK.match(mark["rest"])
        if not mark or not block:
            raise ValueError(f"no ```bash block below the mark {text[comment.start() :][:40]!r}")
        places.add(mark.start("rest") + block.start("command"))
        found.append((block["command"], mark["kind"]))
    for block in BLOCK.finditer(text):
        if block.start("command") not in places:
            raise ValueError(f"no mark above the ```bash block {block['command'][:40]!r}")
    return found


BLOCKS = [
    (path.relative_to(ROOT).as_posix(), command, kind)
    for path in READMES
    for command, kind in marked(path.read_text(encoding="utf-8"))
]
RUN = [
    pytest.param(command, id=f"{name}: {command.strip().splitlines()[0]}", marks=slow)
    for name, command, kind in BLOCKS
    if kind.startswith("test")
    for slow in [[pytest.mark.slow] if kind == "test: slow" else []]
]
SHOWN = [
    (name, words[2:])
    for name, command, kind in BLOCKS
    if kind.startswith("not run")
    for line in command.replace("\\\n", " ").splitlines()
    if (words := shlex.split(line, comments=True))[:2] == ["star", "run"]
]


def run(command: str, folder: Path) -> str:
    """Run a block as a user would paste it, but stop at the first command that fails."""
    binaries = folder / ".venv" / "bin"
    environment = os.environ | {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(binaries.parent),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository with a virtual environment that has star installed from it.

    The environment borrows this one's libraries, and says to scripts/setup.sh that it is up to
    date, so nothing is downloaded and the installation under test stays as it is.
    """
    folder = tmp_path_factory.mktemp("clone").resolve() / "star"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    venv.create(folder / ".venv", with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / ".venv" / "lib" / version / "site-packages"
    (packages / "borrowed.pth").write_text(f"{folder}\n{sysconfig.get_path('purelib')}\n")
    script = folder / ".venv" / "bin" / "star"
    script.write_text(f'#!/bin/sh\nexec "{script.parent}/python" -m star "$@"\n')
    script.chmod(0o755)
    digest = hashlib.sha256(str(folder).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((folder / name).read_bytes())
    (folder / ".venv" / ".star-al").write_text(f"{digest.hexdigest()} test\n")
    return folder


@pytest.mark.parametrize("command", RUN)
def test_a_command_of_a_readme(command: str, copy: Path) -> None:
    run(command, copy)


@pytest.mark.parametrize("name, words", SHOWN)
def test_a_run_that_is_shown_is_one_that_can_be_asked_for(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert (main(["run", *words, "--print-config"]), name) == (0, name)
    assert "acquisition:" in capsys.readouterr().out


def test_the_main_readme_runs_something() -> None:
    assert any(name == "README.md" and kind == "test: slow" for name, _, kind in BLOCKS)
    assert SHOWN


@pytest.mark.slow
def test_the_copy_is_what_runs(copy: Path) -> None:
    shown = run("python -c 'import star; print(star.__file__)'", copy)
    assert shown == f"{copy / 'star' / '__init__.py'}\n"
    (copy / "star" / "probe.txt").write_text("")
    assert not (ROOT / "star" / "probe.txt").exists()
    # setup.sh finds everything in place; installing would fail, there is no pip.
    run(". scripts/setup.sh; star_setup test; star run - --print-config", copy)
    with pytest.raises(AssertionError, match="nosuchkey"):
        run("true\nstar run - nosuchkey=1 --print-config\ntrue\n", copy)


@pytest.mark.slow
def test_the_quickstart_says_how_to_go_on(copy: Path) -> None:
    small = "pool.rounds=1 task.pool_limit=60 task.test_limit=4"
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        ["bash", "-c", f"star/scripts/quickstart.sh {small}"],
        cwd=copy.parent, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, _, after = done.stdout.rpartition("== next ==\n")
    lines = after.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["cd", "source", "star", "star"]
    # Pasted into a terminal that knows nothing of star.
    pasted = subprocess.run(
        ["bash", "-euc", "\n".join([*lines[:2], "command -v star", lines[3]])],
        cwd=copy.parent, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert pasted.returncode == 0, pasted.stderr
    assert pasted.stdout.startswith(f"{copy / '.venv/bin/star'}\n")
    assert "random" in pasted.stdout and "star-predictive_entropy" in pasted.stdout


def test_marks_are_found() -> None:
    text = (
        "a\n<!-- not run: long -->\n```bash\nnot run\n```\n<!-- test -->\n```bash\nfirst \\\n"
        "  x\nsecond\n```\ntext\n<!-- test: slow -->\n```bash\nthird\n```\n```python\nnone\n```\n"
    )
    assert marked(text) == [
        ("not run\n", "not run: long"),
        ("first \\\n  x\nsecond\n", "test"),
        ("third\n", "test: slow"),
    ]
    assert marked("nothing") == []


@pytest.mark.parametrize(
    "text",
    [
        "<!-- test -->\ntext\n```bash\nx\n```\n",
        "<!-- test -->\n```python\nx\n```\n",
        "<!-- test: fast -->\n```bash\nx\n```\n",
        "<!-- tests -->\n```bash\nx\n```\n",
        "<!-- not run -->\n```bash\nx\n```\n",
        "<!-- not run: -->\n```bash\nx\n```\n",
        "<!-- test -->\n```bash\nx\n",
    ],
)
def test_a_mark_that_marks_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no ```bash block"):
        marked(text)


def test_a_command_without_a_mark_is_an_error() -> None:
    with pytest.raises(ValueError, match="no mark above the ```bash block 'second"):
        marked("<!-- test -->\n```bash\nfirst\n```\ntext\n```bash\nsecond\n```\n")


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_valid(path: Path) -> None:
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if path.name != "setup.sh":  # which is sourced
        assert os.access(path, os.X_OK)
        assert "set -euo pipefail" in path.read_text(encoding="utf-8")
