"""The clusters and sentinels that the tests start."""

import pytest
import redis
import redis.asyncio

from tests.support.redis_topology import start_cluster, start_sentinel, wait_acknowledging
from tests.support.resp import (
    ReplyError,
)
from tests.support.waiting import wait_until


class TestTopologies:
    """Clusters and sentinels."""

    def test_a_cluster_serves_every_slot(self) -> None:
        """Three masters share the slots; a key is on one of them and moved on the others."""
        with start_cluster(masters=3) as cluster:
            homes = {cluster.master_of(f"key-{n}").port for n in range(50)}
            assert homes == {server.port for server in cluster.masters}
            home = cluster.master_of("k")
            assert home.call("SET", "k", "v") == b"OK"
            other = next(server for server in cluster.masters if server is not home)
            with pytest.raises(ReplyError, match=f"MOVED .*:{home.port}"):
                other.call("GET", "k")
            first = cluster.masters[0]
            with redis.RedisCluster(host=first.host, port=first.port) as client:
                assert client.get("k") == b"v"
            cluster.flush()
            assert home.call("DBSIZE") == 0

    def test_a_cluster_replaces_a_dead_master(self) -> None:
        """With replicas, the slots of a killed master are served again."""
        with start_cluster(masters=3, replicas=1) as cluster:
            home = cluster.master_of("k")
            home.call("SET", "k", "v")
            wait_acknowledging(home)
            home.kill()
            cluster.wait_ok()
            wait_until(lambda: cluster.master_of("k") is not home, "promoted", timeout=30)
            assert cluster.master_of("k").call("GET", "k") == b"v"

    def test_sentinel_promotes_a_replica(self) -> None:
        """A failover by command and one by death both end with another primary."""
        with start_sentinel(replicas=2, sentinels=3) as group:
            first = group.primary
            first.call("SET", "k", "v")
            wait_acknowledging(first)
            second = group.failover()
            assert second is not first
            assert second.call("GET", "k") == b"v"
            group.wait_ok()
            second.kill()
            third = group.wait_promoted(second)
            assert third is not second
            third.call("SET", "k2", "v2")
