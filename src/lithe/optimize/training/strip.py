"""`lithe.optimize.strip`, and with it every class that a `.keras` file of a model in training may name.

Keras reads a file once it knows the classes in it: `from lithe.optimize import strip` is enough for that.
"""

from __future__ import annotations

from lithe.optimize.training.clustering import Clustered as Clustered
from lithe.optimize.training.pruning import Pruned as Pruned
from lithe.optimize.training.substitution import strip as strip
