"""Strings, tokens and ragged tensors."""
