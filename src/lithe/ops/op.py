"""What an operator is: one class with all of its facts, and the registry of all classes.

An operator class is a namespace of functions that take a `Site` first; it is never instantiated.

    name, code    as in the schema's BuiltinOperator (code None: a custom operator known by name)
    operands      names of the inputs and outputs, for messages and documentation:
                  ("input", "filter", "bias?") -> ("output",); "?" may be absent, "*" takes any number
    types         allowed element types, one line a combination (see `Signature`)
    Attrs         a frozen dataclass; field names are those of the schema's options table
    infer         the outputs' shapes from the inputs (raises `RuleViolation`)
    evaluate      the meaning, in numpy, written to be compared with the specification by eye
    lower         the same in loops, for every target
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from lithe.ir.arithmetic import ACTIVATION_BOUNDS
from lithe.ir.graph import Graph, Node
from lithe.types import DTYPES, DType, Quantization, Shape, TensorType


class RuleViolation(Exception):
    """A model breaks a rule of an operator. The verifier turns it into a ModelError with the place."""

    def __init__(self, rule: str, operand: str = "") -> None:
        super().__init__(rule)
        self.rule, self.operand = rule, operand


@dataclass(frozen=True)
class NoAttrs:
    """Attributes of an operator that has none."""


class Environment(Protocol):
    """What an operator may reach beyond its operands: the model's other graphs, and what lasts between runs.

    resources  values by key (a table, a variable); every graph of a loaded model sees the same ones.
    """

    resources: dict[Hashable, Any]

    def graph(self, number: int) -> Graph:
        """A graph of the model as the file holds it."""

    def call(self, number: int, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Runs a graph on values for its inputs; its outputs, which are the caller's own."""

    def call_once(self, number: int, leaves: Mapping[str, np.ndarray] | None = None) -> None:
        """Runs a graph without inputs, if it has not been run since the model was loaded.

        leaves  the resources that it is known to leave, if it does nothing else: then they are put in place instead.
        """

    def shapes(self, number: int, inputs: Sequence[TensorType]) -> list[Shape]:
        """The shapes of a graph's outputs for inputs of these shapes; None where only a run can tell."""

    def spend(self, iterations: int, number: int) -> None:
        """Accounts for runs of a graph in a loop. Raises LimitError when a run of the model has taken too many."""

    def affords(self, work: int) -> bool:
        """Whether one run of the model may do that much work in loops (in the units of `lithe.ops.repeat.work`)."""


@dataclass(frozen=True)
class Site:
    """One use of an operator: attributes, operand types, and the values of constant operands.

    inputs     a TensorType each, None for an absent optional operand.
    constants  the array of each constant input, else None.
    outputs    the types declared in the model (in `infer`, the shapes are still to be checked).
    environment  of the loaded model; None where a graph stands alone, as in the verifier.
    memory       what this one node remembers between runs, for operators with a state of their own (random
                 streams, ring buffers); a dict in `evaluate` of a `stateful` operator, else None.
    intermediates  types of values inside the operator, whose quantization the model gives beside it.
    quick        whether `evaluate` may take sums of products in float32: in less time, not to be compared with by bits.
    """

    attrs: Any
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    constants: tuple[np.ndarray | None, ...] = ()
    operands: tuple[str, ...] = ()
    environment: Environment | None = None
    memory: dict[str, Any] | None = None
    intermediates: tuple[TensorType | None, ...] = ()
    quick: bool = False

    @staticmethod
    def of(node: Node, environment: Environment | None = None) -> Site:
        """The site of a graph's node."""
        return Site(
            node.attrs,
            tuple(None if t is None else t.type for t in node.inputs),
            tuple(t.type for t in node.outputs),
            tuple(None if t is None else t.data for t in node.inputs),
            node.op.operands[0],
            environment,
            intermediates=node.intermediates,
        )

    def surroundings(self) -> Environment:
        """The environment, where the operator cannot do without. Raises RuleViolation in a graph that stands alone."""
        if self.environment is None:
            raise RuleViolation("needs the whole model, not one of its graphs alone")
        return self.environment

    def operand(self, i: int) -> str:
        """A name for input i in messages."""
        return self.operands[min(i, len(self.operands) - 1)].rstrip("?*") if self.operands else f"input {i}"

    def require(self, condition: bool, rule: str, operand: str | int = "") -> None:
        """Raises RuleViolation when the condition is false."""
        if not condition:
            raise RuleViolation(rule, self.operand(operand) if isinstance(operand, int) else operand)

    def has(self, i: int) -> bool:
        return i < len(self.inputs) and self.inputs[i] is not None

    def input(self, i: int) -> TensorType:
        t = self.inputs[i] if i < len(self.inputs) else None
        if t is None:
            raise RuleViolation("must be present", self.operand(i))
        return t

    def rank(self, i: int, *allowed: int) -> TensorType:
        """Input i, which must have one of the ranks."""
        t = self.input(i)
        self.require(t.rank in allowed, f"rank must be {' or '.join(map(str, allowed))}, is {t.rank} ({t})", i)
        return t

    def constant(self, i: int) -> np.ndarray:
        """The value of input i, which must be known before the model runs."""
        value = self.constants[i] if i < len(self.constants) else None
        if value is None:
            raise RuleViolation("must be a constant (its value decides a shape or a layout)", self.operand(i))
        return value

    def known(self, i: int) -> np.ndarray | None:
        """The value of input i when it is constant, else None."""
        return self.constants[i] if i < len(self.constants) else None

    def axis(self, value: int, rank: int, name: str = "axis") -> int:
        """A checked axis in 0..rank-1; negative ones count from the end."""
        self.require(-rank <= value < rank, f"{name} must be in [{-rank}, {rank}), is {value}")
        return int(value) % rank

    def quantization(self, t: TensorType, operand: str = "") -> tuple[float, int]:
        """(scale, zero_point) of a tensor that must have exactly one pair."""
        q = t.quantization
        if q is None or len(q.scale) != 1:
            got = "none" if q is None else str(len(q.scale))
            raise RuleViolation(f"{t} must have one scale and one zero point, has {got}", operand)
        return q.scale[0], q.zero_point[0]

    @property
    def quantized(self) -> bool:
        """Whether output 0 holds quantized integers."""
        return self.outputs[0].quantization is not None and self.outputs[0].dtype.is_integer


@dataclass(frozen=True)
class Signature:
    """One allowed combination of element types.

    Text: "T T -> T: float32 int8" - an upper-case word is a variable with the listed values; "?" marks an
    operand that may be absent, "*" any number of the last operand. "Q" as a listed value's suffix
    ("int8q") means that such tensors must carry a scale and a zero point.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    variables: dict[str, tuple[str, ...]] = field(hash=False, default_factory=dict)

    @staticmethod
    def parse(text: str) -> Signature:
        body, *bindings = (part.strip() for part in text.split(":", 1))
        left, right = body.split("->")
        variables: dict[str, tuple[str, ...]] = {}
        if bindings:
            for clause in bindings[0].split(";"):
                words = clause.split()
                key = words.pop(0)[:-1] if words[0].endswith("=") else "T"
                variables[key] = tuple(words)
        return Signature(tuple(left.split()), tuple(right.split()), variables)

    def expanded(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Every combination with the variables replaced (suffixes ? * q kept)."""
        combos: list[dict[str, str]] = [{}]
        for name, values in self.variables.items():
            combos = [{**c, name: v} for c in combos for v in values]

        def fill(word: str, c: dict[str, str]) -> str:
            bare = word.rstrip("?*")
            return c.get(bare, bare) + word[len(bare) :]

        return [(tuple(fill(w, c) for w in self.inputs), tuple(fill(w, c) for w in self.outputs)) for c in combos]


@dataclass(frozen=True)
class Call:
    """How an operator calls a graph: with its inputs from `first` on; whether the graph's outputs are its own, and
    whether they are the graph's inputs when it is called again."""

    first: int = 0
    results: bool = True
    repeats: bool = False


@dataclass(frozen=True)
class Scale:
    """Where a value inside a fused operator of integers has its scale from.

    how      "largest": from the largest value, zero in the middle; "power": the same, a power of two; "like": the scale
             and zero point of another value; "product": the scales of others, multiplied.
    of       names of the others; factor: of a product.
    bits     of the greatest integer; 0: as many as the type has.
    """

    how: str = "largest"
    of: tuple[str, ...] = ()
    factor: float = 1.0
    bits: int = 0


@dataclass(frozen=True)
class Fused:
    """How a fused operator of real numbers is one of integers.

    scales         of its constants, states and intermediates by name; of those that are not named: `Scale()`.
    intermediates  the names and types of values inside for which the model gives a quantization; "": it needs none.
    attrs          of the operator of integers.
    """

    scales: Mapping[str, Scale]
    intermediates: tuple[tuple[str, DType], ...]
    attrs: Any


See = Callable[[str, np.ndarray], None]  # takes a value inside an operator, by name


@dataclass(frozen=True)
class Axes:
    """How an operator that treats all axes of a tensor alike names some of them, so that they may change places.

    data       the input whose axes are meant; `joins`: every input's.
    attribute  the attribute that holds an axis.
    numbers    the input that holds numbers of axes.
    rows       the inputs with an entry for each axis.
    masks      attributes with a bit for each axis.
    dropped    whether the axes in `numbers` are missing in the result, unless an attribute `keep_dims` is true.
    last       whether the last axis has a part of its own, so that it must stay the last.
    weights    the constant input whose last axis is summed up with the data's last one.
    """

    data: int = 0
    joins: bool = False
    attribute: str = ""
    numbers: int | None = None
    rows: tuple[int, ...] = ()
    masks: tuple[str, ...] = ()
    dropped: bool = False
    last: bool = False
    weights: int | None = None


FUNCTIONS = (
    "infer", "evaluate", "lower", "lowers", "changes", "parse_options", "fused", "inside", "spelled", "factors",
    "per_input",
)  # fmt: skip


class Op:
    """Base of operators; see the module's text for what a subclass holds."""

    name: ClassVar[str]
    code: ClassVar[int | None] = None
    known: ClassVar[bool] = True
    operands: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = (("input",), ("output",))
    types: ClassVar[str] = ""
    Attrs: ClassVar[type] = NoAttrs
    signatures: ClassVar[tuple[Signature, ...]] = ()
    stateful: ClassVar[bool] = False  # two runs on the same inputs may differ, or change something: never folded
    # changes(attrs): positions of the inputs that it changes, which must be variables
    changes: ClassVar[Callable[..., tuple[int, ...]]] = staticmethod(lambda attrs: ())
    activations: ClassVar[tuple[str, ...]] = tuple(ACTIVATION_BOUNDS)  # what may be fused into it
    of_shapes: ClassVar[bool] = False  # the result depends on the inputs' shapes alone, never on their elements
    calls: ClassVar[Mapping[str, Call]] = {}  # how it calls the graph that an option names
    inlined: ClassVar[str] = ""  # the attribute with the number of the graph that the operator stands for
    elementwise: ClassVar[bool] = False  # on operands of one shape, each element depends on those in its place alone
    row_aligned: ClassVar[bool] = False  # an elementwise operand of fewer axes belongs to the first ones, not the last
    named_axes: ClassVar[Axes | None] = None  # how it names axes, where their order does not matter to it
    weights_axis: ClassVar[int | None] = None  # of a constant operand of weights: the one along which outputs lie
    # factors(site, x): by what weights are multiplied, [groups, sums, weights of an output]; outputs: group after group
    factors: ClassVar[Callable[..., np.ndarray] | None] = None
    broadcasts: ClassVar[bool] = False  # operands of other shapes are repeated to one shape, as in numpy
    contracts: ClassVar[bool] = False  # its output is written by one contraction of the builder, as epilogues of sums
    blocks: ClassVar[bool] = False  # input 1 may have a scale for each block (see `lithe.types.Quantization`)
    # of `types`: what constant weights runtimes of the format take beside real values; and which of them in blocks
    beside_reals: ClassVar[tuple[str, ...]] = ("int8",)
    blocks_beside_reals: ClassVar[tuple[str, ...]] = ()
    alias: ClassVar[bool] = False  # output 0 has the bytes of input 0 (a reshape): no code is needed
    updates: ClassVar[bool] = False  # loops may be given the memory of input 0 for output 0: only a part of it changes

    # quantized: the input of which a kernel ends the run where an element is stored as zero, as small ones are
    never_zero: ClassVar[int | None] = None
    # quantized: the elements of the outputs are elements of the inputs of their type, or lie between such: one scale
    keeps_scale: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False  # of reals: f(c * x) = c * f(x) for c > 0, whatever c is for each channel
    keeps: ClassVar[tuple[float | None, float | None] | None] = None  # the bounds between which it keeps its input
    # of a product of input 0 with constant weights, input 1, to which input 2 may be added:
    # per_input(site, places): for something known of each place along the input's last axis, that of the place that
    # each weight is multiplied with, in a shape that is broadcast to the weights'; None where it is several
    per_input: ClassVar[Callable[..., np.ndarray | None] | None] = None
    # {element type: (scale, zero point)} of quantized outputs, where the format has one for all models
    result_scales: ClassVar[Mapping[str, tuple[float, int]]] = {}

    # fused(site): how an operator of real numbers with values inside is one of integers; None: it cannot be
    fused: ClassVar[Callable[..., Fused | None] | None] = None
    # inside(site, see, *arrays): evaluates, and shows what is inside: states and intermediates, whenever they change
    inside: ClassVar[Callable[..., list[np.ndarray]] | None] = None
    # spelled(w, site, *tensors): its outputs in other operators, written with w("ADD", x, y): a tensor, or a list with
    # None for what is not computed; None: it cannot be. For those who need operators with a form that it lacks
    spelled: ClassVar[Callable[..., Any] | None] = None

    infer: ClassVar[Callable[..., list[Shape]]]
    evaluate: ClassVar[Callable[..., list[np.ndarray]]]
    lower: ClassVar[Callable[..., None] | None] = None

    # lowers(site): whether `lower`, if there is one, serves a site; all shapes are known when it is asked
    lowers: ClassVar[Callable[..., bool]] = staticmethod(lambda site: True)

    def __init_subclass__(cls) -> None:
        for key in FUNCTIONS:
            function = cls.__dict__.get(key)
            if callable(function) and not isinstance(function, staticmethod):
                setattr(cls, key, staticmethod(function))
        cls.signatures = tuple(Signature.parse(line) for line in cls.types.strip().splitlines())

    @classmethod
    def supports(cls, dtype: DType) -> bool:
        """Whether some combination has this type as its first input."""
        return any(i and i[0].rstrip("?*q") == dtype.name for s in cls.signatures for i, _ in s.expanded())


class ByName(Mapping[str, "type[Op]"]):
    """Operators by name. One that is not there yet comes with its family, which is imported when it is asked for.

    families  the module that registers each, by name; None: any name may come from anywhere.
    """

    def __init__(self) -> None:
        self.classes: dict[str, type[Op]] = {}
        self.families: Mapping[str, str] | None = None

    def __getitem__(self, name: str) -> type[Op]:
        if name not in self.classes and self.families and name in self.families:
            importlib.import_module(self.families[name])
        return self.classes[name]

    def __contains__(self, name: object) -> bool:
        return name in self.classes or (self.families is not None and name in self.families)

    def __iter__(self) -> Iterator[str]:
        return iter(self.classes if self.families is None else self.families)

    def __len__(self) -> int:
        return len(self.classes if self.families is None else self.families)


@dataclass
class Registry:
    """Operators by name. Sealed by `lithe.ops`, which lists them all.

    users     the operators that users registered, by name (see `lithe.ops.registration`).
    prefixes  families of custom operators that are made when they are asked for, by how their names begin.
    """

    by_name: ByName = field(default_factory=ByName)
    users: dict[str, type[Op]] = field(default_factory=dict)
    prefixes: dict[str, Callable[[str], type[Op]]] = field(default_factory=dict)

    def builtin(self, name: str) -> type[Op] | None:
        """The class of a builtin operator, None when nobody knows it."""
        found = self.by_name.get(name)
        return None if found is None or found.code is None else found

    def custom(self, name: str) -> type[Op] | None:
        """The class of a custom operator, None when nobody knows it."""
        found = self.by_name.get(name)
        if found is not None and found.code is None:
            return found
        if name in self.users:
            return self.users[name]
        return next((make(name) for start, make in self.prefixes.items() if name.startswith(start)), None)

    def seal(self, families: Mapping[str, str]) -> None:
        """From now on operators come from these modules alone (see `ByName`)."""
        self.by_name.families = families

    def add(self, cls: type[Op]) -> None:
        families, classes = self.by_name.families, self.by_name.classes
        if families is not None and cls.name not in families:
            raise TypeError(f"{cls.name}: the registry is sealed; list it with its family in lithe/ops/__init__.py")
        if cls.name in classes or (cls.code is not None and any(c.code == cls.code for c in classes.values())):
            raise TypeError(f"{cls.name} (code {cls.code}) is registered twice")
        classes[cls.name] = cls


REGISTRY = Registry()


def register(cls: type[Op]) -> type[Op]:
    """Class decorator: makes the operator known."""
    REGISTRY.add(cls)
    return cls


def unknown(name: str, code: int | None) -> type[Op]:
    """A stand-in for an operator that has no class: it is read, kept and written, and cannot run."""
    return type("UnknownOp", (Op,), {"name": name, "code": code, "known": False})


def dtype_named(word: str) -> DType:
    return DTYPES[word.rstrip("?*q")]


__all__ = [
    "REGISTRY",
    "Axes",
    "Call",
    "Environment",
    "NoAttrs",
    "Op",
    "Quantization",
    "Registry",
    "RuleViolation",
    "Signature",
    "Site",
    "register",
    "unknown",
]
