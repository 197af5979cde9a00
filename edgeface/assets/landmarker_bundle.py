"""A face landmarker put together from the model files of an older MediaPipe wheel.

Google's bundle ``face_landmarker.task`` is not on any package index. The wheel carries the mesh
model of the generation before, which the landmarker of MediaPipe 1.x cannot use as it is: it
wants the 478 landmarks in one tensor, and the older network gives six (the mesh, and refined
lips, eyes and irises). Two operators joined to the end of the network put them together, exactly
as MediaPipe's own refinement step did. Weights stay untouched.

The file of the network is not rewritten but given a new head: the old bytes follow, unchanged, so
that the result depends on nothing but its input and can be pinned by SHA-256.

The bundle has no face geometry, so the landmarker gives no facial transformation matrices with
it; :mod:`edgeface.detection.head_pose` needs none.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

from edgeface.assets.flatbuffer import Ints, Octets, Refs, Table, View, with_new_head

__all__ = ["build_landmarker_bundle", "join_landmark_outputs"]

_DETECTOR = "face_detection_short_range.tflite"
_MESH = "face_landmark_with_attention.tflite"

# The mesh landmark that each of the 80 refined lip points replaces: MediaPipe,
# modules/face_landmark/tensors_to_face_landmarks_with_attention.pbtxt (Apache-2.0).
# fmt: off
_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
    76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408,
    62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407,
)
# fmt: on
_MESH_VALUES = 468 * 3
_LIPS_AT = _MESH_VALUES
_IRISES_AT = _LIPS_AT + len(_LIPS) * 2
_IRIS_POINTS = 5
_JOINED_VALUES = _IRISES_AT + 2 * _IRIS_POINTS * 2
# An iris has no depth of its own; it takes that of the outer corner of its eye.
_OUTER_CORNERS = (33, 263)


def _choice() -> tuple[int, ...]:
    """Return, for x, y, z of each landmark, which of the joined values it is."""
    chosen = list(range(_MESH_VALUES))
    for k, landmark in enumerate(_LIPS):
        chosen[3 * landmark : 3 * landmark + 2] = (_LIPS_AT + 2 * k, _LIPS_AT + 2 * k + 1)
    for iris, corner in enumerate(_OUTER_CORNERS):
        for point in range(_IRIS_POINTS):
            x = _IRISES_AT + 2 * (iris * _IRIS_POINTS + point)
            chosen += [x, x + 1, 3 * corner + 2]
    return tuple(chosen)


_CHOICE = _choice()

# The outputs of the attention mesh: mesh, lips, left eye, right eye, left iris, right iris, flag.
_JOINED_OUTPUTS = (0, 1, 4, 5)
_OUT_FACE_FLAG = 6

# Numbers of the TensorFlow Lite schema, version 3: kinds, and fields of the model and its graph.
_INT32, _CONCATENATION, _GATHER = 2, 2, 36
_CONCATENATION_OPTIONS, _GATHER_OPTIONS = 10, 23
_MODEL_VERSION, _MODEL_OPERATOR_CODES, _MODEL_GRAPHS, _MODEL_DESCRIPTION = 0, 1, 2, 3
_MODEL_BUFFERS, _MODEL_METADATA_BUFFERS, _MODEL_METADATA = 4, 5, 6
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_OPERATORS, _GRAPH_NAME = 0, 1, 2, 3, 4
_CHANNEL_AXIS = 3


def build_landmarker_bundle(members: Mapping[str, bytes]) -> bytes:
    """Return the bytes of ``face_landmarker_legacy.task`` made from the wheel's files by name."""
    parts = {
        "face_detector.tflite": members[_DETECTOR],
        "face_landmarks_detector.tflite": join_landmark_outputs(members[_MESH]),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as bundle:
        for name, content in parts.items():
            bundle.writestr(_entry(name, at=packed.tell()), content)
    return packed.getvalue()


def _entry(name: str, *, at: int) -> zipfile.ZipInfo:
    """Return a zip entry without date or platform whose content starts at a multiple of 16."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    # Extra field 0xD935 is the one that zipalign uses; TensorFlow Lite copies unaligned tensors.
    padding = -(at + 30 + len(name) + 4) % 16
    entry.extra = b"\x35\xd9" + padding.to_bytes(2, "little") + bytes(padding)
    return entry


def join_landmark_outputs(model: bytes) -> bytes:
    """Return the attention mesh ``model`` with two outputs: 478 landmarks, and the face flag."""
    view = View(model)
    root = view.target(0)
    graph = view.refs(root, _MODEL_GRAPHS)[0].at
    codes, buffers = view.refs(root, _MODEL_OPERATOR_CODES), view.refs(root, _MODEL_BUFFERS)
    new_graph = _joined_graph(view, graph, code=len(codes), buffer=len(buffers))
    index = Table({0: Octets(struct.pack(f"<{len(_CHOICE)}i", *_CHOICE))})
    new_root = Table(
        {
            **view.copied(root, (_MODEL_DESCRIPTION, _MODEL_METADATA_BUFFERS, _MODEL_METADATA)),
            _MODEL_VERSION: 3,
            _MODEL_OPERATOR_CODES: Refs((*codes, _code(_CONCATENATION), _code(_GATHER))),
            _MODEL_GRAPHS: Refs((new_graph,)),
            _MODEL_BUFFERS: Refs((*buffers, index)),
        }
    )
    return with_new_head(model, new_root, b"TFL3")


def _joined_graph(view: View, graph: int, *, code: int, buffer: int) -> Table:
    """Return the graph with both operators at its end.

    ``code`` is the number of the first of their two operator codes, ``buffer`` that of the buffer
    with the choice of values.
    """
    outputs, tensors = view.ints(graph, _GRAPH_OUTPUTS), view.refs(graph, _GRAPH_TENSORS)
    joined, chosen, landmarks = (len(tensors) + k for k in range(3))
    new_tensors = (
        _tensor(b"joined_parts", (1, 1, 1, _JOINED_VALUES), {}),
        _tensor(b"chosen_values", (len(_CHOICE),), {1: _INT32, 2: buffer}),
        _tensor(b"landmarks", (1, 1, 1, len(_CHOICE)), {}),
    )
    parts = tuple(outputs[k] for k in _JOINED_OUTPUTS)
    axis = Table({0: _CHANNEL_AXIS})
    join = _operator(code, parts, joined, (_CONCATENATION_OPTIONS, axis))
    gather = _operator(code + 1, (joined, chosen), landmarks, (_GATHER_OPTIONS, axis))
    return Table(
        {
            **view.copied(graph, (_GRAPH_INPUTS, _GRAPH_NAME)),
            _GRAPH_TENSORS: Refs(tensors + new_tensors),
            _GRAPH_OUTPUTS: Ints((landmarks, outputs[_OUT_FACE_FLAG])),
            _GRAPH_OPERATORS: Refs((*view.refs(graph, _GRAPH_OPERATORS), join, gather)),
        }
    )


def _tensor(name: bytes, shape: tuple[int, ...], fields: Mapping[int, int]) -> Table:
    """Return a tensor of the schema; ``fields`` sets its type (1) and its buffer (2)."""
    return Table({0: Ints(shape), **fields, 3: Octets(name)})


def _code(builtin: int) -> Table:
    """Return the entry of the operator table for the built-in operator of that number."""
    return Table({0: builtin, 2: 1, 3: builtin})


def _operator(code: int, inputs: tuple[int, ...], output: int, options: tuple[int, Table]) -> Table:
    """Return an operator of the graph with its options and their kind."""
    return Table({0: code, 1: Ints(inputs), 2: Ints((output,)), 3: options[0], 4: options[1]})
