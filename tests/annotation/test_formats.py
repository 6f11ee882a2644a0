from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star.annotation.formats.argilla import user_id
from star.annotation.formats.exchange import FORMATS, read, take, write
from star.annotation.formats.flat import escaped, unescaped
from star.annotation.formats.label_studio import interface
from star.annotation.formats.sheet import Stamp
from star.annotation.records import OUTCOMES, Decision, Item, Suggestion
from star.errors import InputError

TIME = "2026-11-27T00:20:00Z"
STAMP = Stamp("importer", "2026-11-27T01:00:00Z")
LABELS = ("joy", "fear", "no, thanks")
ITEMS = [
    Item("7", "=cmd|' /C calc'!A0", LABELS, {"entropy": 0.25}, Suggestion("joy", 0.5)),
    Item("007", 'a "quoted", text\r\nof\ntwo\u2028lines\r', LABELS, {}, Suggestion("fear")),
    Item("-1", "שלום <script>alert(1)</script> \u202eabc", LABELS),
    Item("@x y", "\x00\x07\x1b[31m\ufeff\U0001f600", LABELS),
]
DECISIONS = [
    Decision("7", "answer", "anna", TIME, "joy", "=1+1", ((0, 4), (5, 7)), 2.5),
    Decision("7", "answer", "ben@x.org", TIME, "no, thanks", final=True),
    Decision("007", "skip", "anna", TIME, comment="\ttab\r\n"),
    Decision("-1", "unsure", "anna", TIME),
    Decision("-1", "no such label", "Zoë", TIME, comment="-surprise", seconds=0),
]


def without_what_argilla_keeps_not(decision: Decision) -> Decision:
    return replace(decision, time=STAMP.time, seconds=None, final=False)


def same(decision: Decision) -> Decision:
    return decision


KEPT: dict[str, Callable[[Decision], Decision]] = {
    "jsonl": same,
    "csv": same,
    "label_studio": same,
    "argilla": without_what_argilla_keeps_not,
}


def check_round_trip(path: Path, form: str, items: list[Item], decisions: list[Decision]) -> None:
    write(path, form, items, decisions)
    known = {item.id: item for item in items}
    sheet = read(path, form, STAMP)
    assert sheet.offered() == items
    found, unanswered = take(path, form, known, STAMP)
    about = {decision.id for decision in decisions}
    assert unanswered == sum(item.id not in about for item in items)

    def order(decision: Decision) -> tuple[str, str]:
        return decision.id, decision.annotator

    assert sorted(found, key=order) == sorted(map(KEPT[form], decisions), key=order)


@pytest.mark.parametrize("form", FORMATS)
def test_what_went_out_comes_back(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"batch{FORMATS[form].suffix}"
    check_round_trip(path, form, ITEMS, DECISIONS)
    check_round_trip(path, form, ITEMS, [])
    check_round_trip(path, form, [replace(item, options=(), suggestion=None) for item in ITEMS], [])


def batches() -> st.SearchStrategy[tuple[list[Item], list[Decision]]]:
    """Return nasty texts everywhere: rows, labels, and decisions about them."""
    nasty = st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            ["=1", "'=1", "''=1", "+", "-", "@", "\t", "\r", "\n", '"', ",", "＝1", "nan"]
        ),
        st.sampled_from(
            ["null", "true", "1", "1.0", "[]", "\ufeff", "\x00", "<b>", "$x", "\u2028", "é"]
        ),
    )
    words = nasty.filter(bool)
    names = words.filter(str.isprintable)

    @st.composite
    def batch(draw: st.DrawFn) -> tuple[list[Item], list[Decision]]:
        ids = draw(st.lists(words, min_size=1, max_size=3, unique=True))
        options = tuple(draw(st.lists(words, max_size=3, unique=True)))
        scores = st.dictionaries(
            words, st.floats(allow_nan=False, allow_infinity=False), max_size=2
        )
        items, decisions = [], []
        for row in ids:
            answers = st.sampled_from(options) if options else words
            chance = st.none() | st.floats(0, 1)
            suggestion = draw(st.none() | st.builds(Suggestion, answers, chance))
            items.append(Item(row, draw(nasty), options, draw(scores), suggestion))
            length = len(items[-1].text)
            for who in draw(st.lists(names, max_size=2, unique=True)):
                outcome = draw(st.sampled_from(OUTCOMES[:-1]))
                spans = ((0, length),) if length and draw(st.booleans()) else ()
                decisions.append(
                    Decision(
                        row,
                        outcome,
                        who,
                        TIME,
                        draw(answers) if outcome == "answer" else None,
                        draw(nasty),
                        spans,
                        draw(st.none() | st.floats(0, 1e6)),
                        draw(st.booleans()),
                    )
                )
        return items, decisions

    return batch()


@pytest.mark.parametrize("form", FORMATS)
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batch=batches())
def test_any_text_comes_back_as_it_was(
    tmp_path: Path, form: str, batch: tuple[list[Item], list[Decision]]
) -> None:
    check_round_trip(tmp_path / "batch", form, *batch)


@pytest.mark.parametrize("form", FORMATS)
def test_a_megabyte_of_text_comes_back(tmp_path: Path, form: str) -> None:
    long = Item("1", '=é\n",' * 200_000, LABELS)
    check_round_trip(tmp_path / "batch", form, [long], [Decision("1", "skip", "anna", TIME)])


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "batch.csv"
    write(path, "csv", ITEMS, DECISIONS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n")]
    assert "'=1+1" in cells and "'-1" in cells
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")


@given(st.text(alphabet="'=+-@\t\ra＝", max_size=5))
def test_escaping_is_undone_exactly(cell: str) -> None:
    assert unescaped(escaped(cell)) == cell
    assert escaped(cell)[:1] not in tuple("=+-@\t\r＝")


def filled(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path


KNOWN = {item.id: item for item in ITEMS}


def test_a_sheet_that_somebody_filled_in(tmp_path: Path) -> None:
    table = filled(
        tmp_path / "a.csv",
        "\ufeffid,label,outcome,comment,colour\r",
        "7,joy,,,red\r",
        "007,,skip,,\r",
        "-1,,,,\r",
    )
    assert take(table, "csv", KNOWN, STAMP) == (
        [
            Decision("7", "answer", "importer", STAMP.time, "joy"),
            Decision("007", "skip", "importer", STAMP.time),
        ],
        1,
    )
    lines = filled(tmp_path / "a.jsonl", '{"id": 7, "label": "joy", "annotator": "anna"}', "")
    assert take(lines, "jsonl", KNOWN, STAMP) == (
        [Decision("7", "answer", "anna", STAMP.time, "joy")],
        0,
    )
    numbers = {"1": Item("1", "x", ("0", "1"))}
    digits = filled(tmp_path / "b.jsonl", '{"id": 1, "label": 0}')
    assert take(digits, "jsonl", numbers, STAMP)[0][0].answer == "0"


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"id": 8, "label": "joy"}', "id '8' is none of the 4 rows"),
        ('{"id": "0007", "label": "joy"}', "did you mean '007'"),
        ('{"id": 7.0, "label": "joy"}', "id must be text, got 7.0"),
        ('{"label": "joy"}', "needs an id"),
        ('{"idd": 7, "label": "joy"}', "did you mean 'idd'"),
        ('{"id": 7, "label": "Joy"}', "did you mean 'joy'"),
        ('{"id": 7, "label": "happy"}', "label 'happy' is none of"),
        ('{"id": 7, "label": true}', "label must be text, got True"),
        ('{"id": 7, "label": ["joy"]}', "label must be text"),
        ('{"id": 7, "lable": "joy"}', "did you mean 'lable'"),
        ('{"id": 7, "label": "joy", "outcome": "skip"}', "'skip' takes no label"),
        ('{"id": 7, "outcome": "answer"}', "answer must be text"),
        ('{"id": 7, "outcome": "skipped"}', "did you mean 'skip'"),
        ('{"id": 7, "label": null, "comment": "hm"}', "a comment without a label"),
        ('{"id": 7, "label": "joy", "time": "noon"}', "time must be UTC"),
        ('{"id": 7, "label": "joy", "seconds": "3"}', "seconds must be a number"),
        ('{"id": 7, "label": "joy", "highlights": [[0, 999]]}', "a highlight ends behind"),
        ('{"id": 7, "label": "joy", "highlights": "0-4"}', "highlights must be a list"),
        ('{"id": 7, "label": "joy", "text": "another"}', "were columns sorted apart"),
        ('{"id": 7, "label": "joy", "text": 3}', "text of id '7' must be text"),
        ('{"id": 7, "label": "joy", "text": "", "options": "joy"}', "options must be a list"),
        ('{"id": 7, "label": "\\ud800"}', "half of a character"),
        ("[]", "must be an object"),
        ("{", "malformed JSON"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = filled(tmp_path / "a.jsonl", line)
    with pytest.raises(InputError) as error:
        take(path, "jsonl", KNOWN, STAMP)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_row_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    first = '{"id": 7, "label": "joy"}'
    twice = filled(tmp_path / "a.jsonl", first, first)
    with pytest.raises(InputError, match=r"line 2: id '7' of importer stands twice .*line 1"):
        take(twice, "jsonl", KNOWN, STAMP)
    both = filled(tmp_path / "b.jsonl", first, '{"id": "7", "label": "fear"}')
    with pytest.raises(InputError, match="is both 'joy' and 'fear'"):
        take(both, "jsonl", KNOWN, STAMP)
    two = filled(tmp_path / "c.jsonl", first, '{"id": 7, "label": "fear", "annotator": "ben"}')
    assert len(take(two, "jsonl", KNOWN, STAMP)[0]) == 2


def test_a_text_that_a_spreadsheet_cut_or_wrapped_is_the_same(tmp_path: Path) -> None:
    long = {"1": Item("1", "word " * 10_000, LABELS), "2": Item("2", "a\r\nb", LABELS)}
    path = tmp_path / "a.jsonl"
    rows = [{"id": 1, "label": "joy", "text": ("word " * 10_000)[:32_767]}]
    rows += [{"id": 2, "label": "joy", "text": "a\nb"}]
    filled(path, *map(json.dumps, rows))
    assert len(take(path, "jsonl", long, STAMP)[0]) == 2


def test_what_is_no_file_or_format_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'label_studio'"):
        write(tmp_path / "a", "label-studio", ITEMS)
    with pytest.raises(InputError, match="not there"):
        read(tmp_path / "none", "csv", STAMP)
    with pytest.raises(InputError, match="a folder"):
        read(tmp_path, "csv", STAMP)
    with pytest.raises(InputError, match="cannot write"):
        write(tmp_path / "none" / "a", "csv", ITEMS)
    with pytest.raises(ValueError):
        write(tmp_path / "a", "csv", ITEMS, [Decision("8", "skip", "anna", TIME)])
    with pytest.raises(ValueError):
        write(tmp_path / "a", "csv", [ITEMS[0], ITEMS[0]])
    assert not list(tmp_path.iterdir())


def export(result: list[object], **more: object) -> list[object]:
    annotation = {"id": 31, "completed_by": 2, "result": result, "lead_time": 4.5, **more}
    annotation |= {"created_at": "2026-11-27T01:20:00.500000+01:00"}
    return [{"id": 9, "data": {"id": "7", "text": ITEMS[0].text}, "annotations": [annotation]}]


def region(name: str, kind: str, value: object) -> dict[str, object]:
    return {"id": "a", "from_name": name, "to_name": "text", "type": kind, "value": value}


def test_label_studios_own_export_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    chosen = region("label", "choices", {"choices": ["joy"]})
    path.write_text(json.dumps(export([chosen, {"type": "relation", "from_id": "a"}])))
    time = "2026-11-27T00:20:00.500000Z"
    (decision,), waiting = take(path, "label_studio", KNOWN, STAMP)
    assert decision == Decision("7", "answer", "2", time, "joy", seconds=4.5) and waiting == 0
    path.write_text(json.dumps(export([chosen], was_cancelled=True)))
    (decision,), _ = take(path, "label_studio", KNOWN, STAMP)
    assert (decision.outcome, decision.answer) == ("skip", None)
    path.write_text(json.dumps(export([])))
    assert take(path, "label_studio", KNOWN, STAMP) == ([], 1)


STUDIO_ROW = {"data": {"id": "7", "text": "x"}}
RECORD = {"id": "7", "fields": {"text": "x"}}


def chose(value: object) -> list[object]:
    return export([region("label", "choices", value)])


@pytest.mark.parametrize(
    "form, content, message",
    [
        ("label_studio", [{"id": 9}], "needs data"),
        ("label_studio", [{"data": {"text": "x"}}], "needs an id"),
        ("label_studio", [{"data": {"id": 1}}], "needs its text"),
        ("label_studio", [STUDIO_ROW | {"annotations": {"a": 1}}], "must be a list"),
        ("label_studio", chose({"choices": ["joy", "fear"]}), "one value"),
        ("label_studio", chose({"choices": [1]}), "label must be text"),
        ("label_studio", chose(None), "needs a value"),
        ("label_studio", chose({"choices": ["rage"]}), "none of"),
        ("label_studio", {"id": 1}, "needs data"),
        ("argilla", [{"id": "7"}], "fields need the text"),
        ("argilla", [{"fields": {"text": "x"}}], "needs an id"),
        ("argilla", [RECORD | {"responses": {"label": 1}}], "must be a list"),
        ("argilla", [RECORD | {"responses": {"label": [{"value": "joy"}] * 2}}], "twice"),
        ("argilla", [RECORD | {"suggestions": {"label": "joy"}}], "must be an object"),
    ],
)
def test_what_is_none_of_a_format_is_told(
    tmp_path: Path, form: str, content: object, message: str
) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        take(path, form, KNOWN, STAMP)
    assert "\n" not in str(error.value)


def choices(items: list[Item]) -> tuple[dict[str, str], list[str]]:
    (tag,) = ElementTree.fromstring(interface(items)).findall("Choices[@name='label']")
    return tag.attrib, [choice.attrib["value"] for choice in tag]


def test_label_studios_interface_offers_the_labels() -> None:
    odd = ("a & b", '"<b>"', "tab\tline\n", "é")
    assert choices([Item("1", "x", odd), Item("2", "y", odd)])[1] == list(odd)
    for items in (
        [Item("1", "x", ("a", "b")), Item("2", "y", ("c", "d"))],
        [Item("1", "x", ("a", "\x00"))],  # XML has no such character
        [Item("1", "x", ("a", "$text"))],  # Label Studio would put the text there
    ):
        attributes, values = choices(items)
        assert attributes["value"] == "$options" and values == []
    free = ElementTree.fromstring(interface([Item("1", "x")]))
    assert free.find("TextArea[@name='answer']") is not None
    assert free.find("Choices[@name='label']") is None


def test_argillas_people_have_uuids() -> None:
    own = "0b6a6e3c-6f3b-4a8e-9f5e-2f2b6f1f0001"
    assert user_id(own) == own
    assert user_id("anna") == user_id("anna") != user_id("ben")


@pytest.mark.parametrize("options", [LABELS, ()])
def test_label_studio_takes_the_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    pytest.importorskip("label_studio_sdk", reason="pip install label-studio-sdk")
    from label_studio_sdk.label_interface import LabelInterface

    items = [replace(item, options=options) for item in ITEMS]
    surface = LabelInterface(interface(items))
    surface.validate()
    write(tmp_path / "tasks.json", "label_studio", items, DECISIONS)
    for task in json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8")):
        assert surface.validate_task({"data": task["data"]})
        for prediction in task.get("predictions", []):
            assert surface.validate_prediction(prediction, return_errors=True) == []
        for annotation in task.get("annotations", []):
            assert surface.validate_annotation(annotation)
            for part in annotation["result"]:
                wrong = {"result": [{**part, "from_name": "none"}]}
                assert not surface.validate_annotation(wrong)


def test_argilla_takes_the_files(tmp_path: Path) -> None:
    argilla = pytest.importorskip("argilla", reason="pip install argilla")
    path = tmp_path / "records.json"
    write(path, "argilla", ITEMS, DECISIONS)
    written = json.loads(path.read_text(encoding="utf-8"))
    records = [argilla.Record.from_dict(record) for record in written]
    path.write_text(json.dumps([record.to_dict() for record in records]), encoding="utf-8")
    sheet = read(path, "argilla", STAMP)
    assert sheet.offered() == ITEMS
    expected = [without_what_argilla_keeps_not(decision) for decision in DECISIONS]
    assert [decision for _, decision in sheet.decisions] == expected
