"""The functions that torch, numpy and pickle write into checkpoints, re-made as descriptions.

Each takes the arguments in the file and gives a node. The signatures are those of
``torch._utils``, ``torch._tensor``, ``torch.nn.parameter``, ``numpy._core.multiarray`` and the
reductions of the standard containers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from edgeface.errors import CheckpointFormatError
from edgeface_export.checkpoints.dtypes import DTYPES, STORAGE_DTYPES, UNTYPED
from edgeface_export.checkpoints.nodes import (
    DictNode,
    EncodedBytes,
    GlobalName,
    NumpyArray,
    NumpyDtype,
    Quantiser,
    Record,
    StorageRef,
    TensorView,
    UnsupportedTensor,
)
from edgeface_export.checkpoints.text import clip

__all__ = ["is_known", "rebuild", "set_numpy_state", "storage_dtype", "whole_number"]

Arguments = tuple[object, ...]
_MAX_DIMENSIONS = 32  # of numpy 1; torch allows 64
_NUMERIC_CODE = re.compile(r"[iu][1248]|f[248]|b1")
_TORCH_TENSOR_CLASSES = frozenset(
    name.replace("Storage", "Tensor") for name in STORAGE_DTYPES if name[0] != "_"
)


def rebuild(target: GlobalName, arguments: Arguments) -> object:
    """The node for calling ``target``: an inert record unless it is a known function.

    Raises:
        CheckpointFormatError: A known function was given arguments that it never has.
    """
    function = _function(target)
    if function is None:
        return Record(target, arguments)
    try:
        return function(arguments)
    except (IndexError, TypeError, ValueError) as error:
        raise CheckpointFormatError(
            f"damaged: {target} was given arguments that do not fit"
        ) from error


def is_known(target: GlobalName) -> bool:
    """Whether the name is part of the data model of torch, numpy or Python; no foreign class."""
    if _function(target) is not None or storage_dtype(target) is not None:
        return True
    if target.module == "torch":
        return target.name in DTYPES or target.name.endswith("_affine_float_qparams")
    return (target.module, target.name) in {("numpy", "ndarray"), ("_codecs", "encode")}


def storage_dtype(target: object) -> str | None:
    """Element type of a torch storage class, or None when ``target`` is something else."""
    if not isinstance(target, GlobalName) or target.module not in _STORAGE_MODULES:
        return None
    return STORAGE_DTYPES.get(target.name)


def whole_number(value: object) -> int:
    """``value`` as it is; TypeError unless it is an integer of at most 63 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or value.bit_length() > 63:
        raise TypeError
    return value


def _number(value: object) -> float:
    return value if isinstance(value, float) else float(whole_number(value))


def set_numpy_state(node: NumpyDtype | NumpyArray, state: object) -> None:
    """Apply what follows ``numpy.dtype(…)`` or ``_reconstruct(…)`` in a pickle."""
    if not isinstance(state, tuple):
        raise CheckpointFormatError("damaged: the state of a numpy value is not a tuple")
    if isinstance(node, NumpyDtype):
        if len(state) > 1 and state[1] in ("<", ">", "|", "="):
            node.order = str(state[1])
    elif len(state) == 5:
        _, shape, dtype, fortran_order, content = state
        if isinstance(dtype, NumpyDtype) and _NUMERIC_CODE.fullmatch(dtype.code):
            _fill(node, dtype, shape, content)
            node.fortran_order = bool(fortran_order is True or fortran_order == 1)


def _fill(node: NumpyArray, dtype: NumpyDtype, shape: object, content: object) -> None:
    try:
        node.shape = _dimensions(shape)
        node.content = _raw(content)
    except (TypeError, ValueError) as error:
        raise CheckpointFormatError("damaged: a numpy array has an unusable state") from error
    node.dtype = dtype


def _dimensions(value: object) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > _MAX_DIMENSIONS:
        raise TypeError
    return tuple(whole_number(part) for part in value)


def _raw(content: object) -> bytes | bytearray | str:
    # Python 2 wrote bytes as text, which the opcode reader decodes as latin-1.
    if isinstance(content, EncodedBytes):
        return content.text
    if not isinstance(content, (bytes, bytearray, str)):
        raise TypeError
    return content


def _tensor(arguments: Arguments) -> object:
    storage = arguments[0]
    if isinstance(storage, Record):
        return UnsupportedTensor(f"tensor whose storage comes from {clip(storage.of)}")
    if not isinstance(storage, StorageRef):
        raise TypeError
    offset = whole_number(arguments[1])
    size, stride = _dimensions(arguments[2]), _dimensions(arguments[3])
    return TensorView(storage, offset, size, stride, storage.dtype)


def _typed_tensor(arguments: Arguments) -> object:
    view, dtype = _tensor(arguments), arguments[6]
    if not isinstance(view, TensorView):
        return view
    if not isinstance(dtype, GlobalName) or view.storage.dtype != UNTYPED:
        raise TypeError
    return TensorView(view.storage, view.offset, view.size, view.stride, dtype.name)


def _quantised_tensor(arguments: Arguments) -> object:
    view, parameters = _tensor(arguments), arguments[4]
    if not isinstance(view, TensorView):
        return view
    if not isinstance(parameters, tuple) or not isinstance(parameters[0], GlobalName):
        raise TypeError
    scheme = parameters[0].name
    if scheme == "per_tensor_affine":
        quantiser = Quantiser(_number(parameters[1]), whole_number(parameters[2]))
    elif scheme in {"per_channel_affine", "per_channel_affine_float_qparams"}:
        quantiser = Quantiser(parameters[1], parameters[2], whole_number(parameters[3]))
    else:
        return UnsupportedTensor(f"quantised tensor of the scheme {clip(scheme)}")
    return TensorView(view.storage, view.offset, view.size, view.stride, view.dtype, quantiser)


def _same(arguments: Arguments) -> object:
    return arguments[0]


def _wrapped_tensor(arguments: Arguments) -> object:
    """Old constructors: ``torch.FloatTensor(storage, …)``, ``Variable(tensor)``."""
    if arguments and isinstance(arguments[0], StorageRef):
        return _tensor(arguments)
    if arguments and isinstance(arguments[0], (TensorView, UnsupportedTensor)):
        return arguments[0]
    return UnsupportedTensor("tensor in a layout of torch before 0.4")


def _from_type(arguments: Arguments) -> object:
    """``_rebuild_from_type_v2(function, type, arguments, state)`` of tensor subclasses."""
    function, inner = arguments[0], arguments[2]
    if not isinstance(function, GlobalName) or not isinstance(inner, tuple):
        raise TypeError
    rebuilder = _TENSOR_FUNCTIONS.get(function.name)
    if rebuilder is None or rebuilder is _from_type:
        return UnsupportedTensor(f"tensor made by {clip(function)}")
    return rebuilder(inner)


def _unsupported(kind: str) -> Callable[[Arguments], object]:
    return lambda _: UnsupportedTensor(kind)


def _numpy_dtype(arguments: Arguments) -> object:
    code = arguments[0]
    return NumpyDtype(code if isinstance(code, str) else "")


def _numpy_scalar(arguments: Arguments) -> object:
    dtype = arguments[0]
    if not isinstance(dtype, NumpyDtype):
        raise TypeError
    if not _NUMERIC_CODE.fullmatch(dtype.code):
        return Record(GlobalName("numpy", "scalar"))
    numpy_dtype = np.dtype(dtype.order + dtype.code)
    content = _raw(arguments[1])
    if len(content) != numpy_dtype.itemsize:
        raise ValueError
    if isinstance(content, str):
        content = content.encode("latin-1")
    return np.frombuffer(content, numpy_dtype)[0].item()


def _numpy_array(_: Arguments) -> object:
    return NumpyArray()


def _numpy_from_buffer(arguments: Arguments) -> object:
    content, dtype, shape, order = arguments[:4]
    node = NumpyArray()
    if isinstance(dtype, NumpyDtype) and _NUMERIC_CODE.fullmatch(dtype.code):
        _fill(node, dtype, shape, content)
        node.fortran_order = order == "F"
    return node


def _dictionary(arguments: Arguments) -> object:
    """``OrderedDict()``, or of pairs as Python 2 wrote it; ``defaultdict(factory)``."""
    pairs = arguments[-1] if arguments else ()
    if isinstance(pairs, DictNode):
        return DictNode(pairs.entries())
    if not isinstance(pairs, list):
        return DictNode()
    return DictNode(_pair(pair) for pair in pairs)


def _pair(pair: object) -> tuple[object, object]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise TypeError
    return pair[0], pair[1]


def _sequence(arguments: Arguments) -> object:
    items = arguments[0] if arguments else []
    return list(items) if isinstance(items, list) else []


def _size(arguments: Arguments) -> object:
    return _dimensions(arguments[0] if arguments else ())


def _device(arguments: Arguments) -> object:
    if not all(isinstance(part, (str, int)) for part in arguments[:2]):
        raise TypeError
    return ":".join(str(part)[:20] for part in arguments[:2])


def _encoded(arguments: Arguments) -> object:
    """``_codecs.encode(text, "latin1")``: how protocol 2 stores bytes."""
    if not isinstance(arguments[0], str):
        raise TypeError
    if len(arguments) != 2 or arguments[1] not in ("latin1", "latin-1"):
        return Record(GlobalName("_codecs", "encode"))
    return EncodedBytes(arguments[0])


def _old_style(arguments: Arguments) -> object:
    """``copyreg._reconstructor(class, object, None)``."""
    if not isinstance(arguments[0], GlobalName):
        raise TypeError
    return Record(arguments[0])


_STORAGE_MODULES = frozenset({"torch", "torch.cuda", "torch.storage"})
_Rebuilder = Callable[[Arguments], object]
_TENSOR_FUNCTIONS: dict[str, _Rebuilder] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _typed_tensor,
    "_rebuild_qtensor": _quantised_tensor,
    "_rebuild_parameter": _same,
    "_rebuild_parameter_with_state": _same,
    "_rebuild_from_type": _from_type,
    "_rebuild_from_type_v2": _from_type,
    "_rebuild_device_tensor_from_numpy": _same,
    "_rebuild_device_tensor_from_cpu_tensor": _same,
    "_rebuild_xla_tensor": _same,
    "_rebuild_sparse_tensor": _unsupported("sparse tensor"),
    "_rebuild_sparse_csr_tensor": _unsupported("sparse tensor"),
    "_rebuild_nested_tensor": _unsupported("nested tensor"),
    "_rebuild_meta_tensor_no_storage": _unsupported("meta tensor, which has no values"),
    "_rebuild_wrapper_subclass": _unsupported("wrapper without values"),
}
_TENSOR_MODULES = frozenset({"torch._utils", "torch._tensor", "torch.tensor"})
_NUMPY_FUNCTIONS: dict[str, _Rebuilder] = {
    "dtype": _numpy_dtype,
    "multiarray._reconstruct": _numpy_array,
    "multiarray.scalar": _numpy_scalar,
    "numeric._frombuffer": _numpy_from_buffer,
}
_OTHER_FUNCTIONS: dict[str, _Rebuilder] = {
    "torch.Size": _size,
    "torch.device": _device,
    "torch.Tensor": _wrapped_tensor,
    "torch.nn.parameter.Parameter": _wrapped_tensor,
    "torch.autograd.variable.Variable": _wrapped_tensor,
    "torch.per_tensor_affine": _unsupported("misplaced scheme"),
    "torch.per_channel_affine": _unsupported("misplaced scheme"),
    "torch.jit._pickle.build_intlist": _same,
    "torch.jit._pickle.build_doublelist": _same,
    "torch.jit._pickle.build_boollist": _same,
    "torch.jit._pickle.build_tensorlist": _same,
    "torch.jit._pickle.restore_type_tag": _same,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _dictionary,
    "collections.deque": _sequence,
    "builtins.dict": _dictionary,
    "builtins.list": _sequence,
    "builtins.set": _sequence,
    "builtins.frozenset": _sequence,
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": _old_style,
}
_RENAMED_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def _function(target: GlobalName) -> _Rebuilder | None:
    module, name = target.module, target.name
    if module in _TENSOR_MODULES:
        return _TENSOR_FUNCTIONS.get(name)
    if module in {"torch", "torch.cuda"} and name in _TORCH_TENSOR_CLASSES:
        return _wrapped_tensor
    for package in ("numpy.core.", "numpy._core.", "numpy."):
        if module + "." == package or module.startswith(package):
            return _NUMPY_FUNCTIONS.get(f"{module}.{name}".removeprefix(package))
    return _OTHER_FUNCTIONS.get(f"{_RENAMED_MODULES.get(module, module)}.{name}")
