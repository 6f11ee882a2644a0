"""What personal data looks like, where a form or a check digit tells. Pure functions.

Each finder yields (start, end) spans from left to right and looks at every character a bounded
number of times: quantifiers are bounded, or anchored where a run of characters begins.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator

Span = tuple[int, int]
Finder = Callable[[str], Iterable[Span]]

PLACEHOLDER = re.compile(r"<([A-Z]+(?:_[A-Z]+)*)>")  # no digits, which would be found again

# A URL as one token; whether it carries a secret is asked of the token alone.
_URL = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s<>\"']+")
_USERINFO = re.compile(r"://[^/?#@]+@")
_SECRET = re.compile(
    r"[?&#;](?:[a-z_-]{0,20}(?:token|password|passwd|secret|signature|credential)|"
    r"(?:api|access|private)[_-]?key|pwd|sig|auth)=[^&#]",
    re.IGNORECASE,
)

# From the @ to the right; what stands before it is read backwards by hand, which is linear where
# a pattern that begins with the name is quadratic.
_AT_DOMAIN = re.compile(r"@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24}(?!\w)")
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]")

_IBAN = re.compile(r"(?<![^\W_])([A-Za-z]{2})[0-9]{2}(?=(?:[ -]?[A-Za-z0-9]){11})")
_BLANKS = re.compile(r"[ -]")
_IBAN_RESTS = {  # behind the country and the check digits
    country: re.compile(rf"(?:[ -]?[A-Za-z0-9]){{{length - 4}}}(?![^\W_])")
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}

_SIGN = r"[ \u00a0\u202f-]"
# In one run, in groups of four with the rest of a card of up to 19 digits, and as 4-6-4 and 4-6-5.
# A lookahead: what begins inside of a candidate that is none must be looked at as well.
_CARDS = tuple(
    re.compile(rf"(?<!\d)(?=(\d{layout})(?!\d))")
    for layout in (
        r"\d{12,18}",
        rf"\d{{3}}(?:{_SIGN}\d{{4}}){{2}}{_SIGN}\d{{1,7}}",
        rf"\d{{3}}(?:{_SIGN}\d{{4}}){{3}}{_SIGN}\d{{1,3}}",
        rf"\d{{3}}{_SIGN}\d{{6}}{_SIGN}\d{{4,5}}",
    )
)
_DOUBLED = str.maketrans("0123456789", "0246813579")  # twice a digit, less 9 where it has two

_SSN = re.compile(r"(?<![\d-])(?!000|666|9)[0-9]{3}([ -])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![\d-])")
_NINO = re.compile(
    r"(?<!\w)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
    r"( ?)[0-9]{2}\1[0-9]{2}\1[0-9]{2}\1[A-D](?!\w)",
    re.IGNORECASE,
)

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?<![\d.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\.?\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f:.]{0,40}[0-9])(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:)"
    r"[0-9A-Fa-f:]{2,39}(?:\.[0-9]{1,3}){0,3}(?![\w:])"
)

_BETWEEN = r"[ \u00a0\u202f./–-]"  # what stands between the groups of a telephone number
# None is refused for what stands right before a sign that begins it, or of a row of numbers without
# blanks each would be seen only once the one before it is masked.
_PHONES = tuple(
    re.compile(pattern)
    for pattern in (
        # International: + or 00, the country, 6 to 12 more digits.
        rf"(?:\+|(?<!\w)00)[1-9](?:{_BETWEEN}{{0,2}}[()]?{_BETWEEN}?\d){{6,14}}(?!\d)",
        # North America: 3-3-4.
        r"(?:(?<![\w-])1[ .-])?(?:\(\d{3}\) ?|(?:(?<![\w-])|(?<=1[ .-]))\d{3}[ .-])\d{3}[ .-]\d{4}"
        r"(?![\w-])",
        # With a trunk 0 and groups: 030 123456, (0151) 12 34 56 78, 020 7946 0958.
        rf"(?:\(|(?<!\w))0\d{{1,5}}\)?{_BETWEEN}{{1,3}}\d{{2,8}}(?:{_BETWEEN}\d{{2,8}}){{0,4}}(?!\d)",
        # With a trunk 0 in one run, which is not what stands behind the sign of a decimal.
        r"(?<!\w)(?<!(?<!\d)\d[.,])0\d{8,11}(?!\d)",
    )
)
_DATE = re.compile(r"\d{1,4}[./ -]\d{1,2}[./ -]\d{1,4}")


def luhn(digits: str) -> bool:
    """Whether the check digit of a payment card fits (ISO/IEC 7812-1, annex B)."""
    doubled = digits[-2::-2].translate(_DOUBLED)
    return (sum(map(int, digits[-1::-2])) + sum(map(int, doubled))) % 10 == 0


def mod97(iban: str) -> bool:
    """Whether the check digits of an IBAN fit (ISO 13616): letters as 10 to 35, remainder 1."""
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def urls_with_secrets(text: str) -> Iterator[Span]:
    """Yield URLs that carry a user's name or password, or a token in their query."""
    for match in _URL.finditer(text):
        url = match[0].rstrip(".,;:!?)]}")
        if _USERINFO.search(url) or _SECRET.search(url):
            yield match.start(), match.start() + len(url)


def mails(text: str) -> Iterator[Span]:
    """Yield mail addresses, of any script."""
    floor = 0
    for match in _AT_DOMAIN.finditer(text):
        start = match.start()
        while start > floor and _LOCAL.match(text, start - 1):
            start -= 1
        while start < match.start() and text[start] in "./'`*|{&=?":  # signs around the address
            start += 1
        if start < match.start():
            yield start, match.end()
            floor = match.end()


def ibans(text: str) -> Iterator[Span]:
    """Yield IBANs, in groups or in one, of a country's length and with its check digits."""
    for match in _IBAN.finditer(text):
        rest = _IBAN_RESTS.get(match[1].upper())
        found = rest.match(text, match.end()) if rest is not None else None
        if found is not None and mod97(_BLANKS.sub("", match[0] + found[0])):
            yield match.start(), found.end()


def cards(text: str) -> Iterator[Span]:
    """Yield payment cards: 13 to 19 digits, in one group or in a card's groups, Luhn's digit."""
    spans = [
        match.span(1)
        for pattern in _CARDS
        for match in pattern.finditer(text)
        if (digits := _plain(match[1]))[0] in "23456" and luhn(digits)
    ]
    return iter(_joined(spans))


def _plain(grouped: str) -> str:
    """Return digits of any script, in groups, as 0 to 9 in one run."""
    digits = "".join(filter(str.isdecimal, grouped))
    return digits if digits.isascii() else "".join(str(int(c)) for c in digits)


def national_ids(text: str) -> Iterator[Span]:
    """Yield US social security numbers and British national insurance numbers."""
    spans = [m.span() for pattern in (_SSN, _NINO) for m in pattern.finditer(text)]
    return iter(sorted(spans))


def ip_addresses(text: str) -> Iterator[Span]:
    """Yield IPv4 and IPv6 addresses; ``::`` and the like of code, without a digit, are left."""
    spans = [m.span() for m in _IPV4.finditer(text)]
    for match in _IPV6.finditer(text):
        for word in (match[0], match[0].removesuffix(":")):
            with contextlib.suppress(ValueError):
                ipaddress.IPv6Address(word)
                spans.append((match.start(), match.start() + len(word)))
                break
    return iter(sorted(spans))


def telephones(text: str) -> Iterator[Span]:
    """Yield telephone numbers: international, North American, or with a trunk 0; no dates."""
    spans = []
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            digits = sum(c.isdecimal() for c in match[0])
            if 7 <= digits <= 17 and not _DATE.fullmatch(match[0]):
                spans.append(match.span())
    return iter(_joined(spans))


def _joined(spans: list[Span]) -> list[Span]:
    """Return spans in order, those that overlap as one."""
    whole: list[Span] = []
    for start, end in sorted(spans):
        if whole and start < whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


# In this order: a URL may hold a mail address, an account number what looks like a telephone's.
FINDERS: dict[str, Finder] = {
    "URL": urls_with_secrets,
    "EMAIL": mails,
    "IBAN": ibans,
    "PAYMENT_CARD": cards,
    "NATIONAL_ID": national_ids,
    "IP_ADDRESS": ip_addresses,
    "TELEPHONE": telephones,
}
