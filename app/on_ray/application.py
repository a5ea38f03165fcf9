"""The application on Ray Serve: HTTP, the network, and the parts of the galleries, each as its own deployment.

`serve run` and a Kubernetes RayService start it by the name `app.on_ray.application:application`, with the service's
settings from the environment.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig

from app.on_ray.nodes import absolute
from app.on_ray.replicas import Ingress, NetworkReplica, ShardReplica
from app.settings import Settings, load_settings

#: What each process counts for when Ray places it. The network computes all the time; the others wait and search.
_INGRESS_CPUS, _SHARD_CPUS = 0.2, 0.2
#: A process that died is noticed within this time; one that is silent for the other is taken for dead.
_HEALTH: dict[str, Any] = {"health_check_period_s": 1.0, "health_check_timeout_s": 15.0}
#: Requests to one process at a time. What is too much is refused by the service's own limits, which say so properly.
_ONGOING = 1_000
#: The service logs each request by itself.
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


def build(settings: Settings) -> serve.Application:
    """The application with these settings, whose paths are absolute."""
    common: dict[str, Any] = {
        **_HEALTH,
        "max_ongoing_requests": _ONGOING,
        "graceful_shutdown_timeout_s": settings.shutdown_timeout,
        "graceful_shutdown_wait_loop_s": 0.2,
        "logging_config": QUIET,
    }
    network = serve.deployment(
        name="network",
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": settings.embedders,
            "target_ongoing_requests": max(1, settings.max_batch // 2),
        },
        ray_actor_options={"num_cpus": settings.threads or 1, "num_gpus": settings.embedder_gpus},
        **common,
    )(NetworkReplica).bind(settings)
    shards = [
        serve.deployment(name=f"shard-{number}", ray_actor_options={"num_cpus": _SHARD_CPUS}, **common)(
            ShardReplica
        ).bind(settings, number)
        for number in range(settings.shards)
    ]
    http = serve.deployment(
        name="http", num_replicas=settings.workers, ray_actor_options={"num_cpus": _INGRESS_CPUS}, **common
    )(serve.ingress()(Ingress))
    made: serve.Application = http.bind(settings, network, *shards)
    return made


def application(_arguments: dict[str, str]) -> serve.Application:
    """The application, with the settings of the environment. Raises SettingsError."""
    return build(absolute(load_settings()))
