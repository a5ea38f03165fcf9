"""The application on Ray Serve: HTTP, the network and the parts of the galleries are separate deployments.

`serve run` and a Kubernetes RayService start it by its import path `app.on_ray.application:application`. The settings
come from the environment.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig

from app.on_ray.nodes import absolute
from app.on_ray.replicas import Ingress, NetworkReplica, ShardReplica
from app.settings import Settings, load_settings

#: CPUs that Ray reserves for a process. The network computes all the time; the others mostly wait and search.
_INGRESS_CPUS, _SHARD_CPUS = 0.2, 0.2
#: How soon Ray notices that a process has died, and after how long a silent one counts as dead.
_HEALTH: dict[str, Any] = {"health_check_period_s": 1.0, "health_check_timeout_s": 15.0}
#: Concurrent requests to one process. The service's own limits refuse excess requests, with a proper answer.
_ONGOING = 1_000
#: The service logs requests itself.
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


def build(settings: Settings) -> serve.Application:
    """The application with these settings, which have absolute paths."""
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
    """The application with settings from the environment. Raises SettingsError."""
    return build(absolute(load_settings()))
