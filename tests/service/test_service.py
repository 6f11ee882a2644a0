"""``star serve``: the numbers of star predict over HTTP, and one line for what it does not take."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import chatting
import pytest
import runs

import star
from star.cli.main import main
from star.errors import InputError

pytest.importorskip("fastapi", reason="the extra web")
pytest.importorskip("uvicorn", reason="the extra web")

from serving import Service, serving

from star.active_learning.predictor import Predictor
from star.service.limits import check_token

SETTINGS = (
    *("pool.rounds=1", "acquisition.select=random", "evaluation.views=[full]"),
    *("train.num_train_epochs=1", "tracking.save_adapters=last"),
)
KINDS: dict[str, tuple[str, ...]] = {
    "choice": (runs.CHOICES[0], "task.validation_size=4"),
    "generation": (),
    "classification": (
        *("task.name=classification", "task.prompt={text} so it is", "task.classify_by=words"),
        *("task.columns=text:question,label:answer", "task.choices=[false,true]"),
    ),
    "head": (
        *("task.name=classification", "task.prompt={text}", "task.classify_by=head"),
        *("task.columns=text:question,label:answer", "task.choices=[false,true]"),
        "acquisition.combine=none",
    ),
    "shots": (runs.CHOICES[0], "task.num_fewshot=2"),
    "chat": (runs.CHOICES[0], "task.chat_template=true"),
}
TEXTS = [f"tom has {i} eggs so is 3 more ?" for i in range(6)]
TOKEN = "a token that is long"


@pytest.fixture(scope="module", params=KINDS)
def run(
    request: pytest.FixtureRequest, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    words = KINDS[request.param]
    if request.param == "chat":
        tiny_llama = chatting.write_model(tmp_path_factory.mktemp("model"))
    data = runs.write_data(tmp_path_factory.mktemp("data"), choices=bool(words))
    return runs.go(tiny_llama, data, tmp_path_factory.mktemp("out"), *SETTINGS, *words)


@pytest.fixture(scope="module")
def choice(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = runs.write_data(tmp_path_factory.mktemp("data"), choices=True)
    words = (*SETTINGS, *KINDS["choice"])
    with serving(runs.go(tiny_llama, data, tmp_path_factory.mktemp("out"), *words)) as service:
        yield service


def test_answers_are_those_of_star_predict(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    rows = star.predict(run, TEXTS)
    with serving(run, TOKEN) as service:
        assert service.ask({"texts": TEXTS}) == (200, {"answers": rows})
        first = star.predict(run, TEXTS[:1])
        assert service.ask({"texts": TEXTS[0]}) == (200, {"answers": first})
        if "label" in rows[0]:
            bar = max(row["probability"] for row in rows)
            unsure = star.predict(run, TEXTS, abstain=bar)
            assert service.ask({"texts": TEXTS, "abstain": bar}) == (200, {"answers": unsure})
            low = [row["probability"] < bar for row in rows]
            assert [row["abstained"] for row in unsure] == low
            assert [row["label"] is None for row in unsure] == low
        else:
            status, told = service.ask({"texts": TEXTS, "abstain": 0.9})
            assert status == 422 and "abstaining is for labels" in told["error"]
        status, health = service.ask(None, "health")
        assert (status, health["ready"]) == (200, True)
        labelled = runs.result(run)["rounds"][-1]["labeled"]
        assert (health["labels_bought"], health["round"]) == (labelled, 0)
        assert health["run"] == run.name and "/" not in health["model"]
        for wrong in ({"Authorization": ""}, {"Authorization": f"Bearer {TOKEN}x"}):
            for path in ("health", "predict", "nowhere"):
                assert service.ask({"texts": "a"}, path, **wrong)[0] == 401
        # A name that resolves to this machine is for those without a token.
        assert service.ask(None, "health", Host="example.org")[0] == 200
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_requests_at_once_get_each_its_own_answers(choice: Service) -> None:
    wanted = {text: star.predict(choice.run, [text]) for text in TEXTS}
    with ThreadPoolExecutor(6) as many:
        asked = TEXTS * 4
        for text, (status, told) in zip(
            asked, many.map(lambda t: choice.ask({"texts": [t]}), asked), strict=True
        ):
            assert status == 200
            assert told["answers"][0]["probabilities"] == pytest.approx(
                wanted[text][0]["probabilities"]
            )


@pytest.mark.parametrize(
    "content, status, part",
    [
        (b"", 400, "no JSON"),
        (b"tom has 3", 400, "no JSON"),
        (b'{"texts": "a"', 400, "no JSON"),
        (b"\xff\xfe{}", 400, "no JSON"),
        (b'{"texts": "a\x00\n"}', 400, "no JSON"),
        (b'{"texts": "\\ud800"}', 400, "no JSON"),
        (b"[" * 9_000, 400, "no JSON"),
        (b'{"texts": ' + b"[" * 4_000 + b"]" * 4_000 + b"}", 400, "no JSON"),
        (b'{"texts": [[["a"]]]}', 422, "texts must be a text"),
        ([1], 422, "must be an object"),
        ("a", 422, "must be an object"),
        ({}, 422, "texts must be a text"),
        ({"texts": None}, 422, "texts must be a text"),
        ({"texts": 3}, 422, "texts must be a text"),
        ({"texts": ["a", 3]}, 422, "texts must be a text"),
        ({"texts": {"question": "a"}}, 422, "texts must be a text"),
        ({"texts": [{"question": ["a"]}]}, 422, "texts must be a text"),
        ({"texts": [{"quesion": "a"}]}, 422, "no column 'question'"),
        ({"texts": []}, 422, "empty"),
        ({"texts": ""}, 422, "text 1: column 'question' is empty"),
        ({"texts": ["a", " \n\t"]}, 422, "text 2: column 'question' is empty"),
        ({"texts": "a", "temperature": 1}, 422, "unknown key 'temperature'"),
        ({"texts": "a", "abstain": "0.5"}, 422, "abstain must be a number"),
        ({"texts": "a", "abstain": 2}, 422, "from 0 to 1, got 2"),
        (b'{"texts": "a", "abstain": NaN}', 422, "from 0 to 1, got nan"),
        ({"texts": ["a"] * 9}, 413, "9 texts, at most 8"),
        ({"texts": ["a", "b" * 2_001]}, 413, "text 2: 2001 characters, at most 2000"),
        ({"texts": [{"question": "a" * 1_500, "more": "b" * 501}]}, 413, "text 1: 2001 characters"),
        (b" " * 20_001, 413, "at most 20000 bytes"),
    ],
)
def test_what_is_not_wanted_is_refused_in_a_line(
    content: Any, status: int, part: str, choice: Service
) -> None:
    got, told = choice.ask(content)
    assert (got, [*told]) == (status, ["error"])
    assert part in told["error"] and "\n" not in told["error"] and len(told["error"]) < 300
    assert choice.ask(None, "health")[0] == 200


def test_a_text_that_is_too_long_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.write_data(tmp_path / "data", choices=True)
    words = (*SETTINGS, *KINDS["choice"], "task.overlong=error")
    with serving(runs.go(tiny_llama, data, tmp_path / "out", *words)) as service:
        status, told = service.ask({"texts": ["tom has", "tom has eggs " * 150]})
    assert status == 422 and told["error"].startswith("text 2 is longer than "), told


def test_hostile_texts_are_texts(choice: Service) -> None:
    hostile = [
        *("tom \x00\x1b[2J\x7f has", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "\u202eab"),
        *("{question} {0}", "\N{PILE OF POO}" * 900),
    ]
    assert choice.ask({"texts": hostile}) == (200, {"answers": star.predict(choice.run, hostile)})


def test_what_is_not_asked_like_that_is_refused(choice: Service) -> None:
    assert choice.ask({"texts": "a"}, "nowhere")[0] == 404
    assert choice.ask(None, "predict")[0] == 405
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert choice.ask({"texts": "a"}, Content_Type=kind)[0] == 415
    for host in ("example.org", f"example.org:{choice.port}", "127.0.0.1.example.org", ""):
        assert choice.ask(None, "health", Host=host)[0] == 403
    assert choice.ask(None, "health", Host="localhost")[0] == 200
    # The pages of documentation, which load scripts from elsewhere.
    assert {choice.ask(None, page)[0] for page in ("docs", "redoc", "openapi.json")} == {404}


def test_a_body_is_counted_as_it_comes(choice: Service) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    # Said to be of 100 MB: none of it is waited for.
    assert b" 413 " in choice.raw([head + b"Content-Length: 100000000\r\n\r\n"])
    chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    # No length: cut off behind the limit, and the end is never sent.
    assert b" 413 " in choice.raw([head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 3])
    whole = b'2\r\n{"\r\nc\r\ntexts": "a"}\r\n0\r\n\r\n'
    assert b" 200 " in choice.raw([head + b"Transfer-Encoding: chunked\r\n\r\n", whole])
    # Somebody who goes away in the middle leaves nothing behind.
    with socket.create_connection(("127.0.0.1", choice.port)) as wire:
        wire.sendall(head + b"Content-Length: 100\r\n\r\n{")
    assert choice.ask(None, "health")[0] == 200


def test_a_fault_of_ours_is_told_to_the_log_alone(
    choice: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the inside of it")

    monkeypatch.setattr(Predictor, "predict", fail)
    status, told = choice.ask({"texts": "a"})
    assert status == 500 and "inside" not in told["error"]
    monkeypatch.undo()
    assert choice.ask({"texts": "a"})[0] == 200
    assert "the inside of it" in caplog.text  # written by then


def refusal(capsys: pytest.CaptureFixture, *words: str | Path) -> str:
    assert main(["serve", *map(str, words)]) == 2
    out, line = capsys.readouterr()
    assert out == "" and line.startswith("error: ") and line.count("\n") == 1
    return str(line)


def test_words_that_cannot_be(
    choice: Service, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "got 0" in refusal(capsys, choice.run, "--max-texts", "0")
    assert "0 to 65535" in refusal(capsys, choice.run, "--port", "70000")
    taken = refusal(capsys, choice.run, "--port", str(choice.port))
    assert "cannot listen at 127.0.0.1" in taken and "--port" in taken
    assert "no address" in refusal(capsys, choice.run, "--host", "no.such.host.invalid")
    assert "run folder" in refusal(capsys, choice.run.parent)
    monkeypatch.setenv("STAR_TOKEN", "short")
    assert "16 or more" in refusal(capsys, choice.run, "--port", "0")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'star-al[web]'" in refusal(capsys, choice.run)


def test_nothing_is_open_to_others_without_a_token() -> None:
    check_token("127.0.0.1", None)
    check_token("0.0.0.0", "0123456789abcdef")
    for host in ("0.0.0.0", "192.168.0.1", "::", ""):
        with pytest.raises(InputError, match="needs a token"):
            check_token(host, None)
    for token in ("", "short", "with a space in it", "ümlaut-in-a-token-x", "line\n0123456789abc"):
        with pytest.raises(InputError, match="16 or more"):
            check_token("127.0.0.1", token)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_serves_and_ends(number: signal.Signals, choice: Service) -> None:
    words = [sys.executable, "-m", "star", "serve", str(choice.run), "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if k != "STAR_TOKEN"}
    with subprocess.Popen(
        [*words, "--host", "0.0.0.0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stderr is not None
            address = process.stdout.readline().strip()
            about, token = process.stderr.readline(), process.stderr.readline()
            port = re.fullmatch(r"http://0\.0\.0\.0:(\d+)", address)
            word = re.fullmatch(r"Authorization: Bearer (\S{16,})\n", token)
            assert port and word and "10 labels" in about
            service = Service(choice.run, int(port[1]), {"Authorization": f"Bearer {word[1]}"})
            assert service.ask({"texts": TEXTS}) == choice.ask({"texts": TEXTS})
            assert Service(choice.run, int(port[1])).ask({"texts": TEXTS})[0] == 401
            process.send_signal(number)
            assert process.wait(60) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
