"""TensorFlow's own operators, as a file may hold them ("Flex")."""
