"""A function of tensors, traced by PyTorch, as a part of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lithe.conversion.builder import Builder, Conversion
from lithe.conversion.opaque import Parts
from lithe.conversion.signature import InputSpec
from lithe.conversion.torch.program import exported, import_torch
from lithe.conversion.torch.trace import PART, Writing, tensor_constant
from lithe.ir.graph import Tensor
from lithe.types import TensorType

Write = Callable[[Builder, Sequence[Tensor]], list[Tensor]]


def traced(conversion: Conversion, function: Callable[..., Any], types: Mapping[str, TensorType]) -> Write:
    """What writes the tensors that a function gives, from the tensors that it takes."""
    torch = import_torch()
    from torch.fx.traceback import preserve_node_meta

    class Function(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def forward(self, *tensors: Any) -> Any:
            return function(*tensors)

    name_of, parts = conversion.sizes.name_of, Parts()
    specs = tuple(InputSpec(tuple(name_of(n) or n for n in t.shape), t.dtype) for t in types.values())
    with parts.known(), preserve_node_meta(), _without_idle_conversions(torch):
        program, symbols = exported(Function(), specs, conversion.sizes)

    def write(b: Builder, tensors: Sequence[Tensor]) -> list[Tensor]:
        given = iter(tensors)
        values = [
            next(given) if s.kind.name == "USER_INPUT" else tensor_constant(b, s.target, program.constants[s.target])
            for s in program.graph_signature.input_specs
        ]
        with parts.known():
            return Writing(symbols, conversion.unroll).graph(b, program.graph_module, values)

    return write


def _without_idle_conversions(torch: Any) -> Any:
    """A context in which a tensor that is of the type, or on the device, that is asked for is taken as it is. torch
    notes them as operators, and statements about what comes out, which are most of a program.
    """
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.Tensor.to and len(args) == 2 and not kwargs:
                x, wanted = args
                if wanted == x.dtype or (isinstance(wanted, str) and torch.device(wanted) == x.device):
                    return x
            return function(*args, **(kwargs or {}))

    return Mode()


@contextmanager
def part(path: str) -> Iterator[None]:
    """What is traced inside belongs to a part of this name."""
    from torch.fx.traceback import annotate

    with annotate({PART: path}):
        yield
