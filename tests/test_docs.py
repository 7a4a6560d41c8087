"""Every example in README.md and in docs/ runs.

The Python blocks of a page run in order, in one namespace: those with prompts as doctests, the
others as they stand.
"""

from __future__ import annotations

import asyncio
import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtt_sessions import ReasonCode, Subscription, wire
from mqtt_sessions.messages import Message

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
    assert {language for language, _, _ in blocks(page)} <= {"python", "sh", "toml", "text"}
    assert page.read_text().count("\n```") % 2 == 0
    assert ">>>" not in FENCE.sub("", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", page.read_text())):
        if "://" not in target:
            assert (page.parent / target).exists(), target


# ---------------------------------------------------------------- the README's host, served

SECONDS = 20  # a slow machine is no fault of the host


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
