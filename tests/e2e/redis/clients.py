"""redis-py and valkey-py against each port of the command line, in both versions of the protocol. Prints a line for each."""

import sys

import redis
import valkey

PIPELINED = 10_000


def strings(r):
    assert r.ping() and r.echo("hello") == "hello"
    assert r.set("py:a", "v", ex=100) and r.get("py:a") == "v"
    assert r.set("py:a", "w", nx=True) is None
    assert r.set("py:a", "w", xx=True, get=True, keepttl=True) == "v"
    assert 90 < r.ttl("py:a") <= 100 and r.persist("py:a") and r.ttl("py:a") == -1
    assert r.incr("py:n", 5) == 5 and r.decr("py:n") == 4 and abs(r.incrbyfloat("py:n", 0.5) - 4.5) < 1e-9
    assert r.append("py:a", "xyz") == 4 and r.getrange("py:a", 1, 2) == "xy" and r.strlen("py:a") == 4
    assert r.mset({"py:b": 1, "py:c": 2}) and r.mget("py:b", "py:c", "py:none") == ["1", "2", None]
    assert sorted(r.scan_iter(match="py:*")) == sorted(r.keys("py:*")) == ["py:a", "py:b", "py:c", "py:n"]
    assert r.getdel("py:b") == "1" and r.exists("py:a", "py:b") == 1 and r.type("py:a") == "string"
    assert r.expire("py:c", 100, nx=True) and not r.expire("py:c", 50, gt=True)
    assert r.info()["redis_version"] == "7.2.4" and r.info("trefoil")["partitions"] > 0
    assert r.config_get("save") == {"save": ""} and r.client_id() > 0 and r.dbsize() == 3
    assert r.delete("py:a", "py:c", "py:n") == 3


def pipelines(r):
    pipe = r.pipeline(transaction=False)
    for i in range(PIPELINED):
        pipe.incr(f"py:{i % 10}")
    assert pipe.execute() == [i // 10 + 1 for i in range(PIPELINED)]
    assert r.delete(*[f"py:{i}" for i in range(10)]) == 10
    with r.pipeline() as pipe:  # with MULTI
        assert pipe.set("py:m", 1).incr("py:m").get("py:m").execute() == [True, 2, "2"]
    with r.pipeline() as pipe:
        pipe.watch("py:m")
        r.set("py:m", "changed")
        pipe.multi()
        pipe.set("py:m", "lost")
        try:
            pipe.execute()
        except Exception as error:
            assert type(error).__name__ == "WatchError", error
        else:
            raise AssertionError("a watched key was changed")
    assert r.getdel("py:m") == "changed"


def locks(r):
    lock = r.lock("py:lock", timeout=100)
    other = r.lock("py:lock", timeout=100)
    assert lock.acquire(blocking=False) and not other.acquire(blocking=False)
    assert lock.extend(50) and 100 < r.ttl("py:lock") <= 150
    assert lock.reacquire() and r.ttl("py:lock") <= 100 and lock.owned()
    lock.release()
    assert other.acquire(blocking=False)
    r.set("py:lock", "stolen")
    try:
        other.release()
    except Exception as error:
        assert type(error).__name__ == "LockNotOwnedError", error
    else:
        raise AssertionError("a lock of somebody else was released")
    assert r.delete("py:lock") == 1
    try:
        r.eval("return 1", 0)
    except Exception as error:
        assert "scripting is not supported" in str(error), error
    else:
        raise AssertionError("there is no interpreter")


for library, client in ((redis, redis.Redis), (valkey, valkey.Valkey)):
    for protocol in (2, 3):
        for port in sys.argv[1:]:
            r = client(port=int(port), protocol=protocol, decode_responses=True, client_name="tested")
            strings(r)
            pipelines(r)
            locks(r)
            print(library.__name__, protocol, port)
