"""The manifests, as `kubectl` builds them, validated against Kubernetes' own schemas, without a cluster.

The package kubernetes-validate contains the schemas, so nothing is fetched. No package has a schema for RayService: its
pods are checked against Kubernetes' schema, the application against Ray's if Ray is installed, and the other field
names against KubeRay's reference.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from app.service.await_store import PATIENCE_S
from app.settings import Settings, variable
from app.telemetry.metrics import Metrics

kubernetes_validate = pytest.importorskip("kubernetes_validate")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
#: The oldest maintained release, and the newest one with schemas.
RELEASES = ("1.34", "1.37")
FIELDS = {
    "spec": "serveConfigV2 rayClusterConfig serveService upgradeStrategy excludeHeadPodFromServeSvc",
    "rayClusterConfig": "headGroupSpec workerGroupSpecs rayVersion enableInTreeAutoscaling autoscalerOptions "
    "headServiceAnnotations gcsFaultToleranceOptions suspend managedBy",
    "headGroupSpec": "rayStartParams template serviceType headService enableIngress",
    "workerGroupSpecs": "groupName replicas minReplicas maxReplicas numOfHosts rayStartParams template scaleStrategy "
    "idleTimeoutSeconds",
}


def raw(name: str) -> list[dict[str, Any]]:
    """The objects as written in the files."""
    named = yaml.safe_load((FOLDER / name / "kustomization.yaml").read_text("utf-8"))["resources"]
    return [each for file in named for each in yaml.safe_load_all((FOLDER / name / file).read_text("utf-8"))]


def built(name: str) -> list[dict[str, Any]]:
    """The objects as built by kustomize."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine")
    done = subprocess.run([kubectl, "kustomize", str(FOLDER / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def check(thing: dict[str, Any], release: str) -> None:
    kubernetes_validate.validate(thing, release, strict=True)


@pytest.mark.slow  # with the programs of .ci/tools.txt
@pytest.mark.parametrize("release", RELEASES)
def test_what_is_applied_is_valid(release: str):
    objects = built("base")
    kinds = [each["kind"] for each in objects]
    assert sorted(kinds) == ["Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"]
    for each in objects:
        check(each, release)


def test_the_schema_refuses_what_is_wrong():
    [deployment] = [each for each in raw("base") if each["kind"] == "Deployment"]
    check(deployment, RELEASES[-1])
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        check(deployment, RELEASES[-1])


@pytest.mark.slow
def test_the_parts_fit_together():
    objects = built("base")
    deployment, autoscaler = of_kind(objects, "Deployment"), of_kind(objects, "HorizontalPodAutoscaler")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert of_kind(objects, "Service")["spec"]["selector"].items() <= labels.items()
    assert of_kind(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    target = autoscaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert autoscaler["spec"]["minReplicas"] > of_kind(objects, "PodDisruptionBudget")["spec"]["minAvailable"]
    assert "replicas" not in deployment["spec"], "the autoscaler's"
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "oneshot:0.1.0"
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > PATIENCE_S, "a database that is away is waited for"
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + Settings().shutdown_timeout


def test_the_autoscaler_asks_for_a_metric_that_there_is():
    autoscaler = of_kind(raw("base"), "HorizontalPodAutoscaler")
    [metric] = [each["pods"]["metric"]["name"] for each in autoscaler["spec"]["metrics"]]
    [rule] = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text("utf-8"))["rules"]["custom"]
    assert rule["name"]["as"] == metric
    assert re.match(r"\w+", rule["seriesQuery"]).group() == metric  # type: ignore[union-attr]
    assert metric in {family.name for family in Metrics().registry.collect()}


def test_the_pods_have_no_powers_and_no_secrets_in_the_open():
    pods = [of_kind(raw("base"), "Deployment")["spec"]["template"]["spec"], *ray_pods(raw("ray"))]
    known = {variable(name) for name in Settings.model_fields}
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"]
            settings = {each["name"]: each for each in container["env"]}
            assert "secretKeyRef" in settings["ONESHOT_STORE"]["valueFrom"]
            assert settings["ONESHOT_API_KEYS"]["value"] == "on"
            of_ray = {"ONESHOT_SHARDS", "ONESHOT_EMBEDDERS"}
            assert set(settings) <= known | of_ray, "a setting that nothing reads"


def ray_pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    cluster = of_kind(objects, "RayService")["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.slow  # with the programs of .ci/tools.txt
@pytest.mark.parametrize("release", RELEASES)
def test_the_pods_of_the_ray_service_are_valid(release: str):
    pods = ray_pods(built("ray"))
    assert len(pods) == 2
    for pod in pods:
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": {"spec": pod}}
        check(template, release)


def test_the_ray_service_has_fields_that_there_are():
    [service] = raw("ray")
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    spec = service["spec"]
    cluster = spec["rayClusterConfig"]
    for name, found in (
        ("spec", spec),
        ("rayClusterConfig", cluster),
        ("headGroupSpec", cluster["headGroupSpec"]),
        *(("workerGroupSpecs", group) for group in cluster["workerGroupSpecs"]),
    ):
        assert set(found) <= set(FIELDS[name].split()), name
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    pinned = re.findall(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert pinned in ([], [cluster["rayVersion"]]), "the image's"


def test_the_application_is_one_that_ray_knows():
    [service] = raw("ray")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    [application] = config["applications"]
    module, _, name = application["import_path"].partition(":")
    schema = pytest.importorskip("ray.serve.schema", reason="Ray is not installed (extra ray)")
    schema.ServeDeploySchema.model_validate(config)
    assert callable(getattr(import_module(module), name))
