"""A plain client of the model server's wire, which sees every byte of it."""

import base64
import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.audio import wav

DATA = Path(__file__).parents[1] / "data"

Json = dict[str, Any]

CLEAN = {
    "LJ001-0002.wav": "in being comparatively modern.",
    "LJ001-0008.wav": "has never been surpassed.",
    "LJ001-0013.wav": "than in the same operations with ugly ones.",
    "help_me.wav": "Can you help me with something?",
    "hi_how_are_you.wav": "Hi, how are you?",
    "weather_question.wav": "What is the weather in Paris?",
    "hello_world.wav": "Hello world.",
}
"""Recordings without noise, and what is said in them."""


def recording(name: str) -> bytes:
    return (DATA / name).read_bytes()


def audio_part(file: bytes, uuid: str | None = None) -> Json:
    url = "data:audio/wav;base64," + base64.b64encode(file).decode()
    part: Json = {"type": "audio_url", "audio_url": {"url": url}}
    return part if uuid is None else {**part, "uuid": uuid}


def user(*content: Json | str) -> Json:
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return {"role": "user", "content": parts}


class Stream:
    """An open response, read event by event."""

    def __init__(self, connection: http.client.HTTPConnection):
        self._connection = connection
        self.response = connection.getresponse()

    def events(self) -> Iterator[str]:
        for line in self.response:
            if line.startswith(b"data: "):
                yield line.decode().removeprefix("data: ").strip()
        self.close()

    def chunks(self) -> Iterator[Json]:
        for event in self.events():
            if event != "[DONE]":
                yield json.loads(event)

    def close(self) -> None:
        """Abort: nothing else ends a reply."""
        self.response.close()
        self._connection.close()


class Client:
    """Talks to one model server.

    Args:
        timeout_s: How long any single read may take.
    """

    def __init__(self, url: str, timeout_s: float = 60.0):
        self._address = urlsplit(url).netloc
        self._timeout_s = timeout_s

    def open(self, body: Json, headers: dict[str, str] | None = None) -> Stream:
        return Stream(self._send("/v1/chat/completions", json.dumps(body).encode(), headers))

    def stream(self, *messages: Json, **options: Any) -> list[Json]:
        return list(self.open({"stream": True, "messages": messages, **options}).chunks())

    def whole(self, *messages: Json, **options: Any) -> Json:
        status, body = self.post({"messages": messages, **options})
        assert status == 200, body
        return body

    def says(self, *messages: Json) -> str:
        reply = self.whole(*messages, modalities=["text"])
        return reply["choices"][0]["message"]["content"]

    def post(self, body: Json | bytes) -> tuple[int, Json]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return _read(self._send("/v1/chat/completions", raw, None))

    def get(self, path: str) -> tuple[int, Json]:
        connection = http.client.HTTPConnection(self._address, timeout=self._timeout_s)
        connection.request("GET", path)
        return _read(connection)

    def _send(
        self, path: str, body: bytes, headers: dict[str, str] | None
    ) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._address, timeout=self._timeout_s)
        about = {"Content-Type": "application/json", **(headers or {})}
        connection.request("POST", path, body, about)
        return connection


def _read(connection: http.client.HTTPConnection) -> tuple[int, Json]:
    with closing(connection), connection.getresponse() as response:
        return response.status, json.loads(response.read())


def text_of(chunks: list[Json]) -> str:
    texts = [each for each in chunks if each.get("modality") == "text"]
    return "".join(each["choices"][0]["delta"]["content"] for each in texts)


def sounds_of(chunks: list[Json]) -> list[bytes]:
    sounds = [each for each in chunks if each.get("modality") == "audio"]
    return [base64.b64decode(each["choices"][0]["delta"]["content"]) for each in sounds]


def silence(seconds: float) -> bytes:
    return wav(bytes(round(seconds * 24_000) * 2))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def wrong_words(expected: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]
