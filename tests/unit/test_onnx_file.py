"""The walk over an ONNX file that refuses every tensor stored elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeface.errors import BundleIntegrityError
from edgeface.onnx_file import refuse_external_data, refuse_foreign_content

onnx = pytest.importorskip("onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

from tests.builders import tiny_onnx  # noqa: E402


def inner_tensor(name: str = "w") -> Any:
    return numpy_helper.from_array(np.arange(4, dtype=np.float32), name)


def outer_tensor(name: str = "w") -> Any:
    """A tensor whose values are said to be in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"
    return tensor


def only_located(name: str = "w") -> Any:
    tensor = outer_tensor(name)
    tensor.ClearField("external_data")
    return tensor


def only_named(name: str = "w") -> Any:
    tensor = outer_tensor(name)
    tensor.ClearField("data_location")
    return tensor


def graph(*, nodes: Any = (), tensors: Any = (), sparse: Any = ()) -> Any:
    return helper.make_graph(
        list(nodes), "g", [], [], list(tensors), sparse_initializer=list(sparse)
    )


def model(content: Any, **fields: Any) -> Any:
    return helper.make_model(content, ir_version=8, **fields)


def node(**attributes: Any) -> Any:
    return helper.make_node("Constant", [], ["y"], name="y", **attributes)


def sparse(values: Any, indices: Any) -> Any:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[9])


def function(*nodes: Any, attributes: Any = ()) -> Any:
    made = helper.make_function("local", "F", [], ["y"], list(nodes), [])
    made.attribute_proto.extend(attributes)
    return made


def training(content: Any, *, algorithm: bool) -> Any:
    info = onnx.TrainingInfoProto()
    (info.algorithm if algorithm else info.initialization).CopyFrom(content)
    return info


def with_training(content: Any, *, algorithm: bool) -> Any:
    made = model(graph())
    made.training_info.append(training(content, algorithm=algorithm))
    return made


Place = Callable[[Any], Any]
PLACES: dict[str, Place] = {
    "initialiser": lambda t: model(graph(tensors=[t])),
    "second initialiser": lambda t: model(graph(tensors=[inner_tensor("a"), t])),
    "node attribute": lambda t: model(graph(nodes=[node(value=t)])),
    "list of tensors": lambda t: model(graph(nodes=[node(many=[inner_tensor("a"), t])])),
    "nested subgraph": lambda t: model(graph(nodes=[node(body=graph(tensors=[t]))])),
    "list of subgraphs": lambda t: model(
        graph(nodes=[node(bodies=[graph(), graph(nodes=[node(value=t)])])])
    ),
    "subgraph of a subgraph": lambda t: model(
        graph(nodes=[node(body=graph(nodes=[node(body=graph(tensors=[t]))]))])
    ),
    "function": lambda t: model(graph(), functions=[function(node(value=t))]),
    "default attribute of a function": lambda t: model(
        graph(), functions=[function(attributes=[helper.make_attribute("value", t)])]
    ),
    "values of a sparse initialiser": lambda t: model(graph(sparse=[sparse(t, inner_tensor())])),
    "indices of a sparse initialiser": lambda t: model(graph(sparse=[sparse(inner_tensor(), t)])),
    "sparse attribute": lambda t: model(
        graph(nodes=[node(sparse_value=sparse(t, inner_tensor()))])
    ),
    "list of sparse tensors": lambda t: model(
        graph(nodes=[node(many=[sparse(inner_tensor(), t)])])
    ),
    "training": lambda t: with_training(graph(tensors=[t]), algorithm=False),
    "training algorithm": lambda t: with_training(graph(nodes=[node(value=t)]), algorithm=True),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("tensor", [outer_tensor, only_located, only_named])
def test_a_tensor_stored_elsewhere_is_found_wherever_it_hides(
    place: Place, tensor: Callable[[], Any]
) -> None:
    with pytest.raises(BundleIntegrityError, match=r"here: a tensor is stored in another file"):
        refuse_external_data(place(tensor()).SerializeToString(), where="here")


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_the_same_model_with_its_tensor_inside_passes(place: Place) -> None:
    refuse_external_data(place(inner_tensor()).SerializeToString(), where="here")


@pytest.mark.parametrize("content", [b"", tiny_onnx(), tiny_onnx(embedding_size=3)])
def test_an_ordinary_model_passes(content: bytes) -> None:
    refuse_external_data(content, where="here")
    refuse_foreign_content(content, where="here")


def engine(domain: str = "com.microsoft", operator: str = "EPContext") -> Any:
    content = {"ep_cache_context": "../../engine.plan", "embed_mode": 0}
    return helper.make_node(operator, [], ["y"], name="y", domain=domain, **content)


NODE_PLACES: dict[str, Place] = {
    "graph": lambda n: model(graph(nodes=[node(), n])),
    "subgraph": lambda n: model(graph(nodes=[node(body=graph(nodes=[n]))])),
    "function": lambda n: model(graph(), functions=[function(n)]),
    "training": lambda n: with_training(graph(nodes=[n]), algorithm=True),
}
FOREIGN = {
    "engine": engine(),
    "engine of the standard": engine(domain=""),
    "engine of another provider": engine(domain="nv.tensorrt"),
    "other operator of the runtime": engine(operator="Inverse"),
    "operator of a plug-in": engine(domain="trt.plugins", operator="QGemm"),
}


@pytest.mark.parametrize("place", NODE_PLACES.values(), ids=NODE_PLACES)
@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_an_operator_of_somebody_else_is_refused_wherever_it_hides(
    place: Place, foreign: Any
) -> None:
    content = place(foreign).SerializeToString()
    refuse_external_data(content, where="here")
    with pytest.raises(BundleIntegrityError, match=r"here: the operator '\w+' is none"):
        refuse_foreign_content(content, where="here")


@pytest.mark.parametrize("place", NODE_PLACES.values(), ids=NODE_PLACES)
def test_operators_of_an_export_pass(place: Place) -> None:
    content = place(engine(operator="QLinearConv")).SerializeToString()
    refuse_foreign_content(content, where="here")


@pytest.mark.parametrize("last", ["QLinearConv", "EPContext"])
def test_a_node_with_two_names_must_be_allowed_by_both(last: str) -> None:
    first = {"QLinearConv": "EPContext", "EPContext": "QLinearConv"}[last]
    two = engine(operator=first).SerializeToString()
    two += engine(operator=last).SerializeToString()
    content = field(7, 2, field(1, 2, two))
    with pytest.raises(BundleIntegrityError, match="is none of"):
        refuse_foreign_content(content, where="here")


def test_bytes_of_a_tensor_are_not_taken_for_structure() -> None:
    tensor = inner_tensor()
    tensor.raw_data = model(graph(tensors=[outer_tensor()])).SerializeToString()
    made = model(graph(tensors=[tensor]), doc_string="p\x01p\x01")
    refuse_external_data(made.SerializeToString(), where="here")


def test_unknown_fields_are_passed_over() -> None:
    unknown = field(900, 0, varint(5)) + field(901, 1, bytes(8)) + field(902, 5, bytes(4))
    refuse_external_data(unknown + tiny_onnx() + field(903, 2, b"anything"), where="here")


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, wire_type: int, payload: bytes) -> bytes:
    length = varint(len(payload)) if wire_type == 2 else b""
    return varint(number << 3 | wire_type) + length + payload


@pytest.mark.parametrize(
    "content",
    [
        b"\x08",
        b"\x08" + b"\xff" * 9,
        b"\x08" + b"\xff" * 20 + b"\x01",
        b"\x3a",
        b"\x3a\x05\x00",
        b"\x3a" + b"\xff" * 9 + b"\x01",
        b"\x09\x00\x00",
        b"\x0d\x00\x00",
        b"\x0b\x0c",
        b"\x0e",
        b"\x3b\x00\x3c",
        b"\x3c",
        b"\x02\x00",
        b"\x00\x00",
        b"\xba\x80\x80\x80\x10\x00",
        b"\xba\x80\x80\x80\x80\x00\x00",
        b"\x0f\x00",
        b"\x3a\x02\x0a\x05",
        b"not an ONNX file at all",
        b"<html><body>404</body></html>",
        b"\x80" * 1000,
    ],
)
def test_what_is_no_onnx_file_is_refused(content: bytes) -> None:
    with pytest.raises(BundleIntegrityError, match="here is not an ONNX file, or is damaged"):
        refuse_external_data(content, where="here")


def test_a_truncated_model_is_refused_or_has_lost_whole_fields_only() -> None:
    content = tiny_onnx(embedding_size=2)
    lengths = range(0, len(content), 97)
    passed = [length for length in lengths if not refused(content[:length])]
    assert len(passed) < 0.1 * len(lengths)


def refused(content: bytes) -> bool:
    try:
        refuse_external_data(content, where="here")
    except BundleIntegrityError as error:
        return "here" in str(error)
    return False


def nested(levels: int) -> bytes:
    """Graphs in attributes of nodes of graphs, ``levels`` deep."""
    content = b""
    for _ in range(levels):
        content = field(1, 2, field(5, 2, field(6, 2, content)))
    return field(7, 2, content)


@pytest.mark.parametrize("levels", [0, 1, 20])
def test_graphs_nested_as_deep_as_programs_do_pass(levels: int) -> None:
    refuse_external_data(nested(levels), where="here")


@pytest.mark.parametrize("levels", [22, 100, 3000])
def test_graphs_nested_deeper_than_any_program_are_refused(levels: int) -> None:
    with pytest.raises(BundleIntegrityError, match="nested deeper"):
        refuse_external_data(nested(levels), where="here")


@pytest.mark.parametrize("number", [7, 13])
def test_a_tag_written_too_long_does_not_hide_what_it_holds(number: int) -> None:
    hidden = {
        7: lambda: long_field(7, graph(tensors=[outer_tensor()]).SerializeToString()),
        13: lambda: field(
            7, 2, field(5, 2, inner_tensor().SerializeToString() + long_field(13, b"\x0a\x00"))
        ),
    }[number]()
    with pytest.raises(BundleIntegrityError):
        refuse_external_data(hidden, where="here")


def long_field(number: int, payload: bytes) -> bytes:
    return varint((1 << 32) + (number << 3 | 2)) + varint(len(payload)) + payload


@pytest.mark.parametrize("key", [b"\xba\x00", b"\xba\x80\x80\x80\x00"])
def test_a_tag_padded_within_its_five_bytes_is_read_for_what_it_is(key: bytes) -> None:
    hidden = graph(tensors=[outer_tensor()]).SerializeToString()
    with pytest.raises(BundleIntegrityError, match="another file"):
        refuse_external_data(key + varint(len(hidden)) + hidden, where="here")
    refuse_external_data(key + b"\x00", where="here")


@settings(max_examples=300, deadline=500)
@given(st.binary(max_size=400))
@example(b"\x3a\x00" * 200)
def test_any_bytes_pass_or_are_refused_and_nothing_else(content: bytes) -> None:
    assert refused(content) in (True, False)


VALID = model(graph(nodes=[node(value=inner_tensor())], tensors=[inner_tensor("b")]))
VALID_BYTES = VALID.SerializeToString()


@settings(max_examples=300, deadline=500)
@given(st.lists(st.tuples(st.integers(0, len(VALID_BYTES) - 1), st.integers(0, 255)), max_size=6))
def test_a_damaged_model_passes_only_if_every_tensor_is_still_inside(
    changes: list[tuple[int, int]],
) -> None:
    content = bytearray(VALID_BYTES)
    for position, value in changes:
        content[position] = value
    if refused(bytes(content)):
        return
    # What passed must hold no external tensor by the reading of the onnx package either.
    parsed = onnx.ModelProto()
    try:
        parsed.ParseFromString(bytes(content))
    except Exception:  # noqa: BLE001 - what protobuf raises depends on its version
        return
    tensors = [*parsed.graph.initializer, *(a.t for n in parsed.graph.node for a in n.attribute)]
    assert not any(t.data_location or t.external_data for t in tensors)
