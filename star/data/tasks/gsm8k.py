"""GSM8K: grade-school word problems whose worked solutions end in one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from star.data.answers import FINAL_ANSWER, MARKER, final_number, sole_number
from star.data.prompts import column
from star.data.task import Answer, Task
from star.errors import InputError


class Gsm8k(Task):
    """Rows of ``question`` and ``answer``, the answer a worked solution and ``#### N``.

    The target is the solution with ``The final answer is N`` for ``#### N``; N is left as stored
    (``1,234``), and so are the calculator's annotations (``<<3*4=12>>``), as in the authors' code.
    Gold is N in canonical form (``1234``). A row whose N is not one number, or whose target is not
    read as N (because the solution says ``The final answer is`` before), is refused.
    """

    name: ClassVar[str] = "gsm8k"
    version: ClassVar[int] = 1
    hub_id: ClassVar[str | None] = "openai/gsm8k"
    hub_config: ClassVar[str | None] = "main"
    template: ClassVar[str] = (
        "{question}\nAnswer the above question. "
        "First think step by step and then answer the final number.\n"
    )

    separator: ClassVar[str] = "\n"

    def answer(self, row: Mapping[str, Any], index: int) -> Answer:
        """Return the worked solution and its final number."""
        text = column(row, "answer")
        solution, marker, number = text.rpartition(MARKER)
        gold = sole_number(number) if marker else None
        if gold is None:
            raise InputError(
                f"the answer must end in '{MARKER} NUMBER', one number in digits (12, 1,234.5, -5, "
                f"$5, 50%; no 5/2, 3:30 or 1 000), a unit behind it allowed, got {text[-40:]!r}"
            )
        start = self.continuation(solution)
        target = f"{start}{FINAL_ANSWER} {number.strip()}"
        return Answer(target=target, gold=gold, stored=f"{start}{MARKER} {number.strip()}")

    def extract(self, text: str, *, strict: bool) -> str | None:
        """Return the final number in canonical form."""
        return final_number(text, strict=strict)
