"""Generated: the types of values for which no kernel of the official runtime answers, by operator.

Source: the rows of docs/operators.md that say "none"; `make grid` writes both.
"""

ROWS = """
DEPTH_TO_SPACE: int16
L2_POOL_2D: int8q int16q
RELU_N1_TO_1: int16q
SPACE_TO_DEPTH: int16
UNIDIRECTIONAL_SEQUENCE_LSTM: int16q
LOG_SOFTMAX: int16q
ARG_MAX: int16
LESS: int8
GREATER: int8
GREATER_EQUAL: int8
LESS_EQUAL: int8
SPARSE_TO_DENSE: int16
EQUAL: int8
NOT_EQUAL: int8 int16
ARG_MIN: int16
ONE_HOT: int16
ZEROS_LIKE: int8 int16
SQUARED_DIFFERENCE: int16q
ADD_N: int8q
WHERE: int16
ELU: int16q
REVERSE_SEQUENCE: int8
HARD_SWISH: int16q
SCATTER_ND: int16
DENSIFY: int8
CUMSUM: int8q
RELU_0_TO_1: int16q
STABLEHLO_DIVIDE: int8 int16
STABLEHLO_RESHAPE: int8 int16
STABLEHLO_CLAMP: int8 int16
STABLEHLO_CONCATENATE: int8 int16
STABLEHLO_BROADCAST_IN_DIM: int8 int16
STABLEHLO_CONVOLUTION: int8 int16
STABLEHLO_SLICE: int8 int16
STABLEHLO_ABS: int8 int16
STABLEHLO_NEGATE: int8 int16
STABLEHLO_OR: int8 int16
STABLEHLO_POWER: int8 int16
STABLEHLO_REMAINDER: int8 int16
STABLEHLO_SELECT: int8 int16
STABLEHLO_SUBTRACT: int8 int16
STABLEHLO_COMPARE: int8 int16
STABLEHLO_CONVERT: int8 int16
STABLEHLO_DYNAMIC_SLICE: int8 int16
STABLEHLO_DYNAMIC_UPDATE_SLICE: int8 int16
STABLEHLO_IOTA: int8 int16
STABLEHLO_DOT_GENERAL: int8 int16
STABLEHLO_TRANSPOSE: int8 int16
CIRCULAR_BUFFER: int8
SignalDelay: int16
SignalEnergy: int16
SignalFftAutoScale: int16
SignalFramer: int16
SignalIrfft: int16
SignalOverlapAdd: int16
SignalRfft: int16
SignalStacker: int16
SignalWindow: int16
TFLite_Detection_PostProcess: int8q
"""
UNANSWERED = {op: frozenset(types.split()) for op, types in (row.split(": ") for row in ROWS.strip().splitlines())}
