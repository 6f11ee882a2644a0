"""Label Studio's JSON: tasks with predictions and annotations, and the interface to label them.

The interface asks for the label (``Choices``) or the answer (``TextArea``), for a doubt (unsure, no
such label), a comment and highlights. A skipped task is Label Studio's own ``was_cancelled``.
Offsets of highlights are code points.

Source: https://labelstud.io/guide/task_format and the tags' pages; checked with label-studio-sdk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from star.annotation.formats.sheet import Sheet, Stamp, by_item, id_of, put
from star.annotation.records import (
    ANSWER,
    NO_SUCH_LABEL,
    SKIP,
    UNSURE,
    Decision,
    Item,
    Suggestion,
    as_utc,
)
from star.data.readers import read_json
from star.errors import InputError, nearest, placed
from star.files import write_json

TEXT, LABEL, ANSWER_FIELD, DOUBT, COMMENT, HIGHLIGHT = (
    *("text", "label", "answer", "doubt", "comment", "highlight"),
)
_IN_XML = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


def interface(items: Sequence[Item]) -> str:
    """Return the labelling interface's XML for a project's setup page.

    Labels that are the same for all rows stand in it; others, and those that XML or Label Studio
    would read as something else, come with each task (``value="$options"``).
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Text", name=TEXT, value="$text")
    options = {item.options for item in items}
    if options <= {()}:
        ElementTree.SubElement(
            view, "TextArea", name=ANSWER_FIELD, toName=TEXT, maxSubmissions="1", editable="true"
        )
    else:
        same = options.pop() if len(options) == 1 else ()
        fixed = all(_IN_XML.fullmatch(o) and not o.startswith("$") for o in same) and bool(same)
        dynamic = {} if fixed else {"value": "$options"}
        choices = ElementTree.SubElement(
            view, "Choices", dynamic, name=LABEL, toName=TEXT, choice="single"
        )
        for option in same if fixed else ():
            ElementTree.SubElement(choices, "Choice", value=option)
    doubt = ElementTree.SubElement(view, "Choices", name=DOUBT, toName=TEXT, choice="single")
    for outcome in (UNSURE, NO_SUCH_LABEL):
        ElementTree.SubElement(doubt, "Choice", value=outcome)
    ElementTree.SubElement(
        view, "TextArea", name=COMMENT, toName=TEXT, maxSubmissions="1", editable="true"
    )
    labels = ElementTree.SubElement(view, "Labels", name=HIGHLIGHT, toName=TEXT)
    ElementTree.SubElement(labels, "Label", value=HIGHLIGHT)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def write_tasks(path: Path, items: Sequence[Item], decisions: Iterable[Decision]) -> None:
    """Write tasks to import: each row's data, its suggestion and the decisions about it."""
    write_json(path, [_task(item, about) for item, about in by_item(items, decisions)])


def read_tasks(path: Path, stamp: Stamp) -> Sheet:
    """Return the content of an export (JSON, not JSON-MIN); raises as ``read``."""
    sheet = Sheet()
    for place, task in read_json(path):
        with placed(place):
            data = task.get("data")
            if not isinstance(data, Mapping):
                raise InputError(f"a task needs data, an object{nearest('data', task)}")
            row_id = id_of(data, "a task's data")
            text = data.get("text")
            if not isinstance(text, str):
                raise InputError(f"a task's data needs its text, got {text!r:.60}")
            options = tuple(_value(option) for option in _list(data, "options"))
            item = Item(
                row_id, text, options, data.get("scores") or {}, _suggestion(task, bool(options))
            )
            about = [_decision(row_id, a, stamp) for a in _list(task, "annotations")]
            put(sheet, place, item, about or [None])
    return sheet


def _task(item: Item, about: Sequence[Decision]) -> dict[str, Any]:
    data: dict[str, Any] = {"id": item.id, "text": item.text}
    if item.options:
        data["options"] = [{"value": option} for option in item.options]
    if item.scores:
        data["scores"] = dict(item.scores)
    task: dict[str, Any] = {"data": data}
    if item.suggestion is not None:
        prediction = {"model_version": "star", "result": [_said(item, item.suggestion.answer)]}
        if item.suggestion.probability is not None:
            prediction["score"] = item.suggestion.probability
        task["predictions"] = [prediction]
    if about:
        task["annotations"] = [_annotation(item, decision) for decision in about]
    return task


def _annotation(item: Item, decision: Decision) -> dict[str, Any]:
    result = []
    if decision.answer is not None:
        result.append(_said(item, decision.answer))
    if decision.outcome in (UNSURE, NO_SUCH_LABEL):
        result.append(_region(DOUBT, "choices", {"choices": [decision.outcome]}))
    if decision.comment:
        result.append(_region(COMMENT, "textarea", {"text": [decision.comment]}))
    for start, end in decision.highlights:
        marked = {"start": start, "end": end, "text": item.text[start:end], "labels": [HIGHLIGHT]}
        result.append(_region(HIGHLIGHT, "labels", marked, f"{HIGHLIGHT}-{start}-{end}"))
    annotation: dict[str, Any] = {
        # Label Studio knows its users by mail address; this key of ours it leaves aside.
        "annotator": decision.annotator,
        "created_at": decision.time,
        "was_cancelled": decision.outcome == SKIP,
        "ground_truth": decision.final,
        "result": result,
    }
    if "@" in decision.annotator:
        annotation["completed_by"] = {"email": decision.annotator}
    if decision.seconds is not None:
        annotation["lead_time"] = decision.seconds
    return annotation


def _said(item: Item, answer: str) -> dict[str, Any]:
    if item.options:
        return _region(LABEL, "choices", {"choices": [answer]})
    return _region(ANSWER_FIELD, "textarea", {"text": [answer]})


def _region(name: str, kind: str, value: dict[str, Any], key: str = "") -> dict[str, Any]:
    return {"id": key or name, "from_name": name, "to_name": TEXT, "type": kind, "value": value}


def _suggestion(task: Mapping[str, Any], choices: bool) -> Suggestion | None:
    for prediction in _list(task, "predictions"):
        if isinstance(prediction, Mapping):  # some exports have the ids alone
            answer = _first(prediction, LABEL if choices else ANSWER_FIELD)
            if answer is not None:
                return Suggestion(answer, prediction.get("score"))
    return None


def _decision(row_id: str, annotation: Any, stamp: Stamp) -> Decision | None:
    if not isinstance(annotation, Mapping):
        raise InputError(f"an annotation must be an object, got {annotation!r:.60}")
    answer = _first(annotation, LABEL)
    answer = _first(annotation, ANSWER_FIELD) if answer is None else answer
    doubt, comment = _first(annotation, DOUBT), _first(annotation, COMMENT)
    skipped = bool(annotation.get("was_cancelled"))
    if skipped:  # what was begun before it is no answer
        answer, doubt = None, None
    if answer is None and doubt is None and not skipped:
        return None
    marks = [r["value"] for r in _results(annotation) if r["from_name"] == HIGHLIGHT]
    return Decision(
        row_id,
        SKIP if skipped else doubt or ANSWER,
        _annotator(annotation, stamp),
        _time(annotation, stamp),
        answer,
        comment or "",
        tuple((mark.get("start"), mark.get("end")) for mark in marks),
        annotation.get("lead_time"),
        bool(annotation.get("ground_truth")),
    )


def _annotator(annotation: Mapping[str, Any], stamp: Stamp) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("id")
    name = annotation.get("annotator") or by
    return stamp.annotator if name is None else str(name)


def _time(annotation: Mapping[str, Any], stamp: Stamp) -> str:
    time = annotation.get("updated_at") or annotation.get("created_at")
    if time is None:
        return stamp.time
    try:
        moment = datetime.fromisoformat(time)
    except (TypeError, ValueError):
        return str(time)  # refused by the decision, in its words
    return time if not moment.utcoffset() else as_utc(moment)


def _first(holder: Mapping[str, Any], name: str) -> str | None:
    """Return the one value of a choice or a text field; ``None``: not given."""
    for region in _results(holder):
        if region["from_name"] == name:
            values = region["value"].get("choices") or region["value"].get("text")
            values = [values] if isinstance(values, str) else values
            if not isinstance(values, list) or len(values) != 1:
                raise InputError(f"{name}: one value is needed, got {values!r:.60}")
            if not isinstance(values[0], str):
                raise InputError(f"{name} must be text, got {values[0]!r:.60}")
            return values[0]
    return None


def _results(holder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the regions of a result; relations between them have no ``from_name``."""
    regions = [r for r in _list(holder, "result") if isinstance(r, Mapping) and "from_name" in r]
    for region in regions:
        if not isinstance(region.get("value"), Mapping):
            raise InputError(f"a result needs a value, an object, got {region.get('value')!r:.60}")
    return regions


def _list(holder: Mapping[str, Any], name: str) -> list[Any]:
    values = holder.get(name) or []
    if not isinstance(values, list):
        raise InputError(f"{name} must be a list, got {values!r:.60}")
    return values


def _value(option: Any) -> str:
    value = option.get("value") if isinstance(option, Mapping) else option
    if not isinstance(value, str):
        raise InputError(f"options must be labels, got {option!r:.60}")
    return value
