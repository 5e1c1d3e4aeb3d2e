"""The registry: every operator once, and none after the families are imported."""

from __future__ import annotations

import pytest

from lithe.ops import REGISTRY
from lithe.ops.op import Op, Registry, register


def operator(name: str, code: int | None = None) -> type[Op]:
    return type("Made", (Op,), {"name": name, "code": code})


def test_an_operator_is_registered_once_by_name_and_code() -> None:
    registry = Registry()
    first, custom = operator("FIRST", 7), operator("Custom")
    registry.add(first)
    registry.add(custom)
    registry.add(operator("Other custom"))
    assert registry.by_code == {7: first}
    assert registry.by_name["Custom"] is custom
    with pytest.raises(TypeError, match=r"FIRST \(code 8\) is registered twice"):
        registry.add(operator("FIRST", 8))
    with pytest.raises(TypeError, match=r"SECOND \(code 7\) is registered twice"):
        registry.add(operator("SECOND", 7))
    with pytest.raises(TypeError, match=r"Custom \(code None\) is registered twice"):
        registry.add(operator("Custom"))
    assert "SECOND" not in registry.by_name


def test_the_registry_is_sealed_after_import() -> None:
    assert REGISTRY.sealed
    with pytest.raises(TypeError, match=r"LATE: the registry is sealed; import the family in lithe/ops/__init__\.py"):
        register(operator("LATE"))
    assert "LATE" not in REGISTRY.by_name
