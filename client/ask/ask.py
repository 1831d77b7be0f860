"""`mimo-live ask`: one request straight to the model server, no conversation server needed.

The reply's text goes to standard output as it comes and nothing else does, so that scripts can
use it; measures and errors go to standard error.
"""

import argparse
import asyncio
import json
import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from agent.audio import wav
from agent.errors import AgentError
from agent.keys import MODEL as MODEL_KEY
from agent.model.output import Output, Sound, Text
from agent.model.request import chat_request
from agent.realtime.config import Json
from agent.shown import escaped, printable
from client.ask.answer import Answer, ask
from client.ask.messages import InputError, message_file, spoken, system, written
from client.http import routed
from client.keys import authorization, key_of_environment, key_of_file
from client.processes import MODEL_URL
from client.sound.native import unheard_libraries
from client.sound.play_reply import ReplyPlayer

FAILED = 1
"""Exit status."""
MODEL = "MiMo-Audio-7B-Instruct"
CONNECT_TIMEOUT_S = 10.0
"""A network that is slow connects within it; longer only delays saying that nobody is there."""

EXAMPLES = """\
examples:
  mimo-live ask --text "Who are you?"
  mimo-live ask --tts "Good morning." --voice tests/data/hello.wav --save answers
  mimo-live ask --audio tests/data/yes.wav tests/data/no.wav --text "Are these the same?"
  mimo-live ask --audio tests/data/weather_question.wav --concurrency 4 --json

If no model server is running yet, start one in another terminal: `mimo-live model`

sound: a path, or a data:, http(s):// or file:// URL, of WAV, MP3, Ogg, Opus, FLAC or M4A
exit status: 0 every reply was complete, 1 one was not or could not be requested, 2 wrong usage
"""


class Options(argparse.Namespace):
    url: str
    model: str
    message_json: Path | None
    text: str | None
    tts: str | None
    audio: list[str] | None
    system: str
    voice: str
    stream: bool
    concurrency: int
    save: Path | None
    play: bool
    api_key_file: Path | None
    json: bool
    max_tokens: int
    timeout: float


def main(argv: list[str]) -> int:
    """Ask; return the exit status that `--help` explains."""
    options = _parse(argv)
    try:
        key = _key(options)
        body = _body(options)
        if options.save is not None:
            _make_folder(options.save)
        with unheard_libraries() if options.play else nullcontext():
            answers = asyncio.run(_ask_all(options, key, body))
    except AgentError as error:
        print(f"mimo-live ask: {printable(str(error))}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Whoever read the text has enough of it; Python must not complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return FAILED if any(answer.error for answer in answers) else 0


def _body(options: Options) -> Json:
    """Build the request; reads and fetches all that it names."""
    body = chat_request([], "audio", options.max_tokens, options.model)
    messages = [*system(options.system, options.voice), *_question(options)]
    return body | {"messages": messages, "stream": options.stream}


def _question(options: Options) -> list[Json]:
    if options.message_json is not None:
        return message_file(options.message_json)
    if options.tts is not None:
        return written(f"Please convert this text to speech: {options.tts}")
    if options.audio is not None:
        return spoken(options.audio, options.text or "")
    return written(options.text or "")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--save {folder}: {error.strerror}") from error


def _key(options: Options) -> str | None:
    if options.api_key_file is not None:
        return key_of_file(options.api_key_file)
    return key_of_environment(MODEL_KEY)


async def _ask_all(options: Options, key: str | None, body: Json) -> list[Answer]:
    url = options.url + "/chat/completions"
    timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)
    sound = ReplyPlayer() if options.play else None

    async def one(number: int) -> Answer:
        show = _Show(options, sound)
        answer = await ask(
            client, url, body, key=key, number=number, timeout_s=options.timeout, tell=show.output
        )
        show.end(answer)
        return answer

    async with httpx2.AsyncClient(
        transport=routed(), timeout=timeout, follow_redirects=True, headers=authorization(key)
    ) as client:
        # What is measured later is the model server alone, not the way there and its first use.
        with suppress(httpx2.HTTPError):
            await client.get(options.url + "/models", timeout=CONNECT_TIMEOUT_S)
        every = asyncio.gather(*(one(number + 1) for number in range(options.concurrency)))
        if sound is None:
            return await every
        answers, _ = await asyncio.gather(every, sound.play())
        return answers


class _Show:
    """Shows one answer: text and sound as they come, then its measures."""

    def __init__(self, options: Options, sound: ReplyPlayer | None):
        self._options = options
        self._sound = sound
        # Answers that come at the same time would mix: theirs are shown when they are whole.
        self._live = options.concurrency == 1 and not options.json

    def output(self, output: Output) -> None:
        match output:
            case Text(text) if self._live:
                print(printable(text), end="", flush=True)
            case Sound(pcm) if self._sound is not None:
                self._sound.push(pcm)
            case _:
                pass

    def end(self, answer: Answer) -> None:
        if self._sound is not None:
            self._sound.end()
        saved = self._save(answer)
        name = f"[{answer.number}] " if self._options.concurrency > 1 else ""
        if self._options.json:
            print(_as_json(answer, saved), flush=True)
        elif answer.text:
            print("" if self._live else name + printable(answer.text), flush=True)
        if answer.error is not None:
            print(f"mimo-live ask: {name}{printable(str(answer.error))}", file=sys.stderr)
        if not self._options.json and (answer.text or answer.pcm):
            where = f", saved as {saved}" if saved else ""
            print(name + _in_words(answer.measures()) + where, file=sys.stderr)

    def _save(self, answer: Answer) -> Path | None:
        if self._options.save is None or not answer.pcm:
            return None
        path = self._options.save / f"reply-{answer.number}.wav"
        try:
            path.write_bytes(wav(answer.pcm))
        except OSError as error:
            answer.error = answer.error or f"{path}: {error.strerror}"
            return None
        return path


def _as_json(answer: Answer, saved: Path | None) -> str:
    measures = {
        name: None if value is None else round(value, 4)
        for name, value in answer.measures().items()
    }
    about = {"request": answer.number, "text": answer.text, "saved": saved and str(saved)}
    found = {**about, "error": answer.error, **measures}
    return escaped(json.dumps(found, ensure_ascii=not _speaks_unicode()))


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _in_words(measures: dict[str, float | None]) -> str:
    words = {
        "first_text_s": "first text {:.3f} s",
        "first_audio_s": "first audio {:.3f} s",
        "audio_s": "sound {:.2f} s",
        "rtf": "RTF {:.2f}",
        "gap_p50_s": "gaps p50 {:.3f} s",
        "gap_max_s": "max {:.3f} s",
        "playout_delay_s": "playout delay needed {:.3f} s",
        "total_s": "total {:.3f} s",
    }
    found = [(words[name], value) for name, value in measures.items() if value is not None]
    return ", ".join(word.format(value) for word, value in found)


def _parse(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="mimo-live ask",
        description="Send one request to the model server, without a conversation server.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--url", type=_url, default=MODEL_URL, help="the model server's API (%(default)s)")
    add("--model", default=MODEL, help="the model's name there (%(default)s)")
    add("--api-key-file", type=Path, metavar="FILE", help=f"its API key; else {MODEL_KEY}")
    add(
        "--message-json",
        type=Path,
        metavar="FILE",
        help="send the messages of this file: {messages: …}",
    )
    add("--text", help="text to send, alone or about --audio")
    add("--tts", metavar="TEXT", help="text to read aloud")
    add("--audio", nargs="+", metavar="FILE", help="sound to send, one message per file")
    add("--system", default="", metavar="TEXT", help="system prompt")
    add("--voice", default="", metavar="FILE", help="sample of the voice to speak with")
    add("--stream", action=argparse.BooleanOptionalAction, default=True, help="stream the reply")
    add(
        "--concurrency",
        type=_count,
        default=1,
        metavar="N",
        help="send the request N times at once",
    )
    add("--save", type=Path, metavar="DIR", help="save the sound: a WAV file for each reply")
    add("--play", action="store_true", help="play the sound as it arrives")
    add("--json", action="store_true", help="one JSON object for each reply, for scripts")
    add("--max-tokens", type=_count, default=3200, metavar="N", help="longest reply, in tokens")
    add(
        "--timeout",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds to wait for a whole reply",
    )
    options = parser.parse_args(argv, Options())
    alone = [options.message_json, options.tts, options.audio or options.text]
    if sum(each is not None for each in alone) != 1:
        parser.error(
            "give one of --message-json, --tts, --text, and --audio (which may come with --text)"
        )
    for name in ("text", "tts", "system", "model"):
        if not _is_unicode(getattr(options, name) or ""):
            parser.error(f"--{name}: not valid {sys.getfilesystemencoding()}")
    if options.play and options.concurrency > 1:
        parser.error("--play cannot be combined with --concurrency")
    return options


def _is_unicode(text: str) -> bool:
    """False for bytes of an argument that are no characters; Python keeps them as surrogates."""
    return text == text.encode(errors="replace").decode()


def _url(text: str) -> str:
    wrong = argparse.ArgumentTypeError(f"{text!a} is not an http:// or https:// URL")
    try:
        parts = urlsplit(text)
        is_usable = parts.port != 0 and httpx2.URL(text).host != "" and _is_unicode(text)
    except (ValueError, httpx2.InvalidURL):
        raise wrong from None
    if not is_usable or parts.scheme not in {"http", "https"}:
        raise wrong
    return text.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)
