"""Loops and branches of JAX."""
