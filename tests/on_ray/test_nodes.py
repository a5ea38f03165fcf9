"""The application on two Ray nodes of one machine, and one of them killed under load."""

import json

import pytest

from testing.postgres import missing as missing_postgres
from testing.ray_alone import missing, run_alone


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(bool(why := missing() or missing_postgres()), reason=why or "")
def test_a_node_that_is_killed_under_load_costs_no_acknowledged_operation():
    done = run_alone("benchmarks.faults_ray", ["--inside", "--settle", "4"], 580)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    both = {*outcome["before"]["first"], *outcome["before"]["second"]}
    assert both == {"http", "network", "proxy", "shard-0", "shard-1"}
    assert outcome["before"]["second"], "nothing ran on the node that was killed"
    assert both <= {*outcome["after"]["first"], *outcome["after"]["third"]}
    assert outcome["acknowledged"] > 20
    assert outcome["classified"] > 20
    assert outcome["compared"] > 20
    assert outcome["without_database"] == 10
    assert outcome["lost"] == []
