"""Forward passes by OpenVINO, on CPUs: the network in f32, or an artefact's int8 form."""

from __future__ import annotations

import warnings

import numpy as np
import openvino as ov

from model.artifact import Artifact
from model.distances import Vectors
from model.preprocess import Prepared


class OpenVinoEngine:
    """One inference request on ``threads`` CPU threads; any number of images at a time.

    The f32 form computes what torch computes, to rounding. OpenVINO may choose bfloat16 by itself where the CPU has
    it, which would make the same digest mean other vectors on another machine, so f32 is asked for.
    """

    device = "cpu"

    def __init__(self, artifact: Artifact, threads: int | None) -> None:
        self.name = "openvino" if artifact.graph is None else "openvino-int8"
        core = ov.Core()
        model = as_openvino(artifact) if artifact.graph is None else _read(core, artifact)
        options: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # every process would pin its threads to the first cores
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._request = core.compile_model(model, "CPU", options).create_infer_request()

    def embed(self, batch: Prepared) -> Vectors:
        """Embed images of shape (n, channels, size, size) as index-form vectors of shape (n, dim)."""
        self._request.infer({0: batch}, share_inputs=True)
        return np.array(self._request.get_output_tensor().data)  # a copy: the next pass writes into the same memory


def as_openvino(artifact: Artifact) -> ov.Model:
    """The network with its similarity as OpenVINO's graph: images (n, channels, size, size) to vectors (n, dim)."""
    import torch  # noqa: PLC0415 - not needed to serve an int8 form

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.similarity = artifact.network, artifact.similarity

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.similarity.index_form(self.network(images))

    spec = artifact.manifest.preprocess
    shape = (spec.channels, spec.size, spec.size)
    example = torch.zeros(2, *shape)
    with torch.no_grad(), warnings.catch_warnings():
        # OpenVINO traces modules, which torch discourages; torch.export takes many times as long for the same graph
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return ov.convert_model(Whole().eval(), example_input=example, input=[ov.PartialShape([-1, *shape])])


def _read(core: ov.Core, artifact: Artifact) -> ov.Model:
    assert artifact.graph is not None  # noqa: S101 - asked by the caller
    weights = np.frombuffer(artifact.graph.weights, np.uint8)
    return core.read_model(artifact.graph.xml, ov.Tensor(weights))
