"""The pipelining client against a real server: whose reply is whose, errors, outages, passwords and TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.runtime.pipelined_redis import PipelinedRedis, PipelinedScript
from service.runtime.redis import connect
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(redis: "Redis") -> PipelinedRedis:
    return PipelinedRedis(redis)


async def connections(redis: "Redis") -> int:
    return len(await redis.client_list(_type="normal"))


async def test_everyone_gets_the_reply_to_their_own_command(redis: "Redis", client: PipelinedRedis) -> None:
    await client.send("PING")
    before = await connections(redis)
    replies = await asyncio.gather(*(client.send("ECHO", f"{number}") for number in range(100)))
    assert replies == [f"{number}".encode() for number in range(100)]
    assert await connections(redis) == before, "all of them use one connection"


async def test_arguments_and_replies_of_each_kind(client: PipelinedRedis) -> None:
    content = bytes(range(256)) * 1000
    assert await client.send("SET", "key", content) == b"OK"
    assert await client.send_all([("GET", "key"), ("GET", b"none"), ("INCRBY", "n", 3)]) == [content, None, 3]
    assert await client.send("MGET", "none", "n") == [None, b"3"]
    assert await client.send("INCRBYFLOAT", "n", 0.5) == b"3.5"


async def test_an_error_is_that_of_its_own_command(client: PipelinedRedis) -> None:
    await client.send("SET", "text", "a")
    bad, good = client.send_all([("INCR", "text"), ("SET", "other", "b")]), client.send("GET", "text")
    replies = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(replies[0], ResponseError)
    assert replies[1] == b"a"
    assert await client.send("GET", "other") == b"b", "the commands after it were executed"


async def test_a_transaction_is_executed_as_a_whole_or_not_at_all(client: PipelinedRedis) -> None:
    assert await client.transact([("SET", "key", 1), ("INCR", "key")]) == [b"OK", 2]
    with pytest.raises(ResponseError, match="unknown command"):
        await client.transact([("SET", "key", 7), ("NONSENSE",)])
    assert await client.send("GET", "key") == b"2"
    await client.send("SET", "text", "a")
    with pytest.raises(ResponseError, match="not an integer"):
        await client.transact([("INCR", "text")])


async def test_a_script_is_sent_to_a_server_that_does_not_know_it(redis: "Redis", client: PipelinedRedis) -> None:
    script = PipelinedScript(client, "service.queue", "remove_consumer")
    await redis.xgroup_create("stream", "group", mkstream=True)
    for _ in range(2):
        await redis.script_flush()
        assert await asyncio.gather(*(script(["stream"], ["group", "name"]) for _ in range(3))) == [1, 1, 1]


async def test_a_cancelled_caller_shifts_no_replies(client: PipelinedRedis) -> None:
    await client.send("PING")
    tasks = [asyncio.create_task(client.send("ECHO", f"{number}")) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks[::2])
    assert [task.result() for task in tasks[1::2]] == [f"{number}".encode() for number in range(1, 20, 2)]


async def test_after_a_lost_connection_the_next_command_connects(redis: "Redis", client: PipelinedRedis) -> None:
    """Those that wait fail: whether their commands were executed is unknown."""
    for _ in range(3):
        id_ = await client.send("CLIENT", "ID")
        tasks = [asyncio.create_task(client.send("BLPOP", "nothing", 0)) for _ in range(3)]
        await eventually(lambda: has_blocked(redis))
        await redis.client_kill_filter(_id=str(id_))
        for task in tasks:
            with pytest.raises(RedisConnectionError, match="lost"):
                await task
        assert await asyncio.gather(*(client.send("PING") for _ in range(3))) == [b"PONG"] * 3
    assert len(redis.connection_pool._in_use_connections) == 1, "lost ones go back to the pool"


async def has_blocked(redis: "Redis") -> bool:
    return bool((await redis.info("clients"))["blocked_clients"])


async def test_a_server_that_does_not_answer_is_left(redis_url: str, redis: "Redis") -> None:
    async with connect(f"{redis_url}?socket_timeout=0.5") as hurried:
        client = PipelinedRedis(hurried)
        with pytest.raises(RedisTimeoutError):
            await client.send("BLPOP", "nothing", 0)

        async def answers_again() -> bool:
            try:
                return bool(await client.send("PING") == b"PONG")
            except RedisError:  # the machine stood still
                return False

        await eventually(answers_again)


async def test_a_server_that_is_gone() -> None:
    async with connect("unix:///nowhere/socket") as redis:
        client = PipelinedRedis(redis)
        replies = await asyncio.gather(*(client.send("PING") for _ in range(3)), return_exceptions=True)
        assert [type(reply) for reply in replies] == [RedisConnectionError] * 3


async def test_a_server_that_answers_nonsense() -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
            if b"PING" in data:
                writer.write(b"nonsense\r\n")
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server, connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as redis:
        client = PipelinedRedis(redis)
        for _ in range(2):
            with pytest.raises(RedisConnectionError, match="Protocol error"):
                await client.send("PING")


async def test_connections_end_with_the_pool(redis_url: str, redis: "Redis") -> None:
    before = await connections(redis)
    async with connect(redis_url) as closed:
        client = PipelinedRedis(closed)
        waits = asyncio.create_task(client.send("BLPOP", "nothing", 0))
        await eventually(lambda: has_blocked(redis))
    with pytest.raises(RedisConnectionError):
        await waits

    async def is_closed() -> bool:
        return await connections(redis) == before

    await eventually(is_closed)


async def test_users_and_passwords(redis_url: str, redis: "Redis") -> None:
    await redis.acl_setuser("somebody", enabled=True, passwords=["+secret"], keys=["*"], commands=["+ping", "+client"])
    path = redis_url.removeprefix("unix://")
    try:
        async with connect(f"unix://somebody:secret@{path}") as known:
            client = PipelinedRedis(known)
            assert await client.send("PING") == b"PONG"
            with pytest.raises(ResponseError):
                await client.send("GET", "key")
        async with connect(f"unix://somebody:wrong@{path}") as unknown:
            with pytest.raises(RedisConnectionError, match="invalid username-password pair"):
                await PipelinedRedis(unknown).send("PING")
    finally:
        await redis.acl_deluser("somebody")


async def test_tls(redis_url: str, tmp_path: Path) -> None:
    content = bytes(1_000_000)
    certificate = write_certificate(tmp_path)
    async with tls_proxy(redis_url.removeprefix("unix://"), certificate) as port:
        async with connect(f"rediss://localhost:{port}?ssl_ca_certs={certificate}") as trusting:
            client = PipelinedRedis(trusting)
            assert await client.send_all([("SET", "key", content), ("GET", "key")]) == [b"OK", content]
        async with connect(f"rediss://localhost:{port}") as distrusting:
            with pytest.raises(RedisConnectionError):
                await PipelinedRedis(distrusting).send("PING")


def write_certificate(folder: Path) -> Path:
    """A file with a key and its own certificate for localhost."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


@asynccontextmanager
async def tls_proxy(redis_path: str, certificate: Path) -> AsyncIterator[int]:
    """The port of a Redis that takes TLS only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    copying: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def connected(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        redis, to_redis = await asyncio.open_unix_connection(redis_path)
        copying.update((asyncio.create_task(copy(client, to_redis)), asyncio.create_task(copy(redis, to_client))))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if copying:
            await asyncio.wait(copying, timeout=LONG)
