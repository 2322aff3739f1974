"""Several servers that belong together: a Redis Cluster, and a primary watched by Sentinel."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.closing import Closing
from tests.support.redis_server import RedisServer
from tests.support.resp import ReplyError
from tests.support.waiting import PATIENCE, wait_until

_SLOTS = 16_384


class _Group(Closing):
    """Servers that start and end together."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []

    def close(self) -> None:
        """End every server."""
        for server in self.servers:
            server.close()


class RedisCluster(_Group):
    """Masters that share the slots, each with the same number of replicas."""

    def __init__(self) -> None:
        super().__init__()
        self.masters: list[RedisServer] = []
        self.replicas: list[RedisServer] = []

    @property
    def url(self) -> str:
        """The redis+cluster:// URL that names every master."""
        return "redis+cluster://" + ",".join(f"{m.host}:{m.port}" for m in self.masters)

    def master_of(self, key: str | bytes) -> RedisServer:
        """The first master's word on who serves this key now."""
        view = next(server for server in self.servers if server.running)
        slot = int(view.call("CLUSTER", "KEYSLOT", key))
        for first, last, (_, port, *_), *_ in view.call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise LookupError(f"no node serves slot {slot}")

    def flush(self) -> None:
        """Delete every key on every running master."""
        for server in self.servers:
            if server.running and server.info("replication")["role"] == "master":
                server.flush()

    def wait_ok(self, *, timeout: float = PATIENCE) -> None:
        """Block until every running node sees every slot served and every other node."""

        def agreed() -> bool:
            running = [server for server in self.servers if server.running]
            return all(self._sees_all(server, len(running)) for server in running)

        wait_until(agreed, "the cluster is complete", timeout=timeout, interval=0.05)

    @staticmethod
    def _sees_all(server: RedisServer, count: int) -> bool:
        lines = server.call("CLUSTER", "NODES").decode().splitlines()
        connected = [line for line in lines if " connected" in line and "fail" not in line]
        state = server.call("CLUSTER", "INFO").decode()
        return "cluster_state:ok" in state and len(connected) >= count


def start_cluster(
    masters: int = 3,
    *,
    replicas: int = 0,
    node_timeout: float = 1.5,
    args: Sequence[str] = (),
) -> RedisCluster:
    """Start a cluster of this many masters, with `replicas` for each, and wait until it serves.

    `node_timeout` is in seconds.
    """
    cluster = RedisCluster()
    options = [
        *("--cluster-enabled", "yes"),
        *("--cluster-config-file", "nodes.conf"),
        *("--cluster-node-timeout", str(round(node_timeout * 1000))),
        *args,
    ]
    try:
        for _ in range(masters * (1 + replicas)):
            cluster.servers.append(RedisServer.start(args=options, with_bus=True))
        cluster.masters = cluster.servers[:masters]
        cluster.replicas = cluster.servers[masters:]
        _share_slots(cluster.masters)
        _introduce(cluster.servers)
        for number, replica in enumerate(cluster.replicas):
            _attach(replica, cluster.masters[number % masters])
        cluster.wait_ok()
    except BaseException:
        cluster.close()
        raise
    return cluster


def _share_slots(masters: list[RedisServer]) -> None:
    for number, master in enumerate(masters):
        first = number * _SLOTS // len(masters)
        end = (number + 1) * _SLOTS // len(masters)
        master.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        master.call("CLUSTER", "ADDSLOTS", *range(first, end))


def _introduce(servers: list[RedisServer]) -> None:
    first, *others = servers
    for other in others:
        other.call("CLUSTER", "MEET", first.host, first.port)
    wait_until(
        lambda: all(_known(server) == len(servers) for server in servers),
        "the nodes know each other",
        interval=0.05,
    )


def _known(server: RedisServer) -> int:
    lines = server.call("CLUSTER", "NODES").decode().splitlines()
    return sum("handshake" not in line for line in lines)


def _attach(replica: RedisServer, master: RedisServer) -> None:
    replica.call("CLUSTER", "REPLICATE", master.call("CLUSTER", "MYID"))
    wait_replicating(replica)


def wait_replicating(replica: RedisServer) -> None:
    """Return when the replica has all that its primary has."""
    wait_until(
        lambda: replica.info("replication").get("master_link_status") == "up",
        "the replica follows its primary",
        interval=0.02,
    )


def wait_acknowledging(primary: RedisServer) -> None:
    """Return when its replicas tell a primary that they have all, up to a second after it has."""

    def acknowledged() -> bool:
        told = primary.info("replication")
        has_all = f",offset={told['master_repl_offset']},"
        replicas = [told[name] for name in told if re.fullmatch(r"slave\d+", name)]
        return bool(replicas) and all(has_all in replica for replica in replicas)

    primary.call("PUBLISH", "anything", "that is replicated and changes nothing")
    wait_until(acknowledged, "the replicas acknowledge", interval=0.02)


class _Sentinel(RedisServer):
    """A sentinel; it rewrites its own configuration, so that is written only once."""

    _keeps_config = True
    monitored: tuple[str, int, int, float]
    primary_password: str | None = None

    def _start_line(self) -> Sequence[str | Path]:
        return (*super()._start_line(), "--sentinel")

    def _config_lines(self) -> list[str]:
        name, primary_port, quorum, down_after = self.monitored
        return [
            f"bind {self.host}",
            f"port {self.port}",
            f"dir {self.folder}",
            f"sentinel monitor {name} {self.host} {primary_port} {quorum}",
            f"sentinel down-after-milliseconds {name} {round(down_after * 1000)}",
            f"sentinel failover-timeout {name} 3000",
            f"sentinel parallel-syncs {name} 1",
            *([f"sentinel auth-pass {name} {self.primary_password}"] * bool(self.primary_password)),
        ]


class SentinelGroup(_Group):
    """A primary, its replicas, and the sentinels that watch them."""

    def __init__(self, name: str, password: str | None) -> None:
        super().__init__()
        self.name = name
        self.password = password
        self.data_servers: list[RedisServer] = []
        self.sentinels: list[RedisServer] = []

    @property
    def url(self) -> str:
        """The redis+sentinel:// URL: the sentinels, and the name of the primary as the path."""
        userinfo = f":{self.password}@" if self.password else ""
        hosts = ",".join(f"{s.host}:{s.port}" for s in self.sentinels)
        return f"redis+sentinel://{userinfo}{hosts}/{self.name}"

    @property
    def primary(self) -> RedisServer:
        """The server that the first running sentinel names as the primary now."""
        sentinel = next(s for s in self.sentinels if s.running)
        port = int(sentinel.call("SENTINEL", "get-master-addr-by-name", self.name)[1])
        return next(server for server in self.data_servers if server.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        """The data servers that are not the primary now."""
        primary = self.primary
        return [server for server in self.data_servers if server is not primary]

    def failover(self, *, timeout: float = PATIENCE) -> RedisServer:
        """Let a sentinel promote a replica while all live, and return the new primary."""
        old = self.primary
        self.sentinels[0].call("SENTINEL", "FAILOVER", self.name)
        return self.wait_promoted(old, timeout=timeout)

    def wait_promoted(self, old: RedisServer, *, timeout: float = PATIENCE) -> RedisServer:
        """Block until another server than `old` is primary by its own word and all sentinels'."""

        def promoted() -> bool:
            ask = ("SENTINEL", "get-master-addr-by-name", self.name)
            ports = {int(s.call(*ask)[1]) for s in self.sentinels if s.running}
            new = [s for s in self.data_servers if s.running and s.port in ports]
            return (
                len(ports) == 1
                and old.port not in ports
                and bool(new)
                and new[0].info("replication")["role"] == "master"
            )

        wait_until(promoted, "a replica is promoted", timeout=timeout, interval=0.05)
        return self.primary

    def wait_ok(self, *, timeout: float = PATIENCE) -> None:
        """Block until every sentinel knows every running replica and every other sentinel."""

        def agreed() -> bool:
            running = [sentinel for sentinel in self.sentinels if sentinel.running]
            return all(self._is_ready(sentinel, len(running)) for sentinel in running)

        wait_until(agreed, "the sentinels know the group", timeout=timeout, interval=0.05)

    def _is_ready(self, sentinel: RedisServer, sentinels: int) -> bool:
        primary = _fields(sentinel.call("SENTINEL", "MASTER", self.name))
        known = map(_fields, sentinel.call("SENTINEL", "REPLICAS", self.name))
        # What a sentinel asks of a replica before it promotes it.
        fit = [
            replica
            for replica in known
            if replica["flags"] == "slave"
            and replica["master-link-status"] == "ok"
            and int(replica["info-refresh"]) < 10_000
        ]
        replicas = sum(server.running for server in self.data_servers) - 1
        others = int(primary["num-other-sentinels"])
        return primary["flags"] == "master" and len(fit) >= replicas and others >= sentinels - 1


def start_sentinel(
    *,
    name: str = "mymaster",
    replicas: int = 1,
    sentinels: int = 1,
    quorum: int | None = None,
    down_after: float = 0.5,
    password: str | None = None,
    args: Sequence[str] = (),
) -> SentinelGroup:
    """Start a primary, replicas and sentinels, and wait until a failover would succeed.

    `down_after` is in seconds; `args` are options of the data servers.
    """
    group = SentinelGroup(name, password)
    try:
        primary = RedisServer.start(args=args, password=password)
        group.data_servers.append(primary)
        group.servers.append(primary)
        for _ in range(replicas):
            following = ("--replicaof", primary.host, str(primary.port), *args)
            replica = RedisServer.start(args=following, password=password)
            group.data_servers.append(replica)
            group.servers.append(replica)
            wait_replicating(replica)
        for _ in range(sentinels):
            sentinel = _Sentinel()
            group.sentinels.append(sentinel)
            group.servers.append(sentinel)
            sentinel.monitored = (name, primary.port, quorum or sentinels // 2 + 1, down_after)
            sentinel.primary_password = password
            sentinel.launch()
            with suppress(ReplyError):  # Redis 6.2 cannot, and takes its time
                sentinel.call("SENTINEL", "DEBUG", "info-period", 500, "publish-period", 500)
        group.wait_ok()
    except BaseException:
        group.close()
        raise
    return group


def _fields(reply: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))
