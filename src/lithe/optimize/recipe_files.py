"""Recipes as JSON: ours, and those of ai-edge-quantizer, read as they are.

    {"ranges": "min_max", "rules": [{"values": "int8", "weights": "int8"},
                                    {"scope": "head", "operators": ["FULLY_CONNECTED"]}]}

Ours has the fields of `Recipe`, `Rule` and `Scheme`; what is left out has their defaults, so that the second rule above
leaves operators float. ai-edge-quantizer's is a list of
{"regex", "operation", "algorithm_key", "op_config"}; here as there the last rule that an operator can follow counts.
Of its settings, these say nothing here: `symmetric` (weights are symmetric, values of 8 bits are not), `skip_checks`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from lithe.errors import FileMissing, InputError
from lithe.ops.op import REGISTRY
from lithe.optimize.ranges import OBSERVERS
from lithe.optimize.recipes import BLOCKS, FLOAT, Recipe, Rule, Scheme
from lithe.types import DTYPES, FLOAT16, DType

VALUES, WEIGHTS = ("int8", "int16"), ("int8", "int4", "int2", "float16")
MOST_BYTES = 1 << 24


def read(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a file. Raises FileMissing, and InputError for what is no recipe."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise FileMissing(f"cannot open the recipe '{os.fspath(path)}': {error.strerror}") from None
    where = f"'{os.fspath(path)}'"
    try:
        given = json.loads(data[:MOST_BYTES])
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where} is no JSON: {error}", hint="a recipe is the name of one, or a file of rules"
        ) from None
    return records(given, where)


def write(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Writes a recipe in one step, as `read` takes it."""
    path = Path(path)
    text = json.dumps(as_record(recipe), indent=2) + "\n"
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror}", hint="check that the folder exists") from None


def records(given: Any, where: str) -> Recipe:
    """The recipe of what JSON holds: a record of ours, or a list of ai-edge-quantizer's."""
    if isinstance(given, Mapping) and "rules" in given:
        return _ours(given, where)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        rules = [_foreign(_record(rule, f"{where}, rule {i}"), f"{where}, rule {i}") for i, rule in enumerate(given)]
        return Recipe(tuple(_grouped(rules)))
    if isinstance(given, Mapping) and given and all(isinstance(rules, list) for rules in given.values()):
        raise InputError(
            f"{where} holds recipes for {len(given)} models: {', '.join(map(str, given))}",
            hint="quantize each with its own",
        )
    raise InputError(
        f"{where} is no recipe", hint='a recipe is {"rules": [...]}, or a list of ai-edge-quantizer\'s rules'
    )


# ours


def as_record(recipe: Recipe) -> dict[str, Any]:
    """What JSON holds of a recipe; what has its default is left out."""
    return {"ranges": recipe.ranges, "rules": [_rule_as_record(rule) for rule in recipe.rules]}


def _rule_as_record(rule: Rule) -> dict[str, Any]:
    record: dict[str, Any] = {"scope": rule.scope} if rule.scope else {}
    if rule.operators:
        record["operators"] = sorted(rule.operators)
    changed = {f.name: getattr(rule.scheme, f.name) for f in fields(Scheme)}
    defaults = {f.name: f.default for f in fields(Scheme) if f.default is not MISSING}
    return record | {k: v.name if isinstance(v, DType) else v for k, v in changed.items() if v != defaults[k]}


def _ours(given: Mapping[str, Any], where: str) -> Recipe:
    _known(given, ("ranges", "rules"), where)
    ranges = _choice(given.get("ranges", "min_max"), tuple(OBSERVERS), "ranges", where)
    rules = given["rules"]
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise InputError(f"{where}: rules are {type(rules).__name__}, not a list")
    return Recipe(
        tuple(_our_rule(_record(r, f"{where}, rule {i}"), f"{where}, rule {i}") for i, r in enumerate(rules)), ranges
    )


def _our_rule(given: Mapping[str, Any], where: str) -> Rule:
    _known(given, ("scope", "operators", *(f.name for f in fields(Scheme))), where)
    operators = given.get("operators", [])
    if isinstance(operators, str) or not isinstance(operators, Sequence):
        raise InputError(f"{where}: operators are {operators!r}, not a list of names")
    scheme = Scheme(
        _type(given.get("values"), VALUES, "values", where),
        _type(given.get("weights"), WEIGHTS, "weights", where),
        bool(_choice(given.get("dynamic", False), (True, False), "dynamic", where)),
        int(_choice(given.get("block", 0), (0, *BLOCKS), "block", where)),
        bool(_choice(given.get("channels", True), (True, False), "channels", where)),
        _count(given.get("least", FLOAT.least), "least", where),
        bool(_choice(given.get("rounding", False), (True, False), "rounding", where)),
    )
    if scheme.rounding and not scheme.channels:
        raise InputError(f"{where}: 'rounding' goes with a scale for each channel", hint="leave out 'channels'")
    if scheme.values is not None and (scheme.dynamic or scheme.block):
        raise InputError(f"{where}: integer values go with neither 'dynamic' nor 'block'", hint="leave out 'values'")
    return Rule(scheme, _scope(given.get("scope", ""), where), frozenset(_operator(name, where) for name in operators))


# ai-edge-quantizer's

ROUNDED = "GPTQ"
INTEGERS = ("min_max_uniform_quantize", "MSE", "OCTAV", ROUNDED)  # min-max of 8 bits, least squared error of fewer
FOREIGN_NAMES = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV"}
ENDS = ("INPUT", "OUTPUT")


def _grouped(rules: list[Rule]) -> list[Rule]:
    """In the order in which they count there: by where their scope came first; one for all clears those before it."""
    of_scope: dict[str, list[Rule]] = {}
    for rule in rules:
        same = of_scope.setdefault(rule.scope, [])
        if not rule.operators:
            same.clear()
        same[:] = [*(r for r in same if r.operators != rule.operators), rule]
    return [rule for same in of_scope.values() for rule in same]


def _foreign(given: Mapping[str, Any], where: str) -> Rule:
    for key in ("regex", "operation", "algorithm_key"):
        if key not in given:
            raise InputError(f"{where} has no {key!r}", hint="a rule has regex, operation, algorithm_key and op_config")
    scope = _scope(given["regex"], where)
    name, algorithm = given["operation"], given["algorithm_key"]
    scheme = FLOAT if algorithm == "no_quantize" else _scheme(algorithm, given.get("op_config"), where)
    if name in ENDS and scheme != FLOAT:
        raise InputError(
            f"{where} is about the model's {name.lower()}s, of which a recipe says nothing here",
            hint=f"leave it out, and call lithe.quantize(..., {name.lower()}s='int8')",
        )
    operators = () if name == "*" else (name,) if name in ENDS else (_operator(FOREIGN_NAMES.get(name, name), where),)
    return Rule(scheme, "" if scope == ".*" else scope, frozenset(operators))


def _scheme(algorithm: Any, config: Any, where: str) -> Scheme:
    config = _record(config, f"{where}, op_config")
    weights = _record(config.get("weight_tensor_config"), f"{where}, weight_tensor_config")
    least = _count(config.get("min_weight_elements", 0), "min_weight_elements", where)
    bits = weights.get("num_bits")
    if algorithm == "float_casting":
        if bits != 16:
            raise InputError(f"{where}: float weights of {bits} bits", hint="there are float weights of 16 bits")
        return Scheme(weights=FLOAT16)
    if algorithm not in INTEGERS:
        raise InputError(
            f"{where}: there is no algorithm {algorithm!r} here",
            hint=f"algorithms are {', '.join(INTEGERS)}, float_casting and no_quantize",
        )
    kept = _type(f"int{bits}", WEIGHTS[:3], "weights", where)
    granularity = weights.get("granularity", "TENSORWISE")
    sizes = {"TENSORWISE": 0, "CHANNELWISE": 0, **{f"BLOCKWISE_{size}": size for size in BLOCKS}}
    block = sizes[str(_choice(granularity, tuple(sizes), "granularity", where))]
    if weights.get("block_size"):
        block = int(_choice(weights["block_size"], BLOCKS, "block_size", where))
    channels = granularity != "TENSORWISE" or block > 0
    rounding = algorithm == ROUNDED
    if rounding and not channels:
        raise InputError(f"{where}: {ROUNDED} with one scale", hint="its granularity is CHANNELWISE, or of blocks")
    values = config.get("activation_tensor_config")
    if values is None:
        computed = _choice(config.get("compute_precision", "FLOAT"), ("INTEGER", "FLOAT"), "compute_precision", where)
        return Scheme(None, kept, computed == "INTEGER", block, channels, least, rounding)
    values = _record(values, f"{where}, activation_tensor_config")
    sign = _choice(values.get("dtype", "INT"), ("INT",), "dtype of values", where)
    stored = _type(f"{str(sign).lower()}{values.get('num_bits')}", VALUES, "values", where)
    _choice(values.get("granularity", "TENSORWISE"), ("TENSORWISE",), "granularity of values", where)
    if block:
        raise InputError(f"{where}: weights in blocks beside integer values", hint="leave out activation_tensor_config")
    return Scheme(stored, kept, channels=channels, rounding=rounding)


# what both hold


def _record(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError(f"{where} is {type(given).__name__}, not a record of names and values")
    return given


def _known(given: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in keys:
            raise InputError(f"{where} has {key!r}", hint=_meant(str(key), keys) or f"it may have {', '.join(keys)}")


def _meant(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else ""


def _choice(given: Any, known: Sequence[Any], what: str, where: str) -> Any:
    if not any(given is k or (type(given) is type(k) and given == k) for k in known):
        raise InputError(f"{where}: {what} is {given!r}", hint=f"it is one of {', '.join(map(str, known))}")
    return given


def _type(given: Any, known: tuple[str, ...], what: str, where: str) -> DType | None:
    return None if given is None else DTYPES[_choice(given, known, f"the type of {what}", where)]


def _count(given: Any, what: str, where: str) -> int:
    if type(given) is not int or given < 0:
        raise InputError(f"{where}: {what} is {given!r}, not a number of elements")
    return given


def _scope(given: Any, where: str) -> str:
    try:
        re.compile(given)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise InputError(f"{where}: {given!r} is no regular expression: {error}") from None
    return str(given)


def _operator(name: Any, where: str) -> str:
    if name not in REGISTRY.by_name:
        raise InputError(f"{where}: there is no operator {name!r}", hint=_meant(str(name), list(REGISTRY.by_name)))
    return str(name)
