"""A project that nobody has labelled in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from projects import make


@pytest.fixture(scope="session")
def unlabelled(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project once; a folder that is copied is a project."""
    return make(tmp_path_factory.mktemp("unlabelled"), tiny_llama)


@pytest.fixture
def project(unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return a project without a label, beside the file of its rows."""
    capsys.readouterr()
    shutil.copy(unlabelled.with_name("rows.csv"), tmp_path)
    return shutil.copytree(unlabelled, tmp_path / "project")
