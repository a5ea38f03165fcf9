"""Forward passes with OpenVINO on CPUs: an artefact's graph in f32, or its int8 form."""

from __future__ import annotations

import numpy as np
import openvino as ov

from model.artifact import NETWORK_FILE, Artifact
from model.distances import Vectors
from model.preprocess import Prepared


class OpenVinoEngine:
    """One inference request on ``threads`` CPU threads, for batches of any size.

    The f32 form matches torch up to rounding. By default OpenVINO may choose bfloat16 on CPUs that have it, and one
    digest would then give different vectors on different machines, so f32 is requested.

    Raises:
        RuntimeError: OpenVINO can't run the graph, or its shapes differ from the manifest's.
    """

    device = "cpu"

    def __init__(self, artifact: Artifact, threads: int | None) -> None:
        self.name = "openvino" if artifact.int8 is None else "openvino-int8"
        model = read_graph(artifact)
        options: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # otherwise every process pins its threads to the first cores
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._request = ov.Core().compile_model(model, "CPU", options).create_infer_request()

    def embed(self, batch: Prepared) -> Vectors:
        """Embed images of shape (n, channels, size, size) as index-form vectors of shape (n, dim)."""
        self._request.infer({0: batch}, share_inputs=True)
        return np.array(self._request.get_output_tensor().data)  # a copy: the next pass overwrites the tensor


def read_graph(artifact: Artifact) -> ov.Model:
    """Return the artefact's graph as OpenVINO's: images (n, channels, size, size) to vectors (n, dim).

    Raises:
        RuntimeError: it is not a graph, or its shapes differ from the manifest's.
    """
    core = ov.Core()
    if artifact.int8 is not None:
        weights = np.frombuffer(artifact.int8.weights, np.uint8)
        model = core.read_model(artifact.int8.xml, ov.Tensor(weights))
    else:
        core.set_property({"ENABLE_MMAP": False})  # overwriting the file would change the mapped weights
        model = core.read_model(artifact.path / NETWORK_FILE)
    _check(model, artifact)
    return model


def _check(model: ov.Model, artifact: Artifact) -> None:
    spec, dim = artifact.manifest.preprocess, artifact.manifest.similarity.dim
    wanted = [[-1, spec.channels, spec.size, spec.size], [-1, dim]]
    found = [port.partial_shape for port in (*model.inputs, *model.outputs)]
    if len(found) != 2 or not all(a.compatible(ov.PartialShape(b)) for a, b in zip(found, wanted, strict=True)):
        shapes = ", ".join(str(shape) for shape in found)
        raise RuntimeError(f"it maps shapes {shapes}, and the manifest says {wanted[0]} to {wanted[1]}")
