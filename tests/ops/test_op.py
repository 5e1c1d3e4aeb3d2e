"""The registry: every operator once, and none after the families are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lithe.ops import FAMILIES, REGISTRY
from lithe.ops.op import Op, Registry, register


def operator(name: str, code: int | None = None) -> type[Op]:
    return type("Made", (Op,), {"name": name, "code": code})


def test_an_operator_is_registered_once_by_name_and_code() -> None:
    registry = Registry()
    first, custom = operator("FIRST", 7), operator("Custom")
    registry.add(first)
    registry.add(custom)
    other = operator("Other custom")
    registry.add(other)
    assert registry.by_name == {"FIRST": first, "Custom": custom, "Other custom": other}
    assert registry.builtin("FIRST") is registry.by_name["FIRST"] is first
    assert registry.custom("Custom") is custom
    assert (registry.builtin("Custom"), registry.custom("FIRST"), registry.builtin("SECOND")) == (None, None, None)
    with pytest.raises(TypeError, match=r"FIRST \(code 8\) is registered twice"):
        registry.add(operator("FIRST", 8))
    with pytest.raises(TypeError, match=r"SECOND \(code 7\) is registered twice"):
        registry.add(operator("SECOND", 7))
    with pytest.raises(TypeError, match=r"Custom \(code None\) is registered twice"):
        registry.add(operator("Custom"))
    assert "SECOND" not in registry.by_name


def test_the_registry_takes_what_is_listed_alone() -> None:
    with pytest.raises(TypeError, match=r"LATE: the registry is sealed; list it with its family in lithe/ops/__init__"):
        register(operator("LATE"))
    assert "LATE" not in REGISTRY.by_name


def test_every_operator_comes_with_the_family_that_lists_it() -> None:
    listed = [name for names in FAMILIES.values() for name in names.split()]
    assert len(set(listed)) == len(listed) == len(REGISTRY.by_name)
    assert [name for name in listed if REGISTRY.by_name[name].name != name] == []


def test_the_first_operator_of_a_family_brings_it() -> None:
    program = (
        "import sys, lithe.ops as ops\n"
        "family = 'lithe.ops.softmax'\n"
        "assert family not in sys.modules\n"
        "assert 'SOFTMAX' in ops.REGISTRY.by_name and family not in sys.modules\n"
        "assert ops.REGISTRY.by_name['SOFTMAX'].__module__ == family\n"
        "assert family in sys.modules and 'lithe.ops.detection' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
