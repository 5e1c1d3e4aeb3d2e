"""The command `lithe`: one file a verb; `main` starts them, `output` is what they all print with.

Nothing here imports NumPy before a verb runs, so that `lithe --help` answers at once.
"""
