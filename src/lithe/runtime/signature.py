"""A signature of a model as a callable: named arrays in, named arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lithe.errors import InputError
from lithe.runtime.values import as_given

if TYPE_CHECKING:
    from lithe.runtime.interpreter import Interpreter


class SignatureRunner:
    """Runs one signature; made by `Interpreter.get_signature_runner`.

    Calling it resizes the inputs to the shapes given, allocates, sets, runs, and returns {name: copy}.
    """

    def __init__(self, interpreter: Interpreter | None = None, signature_key: str | None = None) -> None:
        if not interpreter:
            raise InputError("None interpreter provided.")
        if not signature_key:
            raise InputError("None signature_key provided.")
        signature = interpreter._signatures.get(signature_key)
        if signature is None:
            raise InputError(
                f'Invalid signature_key provided: "{signature_key}".',
                hint=f"the model has {', '.join(interpreter._signatures) or 'no signatures'}",
            )
        self._interpreter = interpreter
        self._signature_key = signature_key
        self._subgraph_index = signature.graph
        self._inputs = {name: t.index for name, t in signature.inputs.items()}
        self._outputs = {name: t.index for name, t in signature.outputs.items()}

    def __call__(self, /, **inputs: Any) -> dict[str, np.ndarray]:
        if len(inputs) != len(self._inputs):
            raise InputError(
                "Invalid number of inputs provided for running a SignatureDef, "
                f"expected {len(self._inputs)} vs provided {len(inputs)}",
                hint=f"the inputs are {', '.join(self._inputs)}",
            )
        for name in inputs:
            if name not in self._inputs:
                raise InputError(
                    f"Invalid Input name ({name}) for SignatureDef", hint=f"the inputs are {', '.join(self._inputs)}"
                )
        arrays = {self._inputs[name]: as_given(value) for name, value in inputs.items()}
        session = self._interpreter._session(self._subgraph_index)
        for index, array in arrays.items():
            session.resize(index, array.shape)
        session.allocate()
        for index, array in arrays.items():
            self._interpreter._set(index, array, self._subgraph_index)
        session.invoke()
        return {
            name: self._interpreter.get_tensor(index, self._subgraph_index) for name, index in self._outputs.items()
        }

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """{name: details}; see `Interpreter.get_input_details`."""
        return self._details(self._inputs)

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """{name: details}; see `Interpreter.get_input_details`."""
        return self._details(self._outputs)

    def _details(self, indices: dict[str, int]) -> dict[str, dict[str, Any]]:
        interpreter = self._interpreter
        return {name: interpreter._get_tensor_details(i, self._subgraph_index) for name, i in indices.items()}
