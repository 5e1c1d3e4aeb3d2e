"""Errors that Lithe raises on purpose: what happened, where in the user's model, what to try.

Every class also inherits the builtin that callers of comparable software already catch, so
`except ValueError` keeps working after a change of import. Anything else that escapes is our bug.
"""

from __future__ import annotations


class LitheError(Exception):
    """Base of every error raised on purpose.

    problem  what happened, with both sides shown (dtype *and* shape where they matter).
    where    the place in the user's model or file: operator index and name, tensor index and name.
    hint     one next step.

    >>> print(LitheError("got 3, expected 4", where="op #2 ADD", hint="resize the input"))
    got 3, expected 4
      at: op #2 ADD
      try: resize the input
    """

    def __init__(self, problem: str, *, where: str = "", hint: str = "") -> None:
        self.problem, self.where, self.hint = problem, where, hint
        lines = [problem]
        if where:
            lines.append(f"  at: {where}")
        if hint:
            lines.append(f"  try: {hint}")
        super().__init__("\n".join(lines))


class InputError(LitheError, ValueError):
    """A value given by the caller cannot be used (wrong shape, dtype, name, option)."""


class ResizeError(InputError, RuntimeError):
    """An input cannot take the shape that the caller asks for."""


class FileMissing(LitheError, ValueError, FileNotFoundError):
    """A file that the caller named cannot be opened."""

    __str__ = Exception.__str__  # OSError's own text would hide ours


class ModelError(LitheError, ValueError):
    """A model file is damaged or breaks a rule of the format."""


class LimitError(ModelError):
    """A model asks for more memory, tensors or steps than the limits allow."""


class UnsupportedOp(LitheError, NotImplementedError, ValueError):
    """An operator, or a dtype of it, has no rule for what was asked."""


class MissingDependency(LitheError, ImportError):
    """An optional package is needed; the hint is the one command that installs it."""


class StateError(LitheError, RuntimeError):
    """A call that is right in itself came at the wrong time."""


class CompileError(LitheError, RuntimeError):
    """Code for this machine could not be made (the compiler failed, hung, or is missing)."""


class ExecutionError(LitheError, RuntimeError, ValueError):
    """A running model met data that it must not use (an index out of range, a division by zero)."""


def warn(text: str, *details: object) -> None:
    """Says what is no error but worth knowing, by the logger "lithe"."""
    import logging  # here, because most starts have nothing to say

    logging.getLogger("lithe").warning(text, *details)
