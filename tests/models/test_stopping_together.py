"""What the processes of a job know of each other; how they stop together: ``test_dying``."""

from __future__ import annotations

import threading

import pytest
from torch.distributed import HashStore

from star.models import peers
from star.models.peers import Fault, Watch, is_of_connection, together


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> list[Watch]:
    monkeypatch.setattr(peers, "POLL", 0.01)
    store = HashStore()
    return [Watch(store, rank, 3) for rank in range(3)]


def test_the_first_fault_is_everyones(watches: list[Watch]) -> None:
    first = Fault(1, 2, "no such file")
    assert watches[0].fault() is None
    assert watches[1].tell(first) == first
    assert watches[2].tell(Fault(2, 1, "the connection was closed")) == first
    assert [watch.fault() for watch in watches] == [first] * 3
    assert watches[1].said(first) == "no such file"
    assert watches[2].said(first) == "rank 1 of 3 stopped: no such file"


def test_a_count_that_stands_still_is_a_death(
    watches: list[Watch], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    ended, last = threading.Event(), watches[0]
    monkeypatch.setattr(peers, "GRACE", 0.0)

    def end(status: int) -> None:  # in the place of the end of this process
        assert status == 1
        ended.set()
        last.over()

    monkeypatch.setattr(peers.os, "_exit", end)
    last.start()  # the others never count
    assert ended.wait(60)
    fault = last.fault()
    assert fault is not None and fault.rank == 1 and "no sign of life" in fault.line
    assert capsys.readouterr().err.startswith("error: rank 1 of 3 stopped: it gave no sign")


def test_alone_nobody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    before = threading.active_count()
    with together():
        assert threading.active_count() == before


@pytest.mark.parametrize(
    "error, expected",
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("gloo"), False),
    ],
)
def test_what_a_lost_connection_looks_like(error: Exception, expected: bool) -> None:
    assert is_of_connection(error) == expected
