"""The `.tflite` format: bytes <-> Module."""

from lithe.formats.tflite.read import open_model as open_model
from lithe.formats.tflite.read import read as read
