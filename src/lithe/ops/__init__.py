"""Operators by family. Every family is imported here, then the registry is sealed."""

from lithe.ops import activation as activation
from lithe.ops import batch_space as batch_space
from lithe.ops import binary as binary
from lithe.ops import bits as bits
from lithe.ops import buckets as buckets
from lithe.ops import cast as cast
from lithe.ops import comparison as comparison
from lithe.ops import concatenation as concatenation
from lithe.ops import convolution as convolution
from lithe.ops import densify as densify
from lithe.ops import depthwise as depthwise
from lithe.ops import detection as detection
from lithe.ops import diagonal as diagonal
from lithe.ops import direction as direction
from lithe.ops import elementwise as elementwise
from lithe.ops import fill as fill
from lithe.ops import fully_connected as fully_connected
from lithe.ops import gather as gather
from lithe.ops import landmarks as landmarks
from lithe.ops import matmul as matmul
from lithe.ops import pad as pad
from lithe.ops import pooling as pooling
from lithe.ops import pose as pose
from lithe.ops import quantize as quantize
from lithe.ops import recurrent as recurrent
from lithe.ops import reduction as reduction
from lithe.ops import resize as resize
from lithe.ops import shape as shape
from lithe.ops import slice as slice
from lithe.ops import softmax as softmax
from lithe.ops import sums as sums
from lithe.ops import suppression as suppression
from lithe.ops import transpose as transpose
from lithe.ops import transposed as transposed
from lithe.ops import update as update
from lithe.ops.op import REGISTRY as REGISTRY
from lithe.ops.op import NoAttrs as NoAttrs
from lithe.ops.op import Op as Op
from lithe.ops.op import RuleViolation as RuleViolation
from lithe.ops.op import Site as Site
from lithe.ops.op import unknown as unknown

REGISTRY.sealed = True
