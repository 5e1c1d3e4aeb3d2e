"""TensorFlow: SavedModels, functions, frozen graphs."""
