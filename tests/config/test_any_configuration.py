"""Of any configuration: it comes back from its own YAML, or is refused in one line."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star.config import Config, config_hash, fields_of, get, load
from star.config.reading import to_yaml
from star.errors import InputError

FIELDS = dict(fields_of(Config))
# What YAML, OmegaConf and a shell read in ways of their own.
FRAGMENTS = (
    *("", " ", "null", "~", "yes", "no", "0x1f", "0o7", "1_000", "1e999", "-1e999", ".inf"),
    *("-.nan", "2001-01-01", "2001-13-01", "12:30:45", "1" * 5000, "-0", "+1", "1.", "[", "]"),
    *("{", "}", "[a, b]", "[[a]]", "{a: b}", "{a: {b: c}}", "{? a}", "a: b", "- a", "a,b", ","),
    *("a:b,c:d", "'", '"', "'a", '"\\x"', "&a *a", "*a", "&a [*a]", "!!int 3", "!!binary a"),
    *("!!python/object/apply:os.getcwd []", "!a b", "%YAML 1.1", "${seed}", "${oc.env:HOME}"),
    *("???", "|", ">", "@a", "`a`", "#", "a #b", "---", "...", "\t", "=a", "\ufeff", "\u2028"),
    *("\x85", "\u202eabc", "e\u0301", "\U0001f600", "\udc80", "a\0b", "\x1b[31m"),
)
texts = st.sampled_from(FRAGMENTS) | st.text(max_size=12) | st.integers().map(str)


def refusal(error: InputError) -> str:
    message = str(error)
    assert message and "\n" not in message and "Traceback" not in message
    return message


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), texts), min_size=1, max_size=3))
def test_words_make_a_configuration_that_comes_back_or_one_line(
    words: list[tuple[str, str]],
) -> None:
    try:
        config = load(None, [f"{key}={text}" for key, text in words])
    except InputError as error:
        refusal(error)
        return
    again = load(io.StringIO(to_yaml(config)))
    assert again == config and config_hash(again) == config_hash(config)


@pytest.mark.parametrize("key", ["seed", "train.learning_rate", "run_name", "task.choices"])
def test_a_key_takes_or_refuses_every_fragment(key: str) -> None:
    for text in FRAGMENTS:
        try:
            config = load(None, [f"{key}={text}"])
        except InputError as error:
            refusal(error)
        else:
            assert get(load(io.StringIO(to_yaml(config))), key) == get(config, key)


@pytest.mark.parametrize("key", ["seed", "task.choices"])
@pytest.mark.parametrize("opened", ["[", "{a: ", "- "])
def test_what_is_nested_deeper_than_python_goes_is_refused(key: str, opened: str) -> None:
    with pytest.raises(InputError) as error:
        load(None, [f"{key}={opened * 5000}"])
    assert len(refusal(error.value)) < 1000
    with pytest.raises(InputError) as error:
        load(io.StringIO(f"{key.partition('.')[0]}: {opened * 5000}"))
    assert len(refusal(error.value)) < 1000


def values(item: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    """Return values of a key's type, most of them in its range."""
    kind, bounds = str(item.type), item.metadata
    if "Literal" in kind:
        return st.sampled_from(kind.split("'")[1::2])
    text = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1)
    low = bounds.get("ge", bounds.get("gt", 0))
    high = min(bounds.get("le", low + 50), bounds.get("lt", low + 50))
    plain: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int": st.integers(low, max(low, int(high))),
        "float": st.floats(low, high, allow_nan=False),
        "str": text,
        "list[str]": st.lists(text, max_size=3),
        "dict[str, str]": st.dictionaries(text, text, max_size=3),
    }
    optional = kind.startswith("Optional[")
    made = plain.get(kind.removeprefix("Optional[")[: -1 if optional else None], text)
    return st.none() | made if optional else made


@settings(max_examples=30)
@given(st.data())
def test_a_file_of_any_values_makes_a_configuration_that_comes_back(data: st.DataObject) -> None:
    import yaml

    tree: dict[str, Any] = {}
    for key in data.draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=6, unique=True)):
        node, *path = tree, *key.split(".")
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = data.draw(values(FIELDS[key]))
    try:
        config = load(io.StringIO(yaml.safe_dump(tree, allow_unicode=True)))
    except InputError as error:
        refusal(error)
        return
    again = load(io.StringIO(to_yaml(config)))
    assert again == config and to_yaml(again) == to_yaml(config)
