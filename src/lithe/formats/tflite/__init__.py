"""The `.tflite` format: bytes <-> Module."""

from lithe.formats.tflite.read import open_model as open_model
from lithe.formats.tflite.read import read as read
from lithe.formats.tflite.write import save as save
from lithe.formats.tflite.write import write as write
