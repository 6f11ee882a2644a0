"""Argilla's records as a file: the JSON that ``dataset.records.to_json`` of its version 2 writes.

Questions are ``label`` (labels or text), ``outcome`` (what is no answer), ``comment`` and
``highlight`` (spans in ``text``). Argilla names people by UUID and keeps no time, so that a
decision comes back with the time of the import, without ``seconds`` and ``final``.

Source: argilla 2.8, ``rg.Record.from_dict`` and ``to_dict``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from star.annotation.formats.sheet import Sheet, Stamp, by_item, id_of, put
from star.annotation.records import ANSWER, Decision, Item, Suggestion
from star.data.readers import read_json
from star.errors import InputError, nearest, placed
from star.files import write_json

LABEL, OUTCOME, COMMENT, HIGHLIGHT = "label", "outcome", "comment", "highlight"
SCORE = "score_"  # before a score's name among the metadata
PEOPLE = "annotators"  # whose UUIDs are made of their names
_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "annotators.star")


def user_id(annotator: str) -> str:
    """Return a name as the UUID that a file has for it; a UUID, which Argilla gave, as it is."""
    try:
        return str(uuid.UUID(annotator))
    except ValueError:
        return str(uuid.uuid5(_SPACE, annotator))


def write_records(path: Path, items: Sequence[Item], decisions: Iterable[Decision]) -> None:
    """Write records: each row, its suggestion and the decisions about it as responses."""
    write_json(path, [_record(item, about) for item, about in by_item(items, decisions)])


def read_records(path: Path, stamp: Stamp) -> Sheet:
    """Return the content of a file of records; raises as ``read``."""
    sheet = Sheet()
    for place, record in read_json(path):
        with placed(place):
            row_id = id_of(record, "a record")
            text = _mapping(record, "fields").get("text")
            if not isinstance(text, str):
                hint = nearest("text", _mapping(record, "fields"))
                raise InputError(f"a record's fields need the text, got {text!r:.60}{hint}")
            metadata = _mapping(record, "metadata")
            scores = {
                name.removeprefix(SCORE): value
                for name, value in metadata.items()
                if name.startswith(SCORE)
            }
            options = metadata.get("options") or []
            if not isinstance(options, list):
                raise InputError(f"options must be a list of labels, got {options!r:.60}")
            item = Item(row_id, text, tuple(options), scores, _suggestion(record))
            put(sheet, place, item, _decisions(row_id, record, metadata, stamp) or [None])
    return sheet


def _record(item: Item, about: Sequence[Decision]) -> dict[str, Any]:
    metadata: dict[str, Any] = {SCORE + name: value for name, value in item.scores.items()}
    if item.options:
        metadata["options"] = list(item.options)
    if about:
        metadata[PEOPLE] = sorted({decision.annotator for decision in about})
    suggestions = {}
    if item.suggestion is not None:
        suggestions[LABEL] = {
            "value": item.suggestion.answer,
            "score": item.suggestion.probability,
            "agent": "star",
        }
    responses: dict[str, list[dict[str, Any]]] = {}
    for decision in about:
        spans = [
            {"start": start, "end": end, "label": HIGHLIGHT} for start, end in decision.highlights
        ]
        said = {
            LABEL: decision.answer,
            OUTCOME: None if decision.outcome == ANSWER else decision.outcome,
            COMMENT: decision.comment or None,
            HIGHLIGHT: spans or None,
        }
        for question, value in said.items():
            if value is not None:
                response = {"value": value, "user_id": user_id(decision.annotator)}
                responses.setdefault(question, []).append(response)
    return {
        "id": item.id,
        "fields": {"text": item.text},
        "metadata": metadata,
        "suggestions": suggestions,
        "responses": responses,
        "vectors": {},
    }


def _suggestion(record: Mapping[str, Any]) -> Suggestion | None:
    suggestion = _mapping(record, "suggestions").get(LABEL)
    if suggestion is None:
        return None
    if not isinstance(suggestion, Mapping):
        raise InputError(f"a suggestion must be an object, got {suggestion!r:.60}")
    return Suggestion(suggestion.get("value"), suggestion.get("score"))  # type: ignore[arg-type]


def _decisions(
    row_id: str, record: Mapping[str, Any], metadata: Mapping[str, Any], stamp: Stamp
) -> list[Decision | None]:
    people = metadata.get(PEOPLE) or []
    names = {user_id(name): name for name in people if isinstance(name, str)}
    by_person: dict[str, dict[str, Any]] = {}
    for question, responses in _mapping(record, "responses").items():
        if not isinstance(responses, list) or not all(isinstance(r, Mapping) for r in responses):
            raise InputError(f"responses to {question} must be a list, got {responses!r:.60}")
        for response in responses:
            person = str(response.get("user_id"))
            if question in by_person.setdefault(person, {}):
                raise InputError(f"user {person} has answered {question} twice; keep one")
            by_person[person][question] = response.get("value")
    return [
        _decision(row_id, names.get(person, person), said, stamp)
        for person, said in by_person.items()
    ]


def _decision(
    row_id: str, annotator: str, said: Mapping[str, Any], stamp: Stamp
) -> Decision | None:
    if said.get(LABEL) is None and said.get(OUTCOME) is None:
        return None
    spans = said.get(HIGHLIGHT) or []
    if not isinstance(spans, list) or not all(isinstance(span, Mapping) for span in spans):
        raise InputError(f"{HIGHLIGHT} must be a list of spans, got {spans!r:.60}")
    return Decision(
        row_id,
        said.get(OUTCOME) or ANSWER,
        annotator,
        stamp.time,
        said.get(LABEL),
        said.get(COMMENT) or "",
        tuple((span.get("start"), span.get("end")) for span in spans),  # type: ignore[misc]
    )


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name) or {}
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be an object, got {value!r:.60}")
    return value
