"""Graphs to loops."""

from lithe.lower.lower import lower as lower
