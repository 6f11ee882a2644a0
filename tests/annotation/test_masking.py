from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star.annotation.masking import mask, masker
from star.annotation.patterns import FINDERS, luhn, mod97
from star.errors import InputError


@pytest.mark.parametrize(
    "text, masked",
    [
        ("write to anna.b+x@mail.example.co.uk.", "write to <EMAIL>."),
        ("müller@exämple.de, 'joe@x.org'", "<EMAIL>, '<EMAIL>'"),
        ("שלחו אל dana@example.co.il היום", "שלחו אל <EMAIL> היום"),
        ("me@home, a @ b, @handle.com", "me@home, a @ b, @handle.com"),
        ("+49 (0)30 123-456 78 or 0049301234567", "<TELEPHONE> or <TELEPHONE>"),
        ("(0151) 12 34 56 78, 030/1234567", "<TELEPHONE>, <TELEPHONE>"),
        ("555-123-4567, (555) 123-4567, 1-800-555-0199", "<TELEPHONE>, <TELEPHONE>, <TELEPHONE>"),
        ("0301234567,0301234568", "<TELEPHONE>,<TELEPHONE>"),
        ("card 4111 1111 1111 1111 is one", "card <PAYMENT_CARD> is one"),
        ("12 5500-0000-0000-0004 3 4", "12 <PAYMENT_CARD> 3 4"),
        ("378282246310005 3782 822463 10005", "<PAYMENT_CARD> <PAYMENT_CARD>"),
        ("٤١١١ ١١١١ ١١١١ ١١١١", "<PAYMENT_CARD>"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("DE89 3704 0044 0532 0130 00 AND SO ON", "<IBAN> AND SO ON"),
        ("gb82west12345698765432", "<IBAN>"),
        ("GB82WEST12345698765433", "GB82WEST12345698765433"),
        ("from 10.0.0.255. 256.1.1.1 is none", "from <IP_ADDRESS>. 256.1.1.1 is none"),
        ("2001:db8::8a2e:370:7334: up", "<IP_ADDRESS>: up"),
        ("::1, ::ffff:1.2.3.4", "<IP_ADDRESS>, <IP_ADDRESS>"),
        ("std::vector a::b 12:30:45", "std::vector a::b 12:30:45"),
        ("https://user:pw@host/x!", "<URL>!"),
        ("see http://x.org/?a=1&api_key=k2#y.", "see <URL>."),
        ("https://x.org/?q=1 stays", "https://x.org/?q=1 stays"),
        ("ssn 123-45-6789, nino AB 12 34 56 C", "ssn <NATIONAL_ID>, nino <NATIONAL_ID>"),
        ("000-12-3456 666-12-3456", "000-12-3456 666-12-3456"),
        ("on 2024-01-15 and 01.02.2024 at 12:30", "on 2024-01-15 and 01.02.2024 at 12:30"),
        ("10 + 15 = 25, 0.5, 1,000,000, 12345678", "10 + 15 = 25, 0.5, 1,000,000, 12345678"),
        ("0.012345678 is small", "0.012345678 is small"),
        ("", ""),
    ],
)
def test_what_is_masked_and_what_is_not(text: str, masked: str) -> None:
    assert mask(text).text == masked


def test_what_was_masked_is_counted() -> None:
    masked = mask("a@b.de, c@d.de, 10.0.0.1, nothing")
    assert masked.counts == {"EMAIL": 2, "IP_ADDRESS": 1}
    assert mask("nothing").counts == {}
    assert mask("<EMAIL>").counts == {}  # somebody's own words


def test_check_digits() -> None:
    # ISO/IEC 7812-1's and ISO 13616's own examples.
    assert luhn("79927398713") and not any(luhn(f"7992739871{d}") for d in "012456789")
    assert mod97("GB82WEST12345698765432") and not mod97("GB28WEST12345698765432")
    draw = random.Random(0)
    for _ in range(200):  # one wrong digit is always seen
        digits = [draw.randrange(10) for _ in range(15)]
        card = next(text for d in range(10) if luhn(text := "".join(map(str, [*digits, d]))))
        at = draw.randrange(16)
        wrong = (int(card[at]) + draw.randint(1, 9)) % 10
        assert not luhn(card[:at] + str(wrong) + card[at + 1 :])


PIECES = (
    "a@b.de", "+49 30 1234567", "(0151) 123456", "4111 1111 1111 1111", "DE89370400440532013000",
    "10.0.0.1", "::1", "123-45-6789", "http://u:p@h/", "<EMAIL>", "@", "+", "(", ")", "-", ".", ":",
    " ", ",", "0", "1", "12", "1234", "a", "Z", "\n", "\u202e", "é", "١",
)  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=12))
def test_masking_twice_is_masking_once(parts: list[str]) -> None:
    text = "".join(parts)
    once = mask(text)
    again = mask(once.text)
    assert again.text == once.text and again.counts == {}
    assert mask(text) == once  # and the same each time
    for find in FINDERS.values():
        assert list(find(once.text)) == []


@pytest.mark.parametrize(
    "seed",
    [
        *("a", "@", "a@", "a@b.", "a@b.co", "1", "1 ", "4444 ", "0", "(0", "+1 ", "+49301234567"),
        *("(555) 123-4567", "(0151) 123456", "0301234567,", "DE00 ", ":", "1::2 ", "::1.", "1."),
        *("http://", "http://x?token", "a://b:c@d ", "12-", "555 555 5555 ", "- 0", "a.a-a_"),
        "+49301234567DE89370400440532013000",
        "123-45-6789(555) 123-4567",
    ],
)
@pytest.mark.slow
def test_a_megabyte_of_anything_is_done_in_a_moment(seed: str) -> None:
    # About a second each; what is quadratic would take days, so that the test would not end.
    text = (seed * (10**6 // len(seed) + 1))[: 10**6]
    masked = mask(text).text
    assert mask(masked[:10_000]).text is not None


def masked_names(text: str) -> str:
    return text.replace("Anna", "<NAME>")


def test_a_function_of_ones_own_sees_the_text_first() -> None:
    masked = mask("Anna <anna@x.org> and Anna", masked_names)
    assert masked.text == "<NAME> <<EMAIL>> and <NAME>"
    assert masked.counts == {"NAME": 2, "EMAIL": 1}
    assert mask("x", lambda text: "y").counts == {"OWN": 1}
    assert mask("x", lambda text: text).counts == {}
    spans = mask("Anna and Ben", lambda text: [(9, 12, "NAME"), (0, 4, "NAME")])
    assert (spans.text, spans.counts) == ("<NAME> and <NAME>", {"NAME": 2})


@pytest.mark.parametrize(
    "result, message",
    [
        (None, "must return a text, or spans"),
        ([(0, 1)], "must return a text, or spans"),
        ([(0, True, "NAME")], "must return a text, or spans"),
        ([(0, 1, "name")], "a kind must be in capitals"),
        ([(0, 99, "NAME")], "is not in a text of 4 characters"),
        ([(1, 1, "NAME")], "is not in a text"),
        ([(0, 3, "NAME"), (2, 4, "CITY")], "overlap"),
    ],
)
def test_what_such_a_function_must_not_return(result: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        mask("Anna", lambda text: result)  # type: ignore[arg-type, return-value]
    assert "\n" not in str(error.value)


def test_a_function_that_fails_is_told_in_one_line() -> None:
    def broken(text: str) -> str:
        raise KeyError("no\nmodel")

    with pytest.raises(InputError, match="failed: KeyError") as error:
        mask("Anna", broken)
    assert "\n" not in str(error.value)


def test_a_function_is_named_by_module_and_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_masking.py").write_text("def names(text):\n    return [(0, 4, 'NAME')]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert masker("own_masking:names")("Anna, a@b.de").text == "<NAME>, <EMAIL>"
    assert masker()("Anna, a@b.de").text == "Anna, <EMAIL>"
    with pytest.raises(InputError, match=r"masking=own_masking:name: .*did you mean 'names'"):
        masker("own_masking:name")
    with pytest.raises(InputError, match="masking=none_such:f: "):
        masker("none_such:f")
