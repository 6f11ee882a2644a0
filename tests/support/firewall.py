"""What can be had from an object: how the label firewall's tests look for answers."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator


def reachable(start: object, *leave: object) -> Iterator[object]:
    """Yield every object to be reached from ``start``, but through ``leave``, classes and modules.

    Of functions only what they hold (closure, defaults), not the globals they can name.
    """
    seen, todo = {id(o) for o in leave}, [start]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, (type, types.ModuleType)):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, types.FunctionType):
            todo += [one.__closure__, one.__defaults__, one.__kwdefaults__, one.__dict__]
        else:
            todo += gc.get_referents(one)
