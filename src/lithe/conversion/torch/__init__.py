"""From PyTorch: modules and exported programs. `torch` itself is imported when a model is converted."""
