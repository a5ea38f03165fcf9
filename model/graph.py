"""An artefact's network as a standard ONNX graph: images in, index-form vectors out.

The graph refers to the weights in ``weights.safetensors`` as ONNX external data, so it takes only kilobytes and always
has the same weights. Needs torch and onnx; serving needs neither.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnx
import torch
from torch import Tensor, nn

from model.manifest import PreprocessSpec

if TYPE_CHECKING:
    from model.similarity import Similarity

OPSET: Final = 17
"""Old enough for today's runtimes, and has all the operators that the networks use."""
INPUT: Final = "images"
OUTPUT: Final = "vectors"
_LENGTH_BYTES: Final = 8


class _Whole(nn.Module):
    """Network and similarity in one module, with the parameter names of the safetensors file."""

    def __init__(self, network: nn.Module, similarity: Similarity) -> None:
        super().__init__()
        self.network, self.similarity = network, similarity

    def forward(self, images: Tensor) -> Tensor:
        return self.similarity.index_form(self.network(images))


def export(
    network: nn.Module, similarity: Similarity, preprocess: PreprocessSpec, weights: bytes, location: str
) -> bytes:
    """Return the checked graph, serialised: images (n, channels, size, size) to vectors (n, dim), for any n.

    ``weights`` is the safetensors file of both modules; ``location`` is its path relative to the graph.
    """
    model = onnx.load_from_string(_export(_Whole(network, similarity).eval(), preprocess))
    onnx.checker.check_model(model, full_check=True)
    places = _places(weights)
    for tensor in model.graph.initializer:
        if tensor.name in places:
            _refer(tensor, weights, location, *places[tensor.name])
    data: bytes = model.SerializeToString()
    return data


def _export(whole: nn.Module, spec: PreprocessSpec) -> bytes:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        file = Path(folder) / "graph.onnx"
        # torch's newer exporter needs many times as long and three more packages for the same graph
        warnings.simplefilter("ignore")
        torch.onnx.export(
            whole,
            (torch.zeros(2, spec.channels, spec.size, spec.size),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
            # keep weights unchanged: folded values are not in the file, so the graph could not refer to them
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
        return file.read_bytes()


def _places(weights: bytes) -> dict[str, tuple[int, int]]:
    """Return each tensor's start and end offsets in a safetensors file."""
    length = int.from_bytes(weights[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    header: dict[str, Any] = json.loads(weights[_LENGTH_BYTES:start])
    header.pop("__metadata__", None)
    spans = {name: entry["data_offsets"] for name, entry in header.items()}
    return {name: (start + begin, start + end) for name, (begin, end) in spans.items()}


def _refer(tensor: onnx.TensorProto, weights: bytes, location: str, begin: int, end: int) -> None:
    """Make a tensor external data in the safetensors file; a tensor whose values differ stays inline."""
    if tensor.raw_data != weights[begin:end]:
        return
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", begin), ("length", end - begin)):
        tensor.external_data.add(key=key, value=str(value))
