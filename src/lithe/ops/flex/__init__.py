"""TensorFlow's own operators, as a file may hold them ("Flex")."""

from lithe.ops.flex import lists as lists
from lithe.ops.flex import operators as operators
from lithe.ops.flex import text as text
