"""What the processes of a job know of each other; how they stop together: ``test_dying``."""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import DistError, HashStore

from star import signals
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


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set where a watch would end its process."""
    event = threading.Event()
    monkeypatch.setattr(peers, "POLL", 0.01)
    monkeypatch.setattr(peers, "GRACE", 0.0)

    def end(status: int) -> None:
        assert status in (1, signals.EXIT)
        watch = threading.current_thread()
        assert isinstance(watch, Watch)
        watch.over()  # in the place of its process
        event.set()

    monkeypatch.setattr(peers.os, "_exit", end)
    return event


def test_a_count_that_stands_still_is_a_death(
    ended: threading.Event, watches: list[Watch], capsys: pytest.CaptureFixture
) -> None:
    watches[0].start()  # the others have counted once, and never do again
    assert ended.wait(60)
    fault = watches[0].fault()
    assert fault is not None and fault.rank == 1 and "no sign of life" in fault.line
    assert capsys.readouterr().err.startswith("error: rank 1 of 3 stopped: it gave no sign")


def test_one_that_comes_late_is_waited_for(ended: threading.Event) -> None:
    store = HashStore()
    watches = [Watch(store, 0, 2)]
    watches[0].start()
    assert not ended.wait(3 * peers.SILENT * peers.POLL)
    watches.append(Watch(store, 1, 2))
    watches[1].start()
    assert not ended.wait(3 * peers.SILENT * peers.POLL)
    assert watches[0].fault() is None
    watches[1].over()  # once it has been there, it is watched as any other
    assert ended.wait(60)
    fault = watches[0].fault()
    assert fault is not None and fault.rank == 1 and "no sign of life" in fault.line


def test_one_that_never_comes_is_not_waited_for_for_ever(
    ended: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "JOIN", timedelta(seconds=2 * peers.SILENT * peers.POLL))
    first = Watch(HashStore(), 0, 2)
    assert first.silent() == []  # it has not died, it is not there yet
    first.start()
    assert not ended.wait(1.2 * peers.SILENT * peers.POLL)
    assert ended.wait(60)
    fault = first.fault()
    assert fault is not None and fault.rank == 1 and "did not come within" in fault.line


@pytest.mark.parametrize("before", [None, signal.SIGUSR1])
def test_who_was_asked_to_stop_is_not_asked_again(
    before: signal.Signals | None,
    ended: threading.Event,
    watches: list[Watch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "PATIENCE", 0.0)
    number, kept = before or signal.SIGTERM, False
    with pytest.raises(signals.Stopped, match=number.name), signals.heeded(), signals.held():
        if before is not None:  # the scheduler's, to all processes of the job
            signal.raise_signal(before)
        watches[2].tell(Fault(2, signals.EXIT, "it was faster"))
        watches[0].start()
        assert ended.wait(60)
        kept = signals.requested()
    assert kept


def test_alone_nobody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    before = threading.active_count()
    with together():
        assert threading.active_count() == before


class Slow:
    """A store whose answers take a while, and which goes away under a look of the watch."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.lines: list[str] = []

    def add(self, key: str, value: int) -> int:
        if threading.current_thread() is not threading.main_thread():
            self.asked.set()
            time.sleep(0.5)
            self.lines.append("torch: recvValue failed")
            raise DistError("the connection was closed")
        return 1


def test_a_look_under_way_ends_before_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Slow()
    monkeypatch.setattr(peers, "POLL", 0.5)
    monkeypatch.setattr(peers, "_join", lambda: started(Watch(store, 1, 2)))  # type: ignore[arg-type]
    for name, word in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "nowhere"}.items():
        monkeypatch.setenv(name, word)
    with pytest.raises(KeyError), together():
        assert store.asked.wait(60)
        monkeypatch.setattr(peers, "_explain", lambda watch, error: None)
        raise KeyError("ours")
    store.lines.append("error: ours")
    assert store.lines == ["torch: recvValue failed", "error: ours"]


def started(watch: Watch) -> Watch:
    watch.start()
    return watch


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
