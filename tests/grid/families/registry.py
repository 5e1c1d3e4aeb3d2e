"""The generators by operator."""

from __future__ import annotations

from collections.abc import Callable

from tests.grid.draw import Draw, Trial

Generator = Callable[[Draw], Trial]

GENERATORS: dict[str, Generator] = {}


def generates(*ops: str) -> Callable[[Generator], Generator]:
    """Decorator: the function draws cases of these operators."""

    def note(function: Generator) -> Generator:
        twice = GENERATORS.keys() & set(ops)
        if twice:
            raise TypeError(f"{sorted(twice)} have two generators")
        GENERATORS.update(dict.fromkeys(ops, function))
        return function

    return note
