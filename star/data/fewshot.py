"""Which labelled examples stand before every prompt: ``task.num_fewshot``.

They are drawn from the first labels alone, so that they are the same in every round and for every
strategy of a seed that buys the same first labels: what does not learn, the base view, stays fixed,
and nothing is read that was not bought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from star import seeding
from star.data.task import Answer, Example, Shot

BETWEEN = "\n\n"  # examples shown as text, as lm-evaluation-harness has it


def draw(
    examples: Mapping[int, Example], labelled: Mapping[int, Answer], *, count: int, seed: int
) -> list[Shot]:
    """Return the examples to show, one more than ``count`` if there are so many.

    The last one stands in where a question is itself among the others.

    Args:
        examples: By pool index.
        labelled: Pool index to bought answer, of the first labels.
        count: ``task.num_fewshot``.
        seed: Of the run; the draw has a stream of its own.
    """
    import torch  # late: most runs show none

    indices = sorted(labelled)
    order = torch.randperm(len(indices), generator=seeding.generator(seed, "fewshot")).tolist()
    drawn = [indices[place] for place in order[: count + 1]]
    return [Shot(i, examples[i].prompt, labelled[i].target) for i in drawn]


def show(examples: Sequence[Example], shots: Sequence[Shot], count: int) -> list[Example]:
    """Return the examples with ``count`` shots each, none of which asks what the example asks.

    By the text of the question: one of the test split that stands in the pool too is not shown its
    answer either. Where no other shot is there to stand in, there is one less.
    """
    asked = {shot.prompt for shot in shots}
    usual = tuple(shots[:count])
    return [
        replace(
            example,
            shots=usual
            if example.prompt not in asked
            else tuple(shot for shot in shots if shot.prompt != example.prompt)[:count],
        )
        for example in examples
    ]


def joined(shots: Sequence[Shot], prompt: str) -> str:
    """Return a prompt as text, its shots before it, a blank line between them."""
    return BETWEEN.join([*(shot.prompt + shot.answer for shot in shots), prompt])
