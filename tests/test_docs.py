"""Every example in README.md and in docs/ runs.

The Python blocks of a page run in order, in one namespace: those with prompts as doctests, the
others as they stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from examples.broker.configuration import Configuration, load
from mqtt_sessions import ClientConnected, ReasonCode, SessionKicked, Subscription, wire
from mqtt_sessions.messages import Message
from tests.broker.helpers import port_that_stays_free

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def ident(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Language, line and text of each fenced block."""
    text = page.read_text()
    for fence in FENCE.finditer(text):
        yield fence[1], text.count("\n", 0, fence.start(2)), fence[2]


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_examples_run(page: Path) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    failures: list[str] = []
    for language, line, text in blocks(page):
        if language != "python":
            continue
        if not text.startswith(">>>"):
            exec(compile("\n" * line + text, str(page), "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(text, names, ident(page), str(page), line)
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=failures.append, clear_globs=False)
        names = test.globs
    assert not failures, "".join(failures)


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_no_block_escapes_by_its_language(page: Path) -> None:
    assert {language for language, _, _ in blocks(page)} <= {
        "python",
        "sh",
        "toml",
        "text",
        "mermaid",
    }
    assert page.read_text().count("\n```") % 2 == 0
    assert ">>>" not in FENCE.sub("", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        led_to = page.parent / file if file else page
        assert led_to.exists(), target
        assert not heading or heading in anchors(led_to), target


def anchors(page: Path) -> Iterator[str]:
    """What GitHub names the headings of a page."""
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        words = re.sub(r"\]\([^)]*\)", "", heading).lower()
        yield re.sub(r"[^\w -]", "", words).replace(" ", "-")


def test_the_example_brokers_file_is_one_and_its_defaults_are_told(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "example-broker.md"
    (file,) = (text for language, _, text in blocks(page) if language == "toml")
    (tmp_path / "file.toml").write_text(file)
    configuration = load(tmp_path / "file.toml")
    assert configuration.limits.maximum_queued_messages == 5000
    differing = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \|$", page.read_text(), re.MULTILINE)
    default = Configuration()
    assert differing == [
        (field.name, repr(field.default), repr(getattr(part, field.name)))
        for part in (default.policy, default.limits, default.options)
        for field in attrs.fields(type(part))
        if getattr(part, field.name) != field.default
    ]


# ---------------------------------------------------------------- the README's host, served

SECONDS = 60  # a slow machine is no fault of the host


class Client:
    """The other end, by the codec's client side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = wire.Decoder(wire.Role.CLIENT, 5)
        self.items: list[wire.Packet | wire.WireError] = []

    @classmethod
    async def connect(cls, port: int, connect: wire.Connect) -> Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.send(connect)
        return client

    def send(self, packet: wire.Packet) -> None:
        self.writer.write(wire.encode(packet, 5))

    async def receive(self) -> wire.Packet | wire.WireError:
        while not self.items:
            data = await self.reader.read(65_536)
            assert data, "the broker closed the connection"
            self.items += self.decoder.feed(data)
        return self.items.pop(0)


def readme_names() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "README"}
    for language, line, text in blocks(ROOT / "README.md"):
        if language == "python":
            exec(compile("\n" * line + text, "README.md", "exec"), names)
    return names


def test_the_host_of_the_readme_keeps_a_session_for_a_client_that_is_away() -> None:
    async def scenario() -> None:
        names = readme_names()
        host = names["Host"]()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: names["Connection"](host), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        connect = wire.Connect("lamp", clean_start=False, session_expiry_interval=60)

        lamp = await Client.connect(port, connect)
        connack = await lamp.receive()
        assert isinstance(connack, wire.Connack)
        assert not connack.session_present
        lamp.send(wire.Subscribe(1, (Subscription("light/+", 1),)))
        assert await lamp.receive() == wire.Suback(1, (ReasonCode.GRANTED_QOS_1,))
        lamp.writer.close()
        await lamp.writer.wait_closed()

        switch = await Client.connect(port, wire.Connect(""))
        connack = await switch.receive()
        assert isinstance(connack, wire.Connack)
        assert connack.assigned_client_identifier
        while host.store.connected_count > 1:
            await asyncio.sleep(0.01)
        switch.send(wire.Publish(Message("light/kitchen", b"on", 1), 7))
        assert await switch.receive() == wire.Puback(7)

        lamp = await Client.connect(port, connect)
        connack = await lamp.receive()
        assert isinstance(connack, wire.Connack)
        assert connack.session_present
        publish = await lamp.receive()
        assert isinstance(publish, wire.Publish)
        assert publish.message.payload == b"on"
        assert publish.packet_id is not None
        lamp.send(wire.Puback(publish.packet_id))
        lamp.send(wire.Pingreq())
        assert await lamp.receive() == wire.Pingresp()
        assert host.store["lamp"].in_flight == ()
        host.store.check()

        for client in (lamp, switch):
            client.writer.close()
            await client.writer.wait_closed()
        while host.store.connected_count:
            await asyncio.sleep(0.01)
        host.timer.cancel()
        server.close()

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_the_host_of_the_readme_ends_what_does_not_end_by_itself() -> None:
    """No CONNECT, a CONNECT without end, packets behind the one that closes, no reading."""

    async def scenario() -> None:
        names = readme_names()
        names["CONNECT_SECONDS"] = names["CLOSE_SECONDS"] = 0.2
        host = names["Host"]()
        loop = asyncio.get_running_loop()
        made: list[Any] = []

        def make() -> Any:
            made.append(names["Connection"](host))
            return made[-1]

        server = await loop.create_server(make, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()

        names["CONNECT_SECONDS"] = SECONDS
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x10\xff\xff\x3f\x00\x04MQTT\x05" + bytes(names["CONNECT_SIZE"]))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

        client = await Client.connect(port, wire.Connect("c", session_expiry_interval=60))
        await client.receive()
        packets = (
            wire.Subscribe(1, (Subscription("a", 1),)),
            wire.Disconnect(),
            wire.Publish(Message("a", b"late", 1), 1),
        )
        client.writer.write(b"".join(wire.encode(packet, 5) for packet in packets))
        assert isinstance(await client.receive(), wire.Suback)
        assert await client.reader.read() == b""
        client.writer.close()
        while host.store.connected_count:
            await asyncio.sleep(0.01)
        assert host.store["c"].queue_depth == 0

        greedy = await Client.connect(port, wire.Connect("greedy"))
        await greedy.receive()
        greedy.reader._transport.pause_reading()  # type: ignore[attr-defined]
        made[-1].transport.write(bytes(50_000_000))
        host.feed(SessionKicked("greedy"))
        while host.store.connected_count:
            await asyncio.sleep(0.01)
        greedy.writer.close()
        host.timer.cancel()
        server.close()

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_the_host_of_the_readme_keeps_to_what_it_and_the_client_announced() -> None:
    async def scenario() -> None:
        names = readme_names()
        host = names["Host"]()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: names["Connection"](host), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = await Client.connect(port, wire.Connect("c", topic_alias_maximum=1))
        client.decoder = wire.Decoder(wire.Role.CLIENT, 5, topic_alias_maximum=1)
        connack = await client.receive()
        assert isinstance(connack, wire.Connack)
        assert connack.maximum_packet_size == names["OPTIONS"].maximum_packet_size
        assert connack.topic_alias_maximum == names["OPTIONS"].topic_alias_maximum
        client.send(wire.Subscribe(1, (Subscription("light/#", 0),)))
        assert isinstance(await client.receive(), wire.Suback)
        for topic_name in ("light/kitchen", ""):
            client.send(wire.Publish(Message(topic_name, b"1"), topic_alias=10))
            publish = await client.receive()
            assert isinstance(publish, wire.Publish)
            assert (publish.message.topic_name, publish.topic_alias) == ("light/kitchen", 1)
        client.send(wire.Publish(Message("a", bytes(connack.maximum_packet_size))))
        disconnect = await client.receive()
        assert isinstance(disconnect, wire.Disconnect)
        assert disconnect.reason_code is ReasonCode.PACKET_TOO_LARGE
        client.writer.close()
        while host.store.connected_count:
            await asyncio.sleep(0.01)
        server.close()

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_the_durable_host_of_the_readme_goes_on_where_another_ended(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"

    async def life(scenario: Callable[[Any, int], Awaitable[None]]) -> None:
        names = readme_names()
        host = names["DurableHost"](path)
        port = port_that_stays_free()
        serving = asyncio.ensure_future(names["serve"](host, port=port))
        while not serving.done():
            with contextlib.suppress(ConnectionRefusedError):
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            await asyncio.sleep(0.01)
        await scenario(host, port)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        while host.store.connected_count:
            await asyncio.sleep(0.01)
        if host.timer is not None:
            host.timer.cancel()
        host.journal.close()

    connect = wire.Connect("lamp", clean_start=False, session_expiry_interval=3600)

    async def before(host: Any, port: int) -> None:
        lamp = await Client.connect(port, connect)
        await lamp.receive()
        lamp.send(wire.Subscribe(1, (Subscription("light/+", 1),)))
        await lamp.receive()
        lamp.writer.close()
        await lamp.writer.wait_closed()
        switch = await Client.connect(port, wire.Connect("switch"))
        await switch.receive()
        switch.send(wire.Publish(Message("light/kitchen", b"on", 1), 7))
        assert await switch.receive() == wire.Puback(7)
        switch.writer.close()

    async def after(host: Any, port: int) -> None:
        assert host.timer is not None  # before any event
        lamp = await Client.connect(port, connect)
        connack = await lamp.receive()
        assert isinstance(connack, wire.Connack)
        assert connack.session_present
        publish = await lamp.receive()
        assert isinstance(publish, wire.Publish)
        assert publish.message.payload == b"on"
        lamp.writer.close()

    for scenario in (before, after):
        asyncio.run(asyncio.wait_for(life(scenario), SECONDS))


def test_the_durable_host_of_the_readme_ends_when_a_commit_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Exited(BaseException):
        pass

    def leave(code: int) -> None:
        raise Exited(code)

    monkeypatch.setattr(os, "_exit", leave)
    host = readme_names()["DurableHost"](tmp_path / "sessions.db")
    host.journal.close()
    connection = object()  # which nothing can be written to
    with pytest.raises(Exited, match="1"):
        host.feed(ClientConnected(connection, "lamp", session_expiry_interval=60))
    assert "it is closed" in caplog.text


def test_the_host_of_the_readme_answers_what_is_no_mqtt() -> None:
    async def scenario() -> None:
        names = readme_names()
        host = names["Host"]()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: names["Connection"](host), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        client = await Client.connect(port, wire.Connect("c"))
        await client.receive()
        client.writer.write(b"\xf0\x00" * 3 + b"\x00")
        disconnect = await client.receive()
        assert isinstance(disconnect, wire.Disconnect)
        assert disconnect.reason_code >= 0x80
        assert await client.reader.read() == b""
        client.writer.close()
        server.close()
        while "c" in host.store:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))
