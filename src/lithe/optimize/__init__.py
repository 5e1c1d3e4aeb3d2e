"""Smaller models with nearly the same numbers.

weights   constants in fewer bits, where operators take them so: no samples are needed
"""
