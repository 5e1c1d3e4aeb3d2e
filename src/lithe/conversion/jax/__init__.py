"""JAX: a function is traced to a jaxpr, whose equations are written in builtins. The door is `lithe.convert`."""
