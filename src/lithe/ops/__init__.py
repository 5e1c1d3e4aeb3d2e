"""Operators by family. A family is imported when one of its operators is asked for.

A model has operators of a few kinds, and importing the classes of all takes longer than compiling a small model.

FAMILIES  what each module registers. A class that is not listed there is refused, so the list cannot fall behind.
"""

from lithe.ops.op import REGISTRY as REGISTRY
from lithe.ops.op import NoAttrs as NoAttrs
from lithe.ops.op import Op as Op
from lithe.ops.op import RuleViolation as RuleViolation
from lithe.ops.op import Site as Site
from lithe.ops.op import unknown as unknown

FAMILIES = {
    "activation": "LOGISTIC TANH RELU RELU_N1_TO_1 RELU6 RELU_0_TO_1 LEAKY_RELU ELU HARD_SWISH GELU PRELU",
    "batch_space": "SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND DEPTH_TO_SPACE SPACE_TO_DEPTH",
    "binary": "ADD SUB MUL DIV MAXIMUM MINIMUM SQUARED_DIFFERENCE FLOOR_DIV FLOOR_MOD POW",
    "bits": "BITWISE_XOR RIGHT_SHIFT BITCAST",
    "buckets": "BUCKETIZE",
    "cast": "CAST",
    "comparison": (
        "EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL LOGICAL_OR LOGICAL_AND LOGICAL_NOT SELECT SELECT_V2"
    ),
    "concatenation": "CONCATENATION PACK UNPACK SPLIT SPLIT_V",
    "control": "IF STABLEHLO_CASE WHILE STABLEHLO_WHILE CALL_ONCE STABLEHLO_COMPOSITE",
    "convolution": "CONV_2D",
    "densify": "DENSIFY",
    "depthwise": "DEPTHWISE_CONV_2D",
    "detection": "TFLite_Detection_PostProcess",
    "diagonal": "MATRIX_DIAG MATRIX_SET_DIAG",
    "direction": "SIGN ATAN2",
    "elementwise": "EXP LOG SQRT RSQRT SQUARE NEG ABS FLOOR CEIL ROUND SIN COS",
    "embedding": "EMBEDDING_LOOKUP_SPARSE",
    "fill": "FILL ZEROS_LIKE RANGE ONE_HOT",
    "flex.lists": (
        "FlexTensorListReserve FlexEmptyTensorList FlexTensorListFromTensor FlexTensorListSetItem "
        "FlexTensorListGetItem FlexTensorListStack FlexTensorListLength FlexTensorListPushBack FlexTensorListPopBack"
    ),
    "flex.text": (
        "FlexUnicodeDecodeWithOffsets FlexUnicodeEncode FlexWhitespaceTokenizeWithOffsets FlexRaggedRange "
        "FlexStringToHashBucketFast"
    ),
    "found": "WHERE UNIQUE",
    "fully_connected": "FULLY_CONNECTED",
    "gather": "GATHER GATHER_ND SCATTER_ND EMBEDDING_LOOKUP",
    "gradient": "BroadcastGradientArgs",
    "hadamard": "aeq.hadamard_rotation",
    "hash_tables": "HASHTABLE HASHTABLE_IMPORT HASHTABLE_FIND HASHTABLE_SIZE HASHTABLE_LOOKUP",
    "hashing": "LSH_PROJECTION",
    "interior": "STABLEHLO_PAD DILATE",
    "landmarks": "Landmarks2TransformMatrix TransformLandmarks TransformTensorBilinear",
    "matmul": "BATCH_MATMUL",
    "numeric_verify": "NumericVerify",
    "pad": "PAD PADV2 MIRROR_PAD",
    "pooling": "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D",
    "pose": "PosenetDecoderOp",
    "quantize": "QUANTIZE DEQUANTIZE FAKE_QUANT",
    "random": "RANDOM_UNIFORM RANDOM_STANDARD_NORMAL MULTINOMIAL",
    "recurrent.basic": "RNN UNIDIRECTIONAL_SEQUENCE_RNN",
    "recurrent.bidirectional": "BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN",
    "recurrent.gru": "UNIDIRECTIONAL_SEQUENCE_GRU",
    "recurrent.sequence_lstm": "UNIDIRECTIONAL_SEQUENCE_LSTM LSTM",
    "recurrent.svdf": "SVDF",
    "reduce_window": "STABLEHLO_REDUCE_WINDOW STABLEHLO_REDUCE REDUCE_WINDOW",
    "reduction": "SUM MEAN REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL ARG_MAX ARG_MIN",
    "resize": "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR",
    "resources": "VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE",
    "response": "LOCAL_RESPONSE_NORMALIZATION",
    "segments": "SEGMENT_SUM UNSORTED_SEGMENT_SUM UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN",
    "shape": "RESHAPE SQUEEZE EXPAND_DIMS SHAPE RANK BROADCAST_ARGS BROADCAST_TO TILE",
    "signal.audio": "AudioSpectrogram Mfcc",
    "signal.filter_bank": (
        "SignalFilterBank SignalFilterBankSquareRoot SignalFilterBankSpectralSubtraction SignalPCAN SignalFilterBankLog"
    ),
    "signal.framing": "SignalDelay SignalFramer SignalOverlapAdd SignalStacker CIRCULAR_BUFFER",
    "signal.signal_transforms": "SignalRfft SignalIrfft SignalWindow SignalFftAutoScale SignalEnergy",
    "signal.spectrum": "REAL IMAG COMPLEX_ABS RFFT2D",
    "slice": "SLICE STRIDED_SLICE",
    "softmax": "SOFTMAX LOG_SOFTMAX L2_NORMALIZATION",
    "stablehlo.contraction": "STABLEHLO_DOT_GENERAL STABLEHLO_CONVOLUTION",
    "stablehlo.elementwise": (
        "STABLEHLO_LOGISTIC STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_LOG STABLEHLO_RSQRT STABLEHLO_TANH "
        "STABLEHLO_CBRT STABLEHLO_ABS STABLEHLO_FLOOR STABLEHLO_NEGATE STABLEHLO_ADD STABLEHLO_SUBTRACT "
        "STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_AND STABLEHLO_OR STABLEHLO_DIVIDE "
        "STABLEHLO_REMAINDER STABLEHLO_POWER STABLEHLO_SHIFT_LEFT STABLEHLO_SELECT STABLEHLO_CLAMP STABLEHLO_COMPARE "
        "STABLEHLO_CONVERT"
    ),
    "stablehlo.movement": (
        "STABLEHLO_RESHAPE STABLEHLO_TRANSPOSE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONCATENATE STABLEHLO_SLICE "
        "STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_IOTA STABLEHLO_CUSTOM_CALL"
    ),
    "stablehlo.places": "STABLEHLO_GATHER STABLEHLO_SCATTER",
    "stablehlo.random_bits": "STABLEHLO_RNG_BIT_GENERATOR",
    "stablehlo.sort": "STABLEHLO_SORT",
    "sums": "ADD_N CUMSUM",
    "suppression": "NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5",
    "text.ragged": "RaggedTensorToTensor",
    "text.sentencepiece": (
        "TFSentencepieceTokenizeOp TFText>FastSentencepieceTokenize TFSentencepieceDetokenizeOp "
        "TFText>FastSentencepieceDetokenize"
    ),
    "text.smart_reply": "Normalize ExtractFeatures Predict",
    "text.tensorflow_text": (
        "TFText>WhitespaceTokenizeWithOffsetsV2 TFText>ByteSplitWithOffsets TFText>NgramsStringJoin"
    ),
    "text.tokens": "SKIP_GRAM tftext:WhitespaceTokenizer tftext:Ngrams",
    "top": "TOPK_V2",
    "transpose": "TRANSPOSE REVERSE_V2",
    "transposed": "TRANSPOSE_CONV Convolution2DTransposeBias",
    "unpooling": "MaxPoolingWithArgmax2D MaxPoolWithArgmax MaxUnpooling2D LiteRtMaxUnpooling2D",
    "update": "REVERSE_SEQUENCE DYNAMIC_UPDATE_SLICE SPARSE_TO_DENSE",
    "volume": "CONV_3D CONV_3D_TRANSPOSE",
    "warping": "Resampler DenseImageWarp",
}

REGISTRY.seal({name: f"{__name__}.{family}" for family, names in FAMILIES.items() for name in names.split()})

from lithe.ops.flex import operators as operators  # noqa: E402  what makes classes of a whole family of names
