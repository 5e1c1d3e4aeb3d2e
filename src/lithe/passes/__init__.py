"""Graph to better graph with the same numbers: a family of rules a file, and the pipeline."""

from lithe.passes.bind_variables import Bound as Bound
from lithe.passes.bind_variables import Variable as Variable
from lithe.passes.bind_variables import bind_variables as bind_variables
from lithe.passes.infer_shapes import is_dynamic as is_dynamic
from lithe.passes.prepare import prepare as prepare
from lithe.passes.prepare import resize_inputs as resize_inputs
from lithe.passes.rewrite import rewrite as rewrite
