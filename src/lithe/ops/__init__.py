"""Operators by family. Every family is imported here, then the registry is sealed."""

from lithe.ops import activation as activation
from lithe.ops.op import REGISTRY as REGISTRY
from lithe.ops.op import NoAttrs as NoAttrs
from lithe.ops.op import Op as Op
from lithe.ops.op import RuleViolation as RuleViolation
from lithe.ops.op import Site as Site
from lithe.ops.op import unknown as unknown

REGISTRY.sealed = True
