"""Keras 3 on JAX: a model is traced, its recurrent layers and some operations apart. The door is `lithe.convert`."""
