"""Entries of a cache: whole or not at all, named by content, read by all processes or by none."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star.cache import cached, digest, key
from star.data.task import Answer
from star.files import read_json, write_json, write_npz


class Entry:
    """A list that is kept as JSON, with a note of how often it was made."""

    def __init__(self, folder: Path | None, write: Callable[..., Any] | None = write_json) -> None:
        self.folder, self.write, self.made = folder, write, 0

    def get(self, **more: Any) -> list[int]:
        return cached(self.folder, "entry", make=self.make, read=read, write=self.write, **more)

    def make(self) -> list[int]:
        self.made += 1
        return [1, 2]


def read(path: Path) -> list[int]:
    return list(read_json(path))


def write_folder(path: Path, made: list[int]) -> None:
    path.mkdir()
    write_json(path / "list.json", made)
    write_npz(path / "more.npz", more=np.zeros(2))


def read_folder(path: Path) -> list[int]:
    return read(path / "list.json")


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "a" / "b")
    assert entry.get() == entry.get() == [1, 2]
    assert entry.made == 1
    assert [path.name for path in entry.folder.iterdir()] == ["entry"]
    nothing = Entry(None)
    assert nothing.get() == nothing.get() == [1, 2]
    assert nothing.made == 2


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff\xfe"])
def test_a_damaged_entry_is_named_and_made_again(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = Entry(tmp_path)
    entry.get()
    whole = (tmp_path / "entry").read_bytes()
    (tmp_path / "entry").write_bytes(content)
    assert entry.get() == [1, 2] and entry.made == 2
    assert f"{tmp_path / 'entry'} cannot be read" in caplog.text
    assert (tmp_path / "entry").read_bytes() == whole
    assert entry.get() == [1, 2] and entry.made == 2


def test_a_damaged_folder_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = Entry(tmp_path, write_folder)
    for made in (1, 2):
        cached(tmp_path, "entry", make=entry.make, read=read_folder, write=write_folder)
        assert entry.made == made
        (tmp_path / "entry" / "list.json").write_text("no")
    assert "cannot be read" in caplog.text and "is not kept" not in caplog.text


@pytest.mark.parametrize("write", [write_json, write_folder])
def test_two_jobs_make_the_same_entry_at_once(
    write: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Entry(tmp_path, write), Entry(tmp_path, write)
    # While the first one makes it, the second comes to its end.
    assert cached(tmp_path, "entry", make=second.get, read=read, write=first.write) == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
    assert not caplog.records


@pytest.mark.parametrize("place", ["a file", "full"])
def test_what_cannot_be_kept_is_no_reason_to_stop(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, made: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, os.strerror(28))

    folder = tmp_path / "folder"
    if place == "a file":
        folder.write_text("a file")
    entry = Entry(folder, full if place == "full" else write_json)
    assert entry.get() == [1, 2]
    assert f"{folder / 'entry'} is not kept: " in caplog.text
    assert folder.is_file() or not list(folder.iterdir())


def test_all_processes_read_or_all_make(tmp_path: Path) -> None:
    entry, flags = Entry(tmp_path), []

    def agree(flag: bool, others: bool) -> bool:
        flags.append(flag)
        return flag and others

    entry.get(agree=lambda flag: agree(flag, True))
    entry.get(agree=lambda flag: agree(flag, False))  # another process' disk lacks it
    assert entry.made == 2
    entry.get(agree=lambda flag: agree(flag, True))
    assert entry.made == 2 and flags == [False, True, True]
    readers = Entry(tmp_path / "other", None)
    assert readers.get() == [1, 2] and not (tmp_path / "other").exists()


def test_keys_are_of_content_and_version() -> None:
    one = key(1, rows=[1, 2], more={"a": 1, "b": None})
    assert one == key(1, more={"b": None, "a": 1}, rows=(1, 2)) and len(one) == 32
    others = [key(2, rows=[1, 2], more={"a": 1, "b": None}), key(1, rows=[2, 1], more={}), key(1)]
    assert len({one, *others}) == 4
    # A word among the content is not the version.
    assert key(1, version=2) not in (key(2, version=1), key(2))


def test_a_digest_is_of_content() -> None:
    answer = Answer("a", "b")
    assert digest({"a": 1, "b": [answer]}) == digest({"b": (answer,), "a": 1})
    assert digest([1, "1"]) != digest(["1", 1])
    assert digest([answer]) != digest([replace(answer, gold="c")])
    with pytest.raises(TypeError, match="no identity"):
        digest([object()])
    with pytest.raises(ValueError):
        digest(float("nan"))
