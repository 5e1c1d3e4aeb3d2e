"""The cheapest recipe that keeps a model's accuracy.

choices      which operators are decided on, among which schemes; a decision as a recipe
evaluation   how good a model is: on labelled data, or by a function; how far its outputs are from the float model's
trials       what was tried, and what came out
state        a file of that, from which an interrupted search goes on
order        the order in which layers give up precision
outcome      what was found
door         `search`
"""

from lithe.optimize.search.door import search
from lithe.optimize.search.outcome import Outcome
from lithe.optimize.search.trials import Trial

__all__ = ["Outcome", "Trial", "search"]
