from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from star.annotation.journal import Entry, Journal
from star.annotation.records import Decision
from star.errors import InputError

ROOT = Path(__file__).parents[2]
WRITER = ROOT / "tests" / "support" / "journal_writer.py"


def decision(row: str, answer: str = "joy") -> Decision:
    return Decision(row, "answer", "anna", "2026-11-27T00:00:00Z", answer)


def writer(path: Path, annotator: str, count: int, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), str(path), annotator, str(count), str(size)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_what_was_added_is_read_by_anybody(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.entries() == []
    first = journal.append([decision("1")])
    batch = journal.append([decision("2", "a\u2028b\r\n\x00"), decision("3", "שלום")])
    assert [entry.number for entry in first + batch] == [0, 1, 2]
    assert journal.entries() == first + batch == Journal(journal.path).entries()
    other = Journal(journal.path)
    (last,) = other.append([decision("4")])
    assert journal.entries()[-1] == last and last.number == 3
    lines = journal.path.read_bytes().split(b"\n")
    assert [json.loads(line)["seq"] for line in lines[:-1]] == [0, 1, 3] and lines[-1] == b""


def test_what_is_sent_again_is_recorded_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append([decision("1"), decision("2")])
    before = journal.path.read_bytes()
    assert Journal(journal.path).append([decision("2")]) == [Entry(1, decision("2"))]
    assert journal.path.read_bytes() == before
    again = journal.append([decision("2"), decision("3"), decision("3")])
    assert [entry.number for entry in again] == [1, 2, 2]
    assert len(journal.entries()) == 3


def test_a_torn_last_line_was_never_confirmed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    confirmed = journal.append([decision("1")]) + journal.append([decision("2")])
    content = journal.path.read_bytes()
    last = content.index(b"\n") + 1
    for cut in range(last, len(content)):  # also a whole line without its end
        journal.path.write_bytes(content[:cut])
        assert Journal(journal.path).entries() == confirmed[:1]
    journal.path.write_bytes(content + b'{"seq": 2, "deci')
    reader = Journal(journal.path)
    assert reader.entries() == confirmed
    reader.append([decision("3")])
    assert journal.entries() == Journal(journal.path).entries()
    assert [entry.decision.id for entry in journal.entries()] == ["1", "2", "3"]


def test_an_altered_line_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for number in range(5):
        journal.append([decision(str(number))])
    lines = journal.path.read_bytes().splitlines(keepends=True)
    for number in range(5):
        altered = [*lines]
        altered[number] = altered[number].replace(b"joy", b"fear")
        journal.path.write_bytes(b"".join(altered))
        with pytest.raises(InputError, match=f"line {number + 1}: .*altered") as error:
            Journal(journal.path).entries()
        assert "\n" not in str(error.value)
        with pytest.raises(InputError):
            Journal(journal.path).append([decision("9")])
        assert journal.path.read_bytes() == b"".join(altered)
    for changed, place in (
        (lines[:2] + lines[3:], 3),  # one taken out
        (lines[:2] + lines[1:], 3),  # one put in
        ([lines[1], lines[0], *lines[2:]], 1),  # two changed places
    ):
        journal.path.write_bytes(b"".join(changed))
        with pytest.raises(InputError, match=f"line {place}:"):
            Journal(journal.path).entries()


def test_damage_of_any_kind_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(6):
        journal.append([decision(str(number), "é" * number + "x")])
    whole, confirmed = path.read_bytes(), journal.entries()
    draw = random.Random(0)
    refused = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(content))
            kind = draw.randrange(4)
            if kind == 0:
                content[at] = draw.randrange(256)
            elif kind == 1:
                del content[at : at + draw.randint(1, 300)]
            elif kind == 2:
                content[at:at] = bytes(draw.choices(b'\x00\n\r{}[]",\xff1', k=draw.randint(1, 9)))
            else:
                del content[at:]
            content = content or bytearray(b"x")
        path.write_bytes(content)
        try:
            entries = Journal(path).entries()
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert entries == confirmed[: len(entries)]  # cut off, and nothing else
    assert refused > 200


@pytest.mark.parametrize(
    "line, message",
    [
        (b"[]", "no line of a journal"),
        (b"null", "no line of a journal"),
        (b'{"seq": 0, "chain": "", "decisions": []}', "no line of a journal"),
        (b'{"seq": 0, "decisions": [], "chain": ""}', "decisions must be a list"),
        (b'{"seq": 0, "decisions": [{"id": 1}], "chain": ""}', "missing"),
        (b'{"seq": NaN, "decisions": [{"id": 1}], "chain": ""}', "missing"),
        (b"[" * 10000, "malformed JSON"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_is_no_journal_is_told(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(InputError, match=f"line 1: .*{message}"):
        Journal(path).entries()


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a file, it is a folder"):
        Journal(tmp_path).entries()
    with pytest.raises(InputError, match="cannot write"):
        Journal(tmp_path / "none" / "journal.jsonl").append([decision("1")])


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append([decision("1")])
    before = journal.path.read_bytes()
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) > 10:
            return write(handle, bytes(data[:10]))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(InputError, match="No space left"):
            journal.append([Decision("22222", "skip", "anna", "2026-11-27T00:00:00Z")])
    assert journal.path.read_bytes() == before
    assert [entry.number for entry in journal.append([decision("2")])] == [1]


def test_a_file_that_was_put_in_its_place_is_read_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append([decision("1"), decision("2")])
    other = Journal(tmp_path / "other.jsonl")
    other.append([decision("9")])
    other.path.replace(journal.path)
    assert [entry.decision.id for entry in journal.entries()] == ["9"]
    journal.path.unlink()
    for use in (journal.entries, lambda: journal.append([decision("3")])):
        with pytest.raises(InputError, match="is gone"):
            use()
    assert not journal.path.exists()  # else the next process would believe the new one


def test_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    own = Journal(journal.path)

    def work(writes: Journal, name: str) -> None:
        for number in range(20):
            writes.append([decision(f"{name}{number}")])

    # Two share a journal, the third has its own of the same file.
    jobs = [(journal, "a"), (journal, "b"), (own, "c")]
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [entry.decision.id for entry in Journal(journal.path).entries()]
    assert sorted(ids) == sorted(f"{name}{number}" for name in "abc" for number in range(20))
    for name in "abc":
        assert [one for one in ids if one[0] == name] == [f"{name}{k}" for k in range(20)]


def test_two_processes_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    processes = [writer(path, name, 60, 20) for name in ("anna", "ben")]
    told = [process.communicate(timeout=120)[0].split("\n")[:-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    stored = [f"{entry.number} {entry.decision.id}" for entry in Journal(path).entries()]
    assert sorted(stored) == sorted(told[0] + told[1]) and len(stored) == 120


@pytest.mark.parametrize("lives", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_what_a_killed_process_confirmed_is_there(tmp_path: Path, lives: int) -> None:
    path = tmp_path / "journal.jsonl"
    draw = random.Random(1)
    confirmed: list[str] = []
    for life in range(lives):
        process = writer(path, f"life{life}", 10**6, draw.choice((10, 3000, 200_000)))
        assert process.stdout is not None
        for _ in range(draw.randint(1, 8)):
            confirmed.append(process.stdout.readline().rstrip("\n"))
        time.sleep(draw.random() * 0.02)  # at some moment of some write
        process.kill()
        rest, _ = process.communicate()
        confirmed += [line for line in rest.split("\n")[:-1] if line]
        stored = [f"{e.number} {e.decision.id}" for e in Journal(path).entries()]
        # At most the write that was under way is there without having been confirmed.
        assert set(confirmed) <= set(stored) and len(set(stored)) == len(stored)
        assert len(stored) - len(confirmed) <= life + 1


def test_nobody_adds_between_looking_and_adding(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first, second = decision("1"), decision("2")
    other = threading.Thread(target=lambda: Journal(path).append([second]))

    def choose(entries: list[Entry]) -> list[Decision]:
        assert not entries
        other.start()
        other.join(0.2)
        assert other.is_alive()
        return [first]

    Journal(path).decide(choose)
    other.join()
    assert [entry.decision for entry in Journal(path).entries()] == [first, second]
