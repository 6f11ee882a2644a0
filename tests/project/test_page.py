"""The annotation page's API: what it tells, what it takes, whom it refuses."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")

from fastapi.testclient import TestClient
from page import ORIGIN, Page
from projects import GOLD, LABELS, SIZES, make, rows

from star.active_learning.locking import lock, unlock
from star.annotation.masking import mask
from star.cli.main import main
from star.project.page.app import application
from star.project.page.training import Training
from star.project.project import Project

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "a\x00b\x1b[31mred\x7f\u0085",
    "\u202eevil\u202c \u2066isolated\u2069 \u0633\u0644\u0627\u0645",
    '=HYPERLINK("http://example.org")',
    "x" * 400_000 + "\U0001f600",
    "half \U0001f9d1\u200d\U0001f52c and \u0000",
]


@pytest.fixture
def page(project: Path) -> Page:
    return Page(project)


@pytest.fixture(scope="module")
def untouched(unlabelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return a page for requests that must change nothing, which each test looks at."""
    return Page(
        shutil.copytree(unlabelled, tmp_path_factory.mktemp("untouched") / "project"),
        training=Training(unlabelled, command=["/none"]),
    )


def decisions(folder: Path) -> list[Any]:
    return [entry.decision for entry in Project.of(folder).entries()]


def test_rows_come_in_the_order_of_the_query_and_without_labels(page: Page, project: Path) -> None:
    told = page.get("/api/project")
    assert told["options"] == list(LABELS) and told["name"] == "project"
    opened = Project.of(project)
    wanted = [opened.ids[i] for i in opened.query().missing]
    given = []
    for left in range(len(wanted), 0, -1):
        handed = page.next()
        assert handed["left"] == left and handed["own"] is None and handed["answers"] is None
        assert handed["item"].keys() == {"id", "text", "options"}
        row = handed["item"]["id"]
        assert handed["item"]["text"] == opened.items[row].text
        assert page.decide(row, GOLD[row])["saved"] == len(given)
        given.append(row)
        assert decisions(project)[-1].id == row  # on the disk before the reply
    assert given == wanted
    assert page.next()["item"] is None


def test_each_outcome_comment_and_highlight_is_kept(page: Page, project: Path) -> None:
    rows = [f"m{i}" for i in range(4)]
    page.decide(rows[0], "true", comment="sure\nof it", highlights=[[0, 3], [4, 7]], seconds=2.5)
    for row, outcome in zip(rows[1:], ("skip", "unsure", "no such label"), strict=True):
        page.decide(row, outcome=outcome, comment=outcome)
    kept = decisions(project)
    assert [d.outcome for d in kept] == ["answer", "skip", "unsure", "no such label"]
    assert [d.comment for d in kept] == ["sure\nof it", "skip", "unsure", "no such label"]
    assert kept[0].highlights == ((0, 3), (4, 7)) and kept[0].seconds == 2.5
    aside = page.get("/api/overview", annotator="ann")["queues"]["aside"]
    assert aside == 3
    assert page.next(queue="aside")["own"]["outcome"] == "skip"


def test_what_is_sent_again_is_recorded_once(page: Page, project: Path) -> None:
    first = page.decide("m1", "true", seconds=1.0)
    assert page.decide("m1", "true", seconds=9.0) == first
    assert len(decisions(project)) == 1


def test_a_correction_names_what_it_replaces(page: Page, project: Path) -> None:
    number = page.decide("m1", "true")["saved"]
    error = page.decide("m1", "false", status=409)["error"]
    assert "'true'" in error and "nothing was changed" in error
    page.decide("m1", "false", replaces=number)
    assert [d.answer for d in decisions(project)] == ["true", "false"]


def test_undo_says_again_what_stood_before(page: Page, project: Path) -> None:
    first = page.decide("m1", "true", comment="so")["saved"]
    second = page.decide("m1", "false", replaces=first)["saved"]
    assert page.get("/api/overview", annotator="ann")["last"] == second
    undone = page.post("/api/undo", annotator="ann", number=second)
    assert page.post("/api/undo", annotator="ann", number=second) == undone  # sent again
    assert undone["id"] == "m1"
    handed = page.next(row="m1")
    assert (handed["own"]["answer"], handed["own"]["comment"]) == ("true", "so")
    page.post("/api/undo", annotator="ann", number=first)
    assert page.next(row="m1")["own"] is None
    assert "not the last" in page.post("/api/undo", 409, annotator="ann", number=77)["error"]
    assert [d.outcome for d in decisions(project)] == ["answer"] * 3 + ["retracted"]
    assert page.get("/api/overview", annotator="ann")["last"] is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"id": "m99"}, "m99"),
        ({"answer": "maybe"}, "true"),
        ({"answer": ""}, "answer is empty"),
        ({"outcome": "skip"}, "takes no label"),
        ({"outcome": "retracted", "answer": None}, "undo"),
        ({"outcome": "perhaps"}, "outcome must be"),
        ({"highlights": [[0, 9999]]}, "within the text"),
        ({"highlights": [[3, 1]]}, "highlights"),
        ({"highlights": "0-3"}, "highlights"),
        ({"annotator": ""}, "annotator is empty"),
        ({"annotator": " "}, "a name must"),
        ({"annotator": "data"}, "the rows came with"),
        ({"annotator": "a\u202eb"}, "annotator must be a name on one line"),
        ({"annotator": "n" * 81}, "80"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": "1"}, "seconds"),
        ({"final": True}, "in conflict"),
        ({"comment": "half \ud83d"}, "comment"),
        ({"time": "2026-01-01T00:00:00Z"}, "time"),
        ({"undoes": 0}, "undoes"),
        ({"like": "bob"}, "set final"),
        ({"like": "bob", "final": True}, "in conflict no more"),
    ],
)
def test_a_decision_with_a_fault_is_refused_in_one_line(
    body: dict, message: str, untouched: Page
) -> None:
    sent = {"annotator": "ann", "id": "m1", "outcome": "answer", "answer": "true", **body}
    content = json.dumps(sent)  # half a surrogate pair as JSON may spell it
    headers = {**untouched.headers, "content-type": "application/json"}
    reply = untouched.client.post("/api/decisions", content=content, headers=headers)
    assert reply.status_code in (409, 422)
    assert message in reply.json()["error"] and "\n" not in reply.json()["error"]
    assert decisions(untouched.folder) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"id": NaN}'])
def test_what_is_no_json_is_refused(content: bytes, untouched: Page) -> None:
    headers = {**untouched.headers, "content-type": "application/json"}
    reply = untouched.client.post("/api/decisions", content=content, headers=headers)
    assert reply.status_code in (400, 422) and reply.json()["error"]
    assert decisions(untouched.folder) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/none", 404),
        ("/static/app.py", 404),
        ("/static/..%2fapp.py", 404),
        ("/openapi.json", 404),
        ("/docs", 404),
        ("/api/next", 422),
        ("/api/next?annotator=ann&queue=none", 422),
        ("/api/next?annotator=ann&row=none", 422),
        ("/api/decisions", 405),
    ],
)
def test_other_addresses_are_refused(path: str, status: int, untouched: Page) -> None:
    reply = untouched.client.get(path)
    assert reply.status_code == status and reply.json()["error"]


def test_two_annotators_get_different_rows_and_then_each_others(project: Path) -> None:
    page = Page(project)
    first, second = page.next("ann"), page.next("bob")
    assert first["item"]["id"] != second["item"]["id"]
    assert page.next("ann")["item"] == first["item"]  # a reload changes nothing
    page.decide(first["item"]["id"], "true")
    other = page.next("bob", "second")
    assert other["item"]["id"] == first["item"]["id"]
    assert "true" not in json.dumps({k: v for k, v in other.items() if k != "item"})
    assert page.next("ann", "second")["item"] is None


def test_a_row_is_named_by_who_may_see_it(page: Page) -> None:
    open_ = page.next("ann")["item"]["id"]
    asked = {open_}
    while item := page.next("ann")["item"]:
        asked.add(item["id"])
        page.decide(item["id"], GOLD[item["id"]])
    other = next(row for row in GOLD if row not in asked)
    refused = page.client.get("/api/next", params={"annotator": "ann", "row": other})
    assert refused.status_code == 422 and "not open to ann" in refused.json()["error"]
    assert page.next("bob", row=open_)["own"] is None  # it waits for a second opinion
    page.decide(other, "true", annotator="bob")
    assert page.next("bob", row=other)["own"]["answer"] == "true"
    number = page.get("/api/overview", annotator="bob")["last"]
    page.post("/api/undo", annotator="bob", number=number)
    assert page.next("bob", row=other)["own"] is None  # taken back, to be decided again
    refused = page.client.get("/api/next", params={"annotator": "ann", "row": other})
    assert refused.status_code == 422


def test_a_row_on_another_s_screen_is_not_handed_out_by_its_name(page: Page) -> None:
    row = page.next("ann")["item"]["id"]
    refused = page.client.get("/api/next", params={"annotator": "bob", "row": row})
    assert refused.status_code == 422
    assert page.next("ann", row=row)["item"]["id"] == row


@pytest.mark.parametrize("final", [False, True])
def test_nobody_learns_what_another_said_by_guessing(final: bool, page: Page) -> None:
    page.decide("m1", "true", annotator="bob")
    sent = {"annotator": "ann", "id": "m1", "outcome": "answer", "like": "bob", "final": final}
    said = [
        page.client.post("/api/decisions", json={**sent, "answer": guess}, headers=page.headers)
        for guess in ("true", "false")
    ]
    assert len({(reply.status_code, reply.text) for reply in said}) == 1
    assert len(decisions(page.folder)) == 1


def test_the_last_row_is_not_handed_out_twice(page: Page) -> None:
    while page.next("ann")["left"] > 1:
        row = page.next("ann")["item"]["id"]
        page.decide(row, GOLD[row])
    handed = page.next("bob")
    assert (handed["item"], handed["left"], handed["held"]) == (None, 1, 1)


def test_a_conflict_is_shown_counted_and_settled(page: Page, project: Path) -> None:
    for i in range(4):
        page.decide(f"m{i}", GOLD[f"m{i}"])
        page.decide(f"m{i}", "true" if i == 0 else GOLD[f"m{i}"], annotator="bob")
    page.decide("m9", "true")
    page.decide("m9", "true", annotator="bob")
    told = page.get("/api/overview", annotator="eve")
    assert told["conflicts"] == told["queues"]["settle"] == 1
    assert told["annotators"] == {"ann": 5, "bob": 5}
    [kappa] = told["agreement"]["kappa"]
    assert kappa["between"] == ["ann", "bob"] and kappa["rows"] == 5
    # 4 of 5 equal; ann says true once, bob twice: by chance (1·2 + 4·3) / 25
    assert kappa["value"] == pytest.approx((0.8 - 14 / 25) / (1 - 14 / 25))
    # o: 4 rows agree, n = 10, three are true: D_o = 2/10, D_e = 2·3·7 / (10·9)
    assert told["agreement"]["alpha"]["value"] == pytest.approx(1 - 0.2 / (42 / 90))
    handed = page.next("eve", "settle")
    assert handed["answers"] == {"ann": "false", "bob": "true"} and handed["own"] is None
    assert page.next("zoe", "settle") == handed  # who is first settles it
    page.decide("m0", "false", annotator="eve", final=True)
    after = page.get("/api/overview", annotator="eve")
    assert after["conflicts"] == 0 and after["by_class"] == {"false": 4, "true": 1}
    assert after["agreement"] == told["agreement"]  # it was settled, they did not agree
    assert "no more" in page.decide("m0", "true", 409, annotator="zoe", final=True)["error"]
    page.post("/api/undo", annotator="eve", number=after["last"])
    assert page.get("/api/overview")["conflicts"] == 1


def test_a_conflict_can_be_settled_by_no_label(page: Page, project: Path) -> None:
    page.decide("m0", "true")
    page.decide("m0", outcome="no such label", annotator="bob")
    assert page.next("eve", "settle")["answers"] == {"ann": "true", "bob": "no such label"}
    page.decide("m0", outcome="no such label", annotator="eve", final=True)
    told = page.get("/api/overview")
    assert (told["conflicts"], told["set_aside"], told["labelled"]) == (0, 1, 0)


def test_an_answer_that_was_undone_counts_in_no_agreement(page: Page) -> None:
    page.decide("m0", "true")
    page.decide("m0", "false", annotator="bob")
    settled = page.decide("m0", outcome="no such label", annotator="eve", final=True)["saved"]
    told = page.get("/api/overview")["agreement"]
    changed = page.decide("m0", "true", annotator="eve", replaces=settled)["saved"]
    assert page.get("/api/overview")["agreement"] != told
    page.post("/api/undo", annotator="eve", number=changed)
    assert page.get("/api/overview")["agreement"] == told


def test_annotators_at_once_lose_and_double_nothing(project: Path) -> None:
    page, confirmed, errors = Page(project), [], []

    def label(annotator: str, queue: str) -> None:
        try:
            while (handed := page.next(annotator, queue))["item"]:
                row = handed["item"]["id"]
                for _ in range(2):  # a double click
                    number = page.decide(row, GOLD[row], annotator=annotator)["saved"]
                confirmed.append((number, row, annotator))
        except BaseException as error:
            errors.append(error)

    for queue in ("new", "second"):
        both = [threading.Thread(target=label, args=(who, queue)) for who in ("ann", "bob")]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert not errors
    entries = Project.of(project).entries()
    assert sorted(confirmed) == [(e.number, e.decision.id, e.decision.annotator) for e in entries]
    pairs = [(e.decision.id, e.decision.annotator) for e in entries]
    assert len(set(pairs)) == len(pairs) == 2 * 11


def test_hostile_text_is_text(tiny_llama: Path, tmp_path: Path) -> None:
    content = [{"id": row["id"], "text": row["text"]} for row in rows()]
    for row, text in zip(content, HOSTILE, strict=False):
        row["text"] = f"{text} end"
    data = tmp_path / "hostile.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in content))
    folder = make(tmp_path, tiny_llama, "--data", str(data))
    page, items = Page(folder), Project.of(folder).items
    for row, text in zip(content, HOSTILE, strict=False):
        whole = [[0, len(items[row["id"]].text)]]  # code points, whatever a browser counts in
        page.decide(row["id"], "true", comment=text[:1000], highlights=whole)
        handed = page.next(row=row["id"])["item"]
        assert text in handed["text"] and handed["text"] == items[row["id"]].text
        assert decisions(folder)[-1].comment == text[:1000]
        assert page.next(row=row["id"])["own"]["comment"] == text[:1000]


def test_every_reply_forbids_scripts_of_others(untouched: Page) -> None:
    for path in ("/", "/static/page.js", "/static/page.css", "/api/project", "/none"):
        reply = untouched.client.get(path)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
    assert "<script src=" not in untouched.client.get("/").text.replace(
        '<script type="module" src=', ""
    )


def test_masked_texts_and_no_original(tiny_llama: Path, tmp_path: Path) -> None:
    content = [row | {"text": f"{row['text']} {row['id']}@example.org"} for row in rows()]
    folder = make(tmp_path, tiny_llama, "annotation.masking=patterns", content=content)
    page = Page(folder)
    while (handed := page.next())["item"]:
        assert "<EMAIL>" in handed["item"]["text"]
        assert "example.org" not in json.dumps(handed)
        page.decide(handed["item"]["id"], "true")
    assert "example.org" not in json.dumps(page.get("/api/overview", annotator="ann"))


def test_an_answer_that_came_with_the_rows_is_masked_whoever_takes_it_over(
    tiny_llama: Path, tmp_path: Path
) -> None:
    said = "ask jane@example.org"
    content = [{"id": r["id"], "question": r["text"]} for r in rows()]
    content[0]["answer"] = said
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in content))
    folder = tmp_path / "project"
    words = ["--data", str(data), "--model", str(tiny_llama), "annotation.masking=patterns"]
    assert main(["init", str(folder), *words, *SIZES, f"tracking.cache_dir={tmp_path}"]) == 0
    page = Page(folder)
    page.decide("m0", "no idea")
    shown = page.next("eve", "settle")["answers"]["data"]
    number = page.decide("m0", shown, annotator="eve", final=True, like="data")["saved"]
    assert decisions(folder)[-1].answer == said  # what the model learns
    own = page.next("eve", row="m0")["own"]
    assert own["answer"] == shown == "ask <EMAIL>"
    assert "jane" not in page.decide("m0", "x", 409, annotator="eve")["error"]
    # Sent back as it was shown, with a comment: the answer is still the one that came.
    page.decide("m0", shown, annotator="eve", comment="so", replaces=number)
    assert (decisions(folder)[-1].answer, decisions(folder)[-1].comment) == (said, "so")


def test_first_examples_that_a_training_has_chosen_are_asked(
    tiny_llama: Path, tmp_path: Path
) -> None:
    page = Page(make(tmp_path, tiny_llama, "acquisition.initial=typiclust"))
    while (item := page.next()["item"]) is not None:
        page.decide(item["id"], GOLD[item["id"]])
    assert main(["train", str(page.folder)]) == 0
    fresh = Project.of(page.folder).query()
    told = page.get("/api/overview")
    assert (told["open"], told["needed"]) == (len(fresh.missing), fresh.short) == (6, 6)
    assert page.next()["item"] is not None


# Who may not speak to it.

GOOD = {"annotator": "ann", "id": "m1", "outcome": "answer", "answer": "true"}
BODIES = {
    "/api/decisions": GOOD,
    "/api/undo": {"annotator": "ann", "number": 0},
    "/api/training": {"force": True},
}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://127.0.0.1:8377.evil.example"}, 403),
        ({"origin": None}, 403),
        ({"x-star-page": "wrong"}, 403),
        ({"x-star-page": None}, 403),
        ({"host": "evil.example"}, 400),
        ({"host": "evil.example:8377", "origin": "http://evil.example:8377"}, 400),
        ({"host": "127.0.0.1.evil.example"}, 400),
        ({"host": "10.0.0.1:8377", "origin": "http://10.0.0.1:8377"}, 400),
        ({"host": ""}, 400),
        ({"host": "[::1"}, 400),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 422),
        ({"content-type": "application/x-www-form-urlencoded"}, 422),
    ],
)
@pytest.mark.parametrize("path", BODIES)
def test_a_request_from_elsewhere_changes_nothing(
    path: str, headers: dict, status: int, untouched: Page
) -> None:
    sent = {"content-type": "application/json", **untouched.headers, **headers}
    kept = {name: value for name, value in sent.items() if value is not None}
    reply = untouched.client.post(path, content=json.dumps(BODIES[path]), headers=kept)
    assert reply.status_code == status and reply.json()["error"]
    assert decisions(untouched.folder) == []


def test_reading_is_for_the_page_alone(untouched: Page) -> None:
    for path in ("/", "/api/project", "/api/next?annotator=ann", "/api/overview"):
        assert untouched.client.get(path, headers={"host": "evil.example"}).status_code == 400
        assert (
            untouched.client.get(path, headers={"origin": "http://evil.example"}).status_code == 403
        )
    link = {"sec-fetch-site": "cross-site"}
    assert untouched.client.get("/api/overview", headers=link).status_code == 403
    assert untouched.client.get("/", headers=link).status_code == 200


@pytest.mark.parametrize("told", [True, False])
def test_a_request_of_100_megabytes_is_refused(told: bool, untouched: Page) -> None:
    taken = 0

    def stream() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1600):
            taken += 65_536
            yield b" " * 65_536

    headers = {**untouched.headers, "content-type": "application/json"}
    headers |= {"content-length": str(1600 * 65_536)} if told else {}
    reply = untouched.client.post("/api/decisions", content=stream(), headers=headers)
    assert reply.status_code == 413 and "1,000,000 bytes" in reply.json()["error"]
    assert decisions(untouched.folder) == []


def test_a_token_is_shown_once_and_kept_in_a_cookie(project: Path) -> None:
    token = "a-token-of-this-test"
    app = application(Project.of(project), host="0.0.0.0", token=token)
    client = TestClient(app, base_url="http://192.0.2.7:8377")
    for path in ("/", "/?token=", "/?token=wrong", f"/api/project?token={token}", "/api/next"):
        assert client.get(path).status_code == 401
    assert client.get("/", headers={"cookie": f"star={token}"}).status_code == 401
    assert client.post("/api/decisions", json=GOOD).status_code == 401
    reply = client.get("/", params={"token": token})
    assert reply.status_code == 200
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    told = client.get("/api/project")
    assert told.status_code == 200 and token not in told.text
    headers = {"origin": "http://192.0.2.7:8377", "x-star-page": told.json()["secret"]}
    assert client.post("/api/decisions", json=GOOD, headers=headers).status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


# Training.


def waited(page: Page) -> dict:
    for _ in range(1200):
        told = page.get("/api/training")
        if told["state"] != "running":
            return told
        time.sleep(0.05)
    raise AssertionError("it does not end")


def script(folder: Path, source: str) -> Training:
    return Training(folder, command=[sys.executable, "-c", source])


def test_a_training_tells_how_far_it_is_and_runs_alone(project: Path) -> None:
    go = project.parent / "go"
    source = (
        "import sys, time, pathlib\n"
        "print('round 0: 6 labels', flush=True)\n"
        "print('\\rtrain 1:  37%|###   | 3/8 [00:01<00:02]', end='', file=sys.stderr, flush=True)\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
    )
    page = Page(project, training=script(project, source))
    assert page.get("/api/training")["state"] == "idle"
    assert page.post("/api/training", 202)["state"] == "running"
    for _ in range(400):
        told = page.get("/api/training")
        if told["percent"] is not None:
            break
        time.sleep(0.05)
    assert (told["stage"], told["percent"], told["said"]) == ("train 1", 37, "round 0: 6 labels")
    assert "runs already" in page.post("/api/training", 422)["error"]
    page.decide("m1", "true")  # labels are taken meanwhile
    go.touch()
    told = waited(page)
    assert (told["state"], told["percent"], told["error"]) == ("done", None, "")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys; sys.exit('error: no such model\\n')", "no such model"),
        ("1 / 0", "training ended with status 1: ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 9)", "training ended with status -9"),
    ],
)
def test_why_a_training_failed_is_said_in_a_line(source: str, message: str, project: Path) -> None:
    page = Page(project, training=script(project, source))
    page.post("/api/training", 202)
    told = waited(page)
    assert told["state"] == "failed" and message in told["error"]
    assert "\n" not in told["error"] and told["said"] == ""


@pytest.mark.parametrize("status", [0, 1])
def test_what_a_training_says_is_masked_before_it_is_cut(status: int, project: Path) -> None:
    line = f"{'error: ' if status else ''}{'x' * 490} jane.doe@example.org and more"
    source = f"import sys; print({line!r}); sys.exit({status})"
    command = [sys.executable, "-c", source]
    page = Page(project, training=Training(project, lambda text: mask(text).text, command))
    page.post("/api/training", 202)
    told = waited(page)
    assert "jane" not in json.dumps(told)
    assert "x" * 490 in told["error" if status else "said"]


def test_the_page_ends_its_training(project: Path) -> None:
    training = script(project, "import time; time.sleep(600)")
    with TestClient(application(Project.of(project), training=training), ORIGIN) as client:
        secret = client.get("/api/project").json()["secret"]
        headers = {"origin": ORIGIN, "x-star-page": secret}
        assert client.post("/api/training", json={}, headers=headers).status_code == 202
    assert training.state()["state"] == "idle"


@pytest.mark.slow
def test_train_now_trains_and_respects_the_lock(project: Path) -> None:
    page = Page(project)
    while (handed := page.next())["item"]:
        page.decide(handed["item"]["id"], GOLD[handed["item"]["id"]])
    held = lock(project)
    page.post("/api/training", 202, force=False)
    assert "is writing" in waited(page)["error"]
    assert held is not None
    unlock(held)
    page.post("/api/training", 202)
    told = waited(page)
    assert told["state"] == "done" and told["said"].startswith("4 labels are missing")
    [point] = page.get("/api/overview")["curve"]
    assert point["labeled"] == 6 and 0 <= point["accuracy_stderr"] < 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--port", "70000"), "--port must be from 0 to 65535"),
        (("--host", "192.0.2.1", "--port", "0"), "cannot listen at 192.0.2.1"),
    ],
)
def test_where_it_cannot_be_served(
    words: tuple[str, ...], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["annotate", str(project), *words]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_what_must_be_installed_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["annotate", str(project)]) == 2
    said = capsys.readouterr().err
    assert "pip install 'star-al[web]'" in said and len(said.splitlines()) == 1
