"""Drop-ins under the names that users of `tf.lite` and `ai_edge_litert` know.

>>> from lithe.lite import Interpreter            # was: from ai_edge_litert.interpreter import Interpreter
"""

from lithe.runtime.delegate import Delegate as Delegate
from lithe.runtime.delegate import OpResolverType as OpResolverType
from lithe.runtime.delegate import load_delegate as load_delegate
from lithe.runtime.interpreter import CustomOps as CustomOps
from lithe.runtime.interpreter import Interpreter as Interpreter
from lithe.runtime.interpreter import InterpreterWithCustomOps as InterpreterWithCustomOps
from lithe.runtime.signature import SignatureRunner as SignatureRunner
