"""From ONNX: files and models. `onnx` itself is imported when a model is converted."""
