"""Random sequences of enrol, replace, add, rename, delete and classify, checked against an in-memory model."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.names import class_path
from testing.factories import draw_character, png_bytes
from testing.proofs import Proof, record
from testing.served import Running

IMAGES = [png_bytes(draw_character(seed)) for seed in range(6)]
LABELS = ("a", "b", "a/b", "ü", "image")
labels, images = st.sampled_from(LABELS), st.integers(0, len(IMAGES) - 1)
galleries: Iterator[int] = itertools.count()


def machine(server: Running) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.gallery = f"machine{next(galleries)}"
            self.model: dict[str, list[int]] = {}
            self.made = False

        def path(self, label: str) -> str:
            return class_path(label, self.gallery)

        @rule(label=labels, image=images, on_conflict=st.sampled_from(["replace", "add", "fail"]))
        def enroll(self, label: str, image: int, on_conflict: str) -> None:
            answer = server.enroll(label, IMAGES[image], gallery=self.gallery, on_conflict=on_conflict)
            if label not in self.model:
                assert answer.status_code == 201
                self.model[label] = [image]
            elif on_conflict == "fail":
                assert answer.status_code == 409
                return
            else:
                assert answer.status_code == 200
                self.model[label] = [*(self.model[label] if on_conflict == "add" else []), image]
            self.made = True
            assert answer.json()["class"]["shots"] == len(self.model[label])

        @rule(label=labels)
        def delete(self, label: str) -> None:
            expected = 204 if self.model.pop(label, None) is not None else 404
            assert server.client.delete(self.path(label)).status_code == expected

        @rule(label=labels, new=labels)
        def rename(self, label: str, new: str) -> None:
            status = server.client.patch(self.path(label), json={"label": new}).status_code
            if label not in self.model:
                assert status == 404
            elif new in self.model and new != label:
                assert status == 409
            else:
                assert status == 200
                self.model[new] = self.model.pop(label)

        @rule()
        def delete_gallery(self) -> None:
            assert server.client.delete(f"/galleries/{self.gallery}").status_code == (204 if self.made else 404)
            self.model, self.made = {}, False

        @rule(image=images)
        def classify(self, image: int) -> None:
            answer = server.classify(IMAGES[image], gallery=self.gallery, threshold=0, k=100)
            if not self.made:
                assert answer.status_code == 422
                return
            body = answer.json()
            assert {item["label"] for item in body["candidates"]} == set(self.model)
            assert body["gallery_size"] == len(self.model)
            holders = {label for label, shots in self.model.items() if image in shots}
            nearest = {item["label"] for item in body["candidates"] if item["distance"] < 1e-5}
            assert nearest == holders
            assert body["label"] in (holders or set(self.model)) or (body["label"] is None and not self.model)

        @rule(label=labels, shot=st.integers(0, 2))
        def read_image(self, label: str, shot: int) -> None:
            path, _, query = self.path(label).partition("?")
            answer = server.client.get(f"{path}/image?{query}", params={"gallery": self.gallery, "shot": shot})
            shots = self.model.get(label, [])
            if shot < len(shots):
                assert answer.content == IMAGES[shots[shot]]
            else:
                assert answer.status_code == 404

        @invariant()
        def same_classes(self) -> None:
            answer = server.client.get("/classes", params={"gallery": self.gallery})
            if self.made:
                listed = {item["label"]: item["shots"] for item in answer.json()["classes"]}
                assert listed == {label: len(shots) for label, shots in self.model.items()}
            else:
                assert answer.status_code == 404

    return Machine


@pytest.mark.parametrize(
    ("examples", "steps"), [(6, 15), pytest.param(80, 30, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_the_service_agrees_with_a_model_in_memory(served: Running, examples: int, steps: int):
    statuses: Counter[str] = Counter()
    served.client.event_hooks["response"].append(lambda answer: statuses.update([f"{answer.status_code // 100}xx"]))
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine(served),
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks
        ),
    )
    assert set(statuses) <= {"2xx", "4xx"}
    record(
        f"state machine {examples}",
        Proof(
            f"{examples} random sequences of {steps} enrolments, deletions and questions against a model in memory",
            "make test ARGS=\"-m 'slow or not slow' tests/app/api/test_http_machine.py\"",
            {"requests": statuses.total()},
            {},
            0,
            0,
            ended="each answer as the model's",
        ),
    )
