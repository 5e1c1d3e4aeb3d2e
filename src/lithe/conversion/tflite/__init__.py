"""`.tflite` as a source: the same model, cleaned up.

model  graphs of a file as graphs of a conversion, and what may be done with each
sizes  open dimensions of a file as stand-ins
"""
