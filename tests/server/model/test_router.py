"""Requests to the model server, over real HTTP: history by reference, replicas, queue, abort."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from agent.audio import RATE
from agent.commands import AskModel
from agent.conversation.conversation import Conversation
from agent.conversation.items import Item, Spoken
from agent.errors import ModelError
from agent.model.admission import EarlyStart
from agent.model.output import ChatMessage, Ended, Failed, Output, Sound, Text
from agent.workers import Place
from server.model.router import ModelClient, ModelRouter
from server.settings import Settings, checked
from tests.drivers.website import website
from tests.fakes import Fault, Request, StandIn, stand_in

SPEECH = bytes([1, 0]) * RATE * 3


def settings(*models: StandIn | str, **options: object) -> Settings:
    urls = [model if isinstance(model, str) else model.url for model in models]
    return checked({"model": {"urls": urls, **options}}, "test")


def ask(*messages: ChatMessage, playing_until: float = 0.0) -> AskModel:
    found = list(messages) or [ChatMessage("user", "Hello.")]
    return AskModel("resp_1", found, "audio", None, playing_until=playing_until)


async def listen(model_client: ModelClient, question: AskModel) -> list[Output]:
    async with aclosing(model_client.reply(question)) as outputs:
        return [output async for output in outputs]


def text_of(outputs: list[Output]) -> str:
    return "".join(output.text for output in outputs if isinstance(output, Text))


def failure_of(outputs: list[Output]) -> ModelError:
    [*_, last] = outputs
    assert isinstance(last, Failed), outputs
    return last.error


def run(settings: Settings, body: Callable[[ModelRouter], Awaitable[None]]) -> None:
    async def whole() -> None:
        server = ModelRouter(settings)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(server.watch())
            await body(server)
            watch.cancel()
        await server.close()

    asyncio.run(whole())


async def seen(model: StandIn, until: Callable[[], object]) -> None:
    """Wait for something at the stand-in, which runs in a thread of its own."""
    await asyncio.to_thread(model.wait, until)


def test_a_reply_is_heard_whole():
    async def body(server: ModelRouter) -> None:
        outputs = await listen(server.client(), ask())
        assert text_of(outputs) == "Hello there, how are you?"
        assert b"".join(each.pcm for each in outputs if isinstance(each, Sound)) == (
            model.chats[0].pcm
        )
        assert isinstance(outputs[-1], Ended)

    with stand_in() as model:
        run(settings(model), body)


def test_connections_are_used_again():
    async def body(server: ModelRouter) -> None:
        for _ in range(3):
            await listen(server.client(), ask())

    with stand_in() as model:
        run(settings(model), body)
        assert {chat.connection for chat in model.chats} == {0}


def test_a_prompt_that_must_stay_whole_and_does_not_fit_is_no_request():
    async def body(server: ModelRouter) -> None:
        whole = replace(ask(ChatMessage("user", "word " * 2_000)), truncation="disabled")
        error = failure_of(await listen(server.client(), whole))
        assert error.code == "context_length_exceeded"

    with stand_in() as model:
        run(settings(model, context_tokens=1_000), body)
        assert model.chats == []


class Talk:
    """A spoken conversation, turn by turn."""

    def __init__(self, model_client: ModelClient):
        self.model_client = model_client
        self.conversation = Conversation("secret")
        self.turns = 0

    async def turn(self) -> list[Output]:
        self.turns += 1
        speech = bytes([self.turns, 1]) * RATE * 3
        asked = self.conversation.render("Be brief.", speech, voice=SPEECH)
        outputs = await listen(self.model_client, ask(*asked))
        answer = Spoken()
        for output in outputs:
            match output:
                case Text(text):
                    answer.add_text(text)
                case Sound(pcm):
                    answer.pcm += pcm
                case _:
                    pass
        self.conversation.add(Item(f"u{self.turns}", "user", [Spoken(bytearray(speech))]))
        self.conversation.add(Item(f"a{self.turns}", "assistant", [answer]))
        return outputs


def test_the_tenth_turn_sends_less_than_twice_the_bytes_of_the_first():
    async def body(server: ModelRouter) -> None:
        talk = Talk(server.client())
        for _ in range(10):
            assert isinstance((await talk.turn())[-1], Ended)

    with stand_in(groups=31) as model:
        run(settings(model), body)
    sizes = [len(chat.raw) for chat in model.chats]
    assert len(sizes) == 10
    assert sizes[9] < 2 * sizes[0]
    assert audio_parts(model.chats[9]) == 20


def audio_parts(request: Request) -> int:
    contents = [message["content"] for message in request.body["messages"]]
    return sum(part["type"] == "audio_url" for content in contents for part in content)


def test_a_replica_that_lost_its_cache_costs_one_request_and_no_error():
    async def body(server: ModelRouter) -> None:
        talk = Talk(server.client())
        for turn in range(4):
            if turn == 2:
                model.forget()
            assert isinstance((await talk.turn())[-1], Ended)

    with stand_in() as model:
        run(settings(model), body)
    assert len(model.chats) == 5
    sizes = [len(chat.raw) for chat in model.chats]
    assert sizes[3] > sizes[2]
    assert sizes[4] < sizes[3]


def test_keys_are_new_for_each_session_and_say_nothing():
    with stand_in() as model:
        for secret in ("one", "two"):
            messages = Conversation(secret).render("", SPEECH)
            run(settings(model), lambda server, sent=messages: sure(server, ask(*sent)))
    keys = {chat.body["messages"][0]["content"][0]["uuid"] for chat in model.chats}
    assert len(keys) == 2
    assert min(map(len, keys)) >= 32


async def sure(server: ModelRouter, question: AskModel) -> None:
    assert isinstance((await listen(server.client(), question))[-1], Ended)


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.CUT_FIRST])
def test_what_fails_before_anything_was_heard_is_asked_once_more(fault: Fault):
    async def body(server: ModelRouter) -> None:
        model.faults.append(fault)
        outputs = await listen(server.client(), ask())
        assert text_of(outputs) == "Hello there, how are you?"

    with stand_in() as model:
        run(settings(model), body)


def test_it_is_not_asked_a_third_time():
    async def body(server: ModelRouter) -> None:
        assert failure_of(await listen(server.client(), ask())).code == "model_failed"

    with stand_in(always={Fault.ERROR_BEFORE}) as model:
        run(settings(model), body)
        assert len([each for each in model.chats if b'"hi"' not in each.raw]) == 2


def test_a_refusal_is_not_asked_again():
    async def body(server: ModelRouter) -> None:
        error = failure_of(await listen(server.client(), ask()))
        assert (str(error), error.code) == ("prompt too long", "model_refused")

    with stand_in(always={Fault.ERROR_FIRST}) as model:
        run(settings(model), body)
        assert len(model.chats) == 1


@pytest.mark.parametrize(
    ("kind", "said", "message", "code"),
    [
        ("text/html", b"<h1>Log in</h1>", "is text/html: <h1>Log in</h1>", "model_bad_reply"),
        ("application/json", b'{"detail":"gone"}', 'json: {"detail":"gone"}', "model_bad_reply"),
        ("application/json", b'{"error":{"message":"no GPU"}}', "no GPU", "model_refused"),
    ],
)
def test_what_is_no_stream_is_named_by_its_type_and_first_words(
    kind: str, said: bytes, message: str, code: str
):
    async def body(server: ModelRouter) -> None:
        error = failure_of(await listen(server.client(), ask()))
        assert str(error).endswith(message)
        assert error.code == code

    with website(200, kind, said) as url:
        run(settings(url), body)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.ERROR_MIDWAY, "model_failed"),
        (Fault.CUT_MIDWAY, "model_cut_off"),
        (Fault.WRONG_JSON, "model_bad_chunk"),
        (Fault.WRONG_BASE64, "model_bad_audio"),
    ],
)
def test_what_was_heard_of_a_broken_reply_is_not_said_again(fault: Fault, code: str):
    async def body(server: ModelRouter) -> None:
        model.faults.append(fault)
        outputs = await listen(server.client(), ask())
        assert failure_of(outputs).code == code
        assert sum(isinstance(output, Sound) for output in outputs) == 1
        assert isinstance((await listen(server.client(), ask()))[-1], Ended)

    with stand_in() as model:
        run(settings(model), body)


@pytest.mark.parametrize(
    "fault", [Fault.SILENT, Fault.STALL_FIRST, Fault.STALL_MIDWAY, Fault.SLOW_FIRST_BYTE]
)
def test_closing_a_reply_closes_its_connection_at_once(fault: Fault):
    async def body(server: ModelRouter) -> None:
        model.faults.append(fault)
        reply = asyncio.create_task(listen(server.client(), ask()))
        await seen(model, lambda: model.chats)
        if fault is Fault.STALL_MIDWAY:
            await seen(model, lambda: model.chats[0].sent_at)
        reply.cancel()
        await asyncio.wait([reply])
        await seen(model, lambda: model.chats[0].ended)
        assert isinstance((await listen(server.client(), ask()))[-1], Ended)

    with stand_in(slow_ms=60_000) as model:
        run(settings(model), body)
        assert [chat.ended for chat in model.chats] == ["closed", "finished"]


def test_a_session_stays_on_its_replica_and_sessions_spread():
    async def body(server: ModelRouter) -> None:
        for model_client in (server.client(), server.client()):
            for _ in range(3):
                await listen(model_client, ask())

    with stand_in() as one, stand_in() as other:
        run(settings(one, other), body)
        assert (len(one.chats), len(other.chats)) == (3, 3)


def test_a_session_moves_with_all_its_speech_when_its_replica_dies():
    async def body(server: ModelRouter) -> None:
        talk = Talk(server.client())
        await talk.turn()
        home, other = (one, two) if one.chats else (two, one)
        home.always = frozenset({Fault.ERROR_BEFORE})
        for _ in range(2):
            assert isinstance((await talk.turn())[-1], Ended)
        assert len(other.chats) == 2
        assert len(other.chats[1].raw) < len(other.chats[0].raw)

    with stand_in() as one, stand_in() as two:
        run(settings(one, two), body)


def test_a_replica_that_nobody_serves_is_passed_over():
    async def body(server: ModelRouter) -> None:
        for _ in range(4):
            await sure(server, ask())

    with stand_in() as model:
        run(settings("http://127.0.0.1:9/v1", model), body)
        assert len(model.chats) == 4


def test_a_replica_that_failed_is_probed_until_it_answers():
    async def body(server: ModelRouter) -> None:
        model.always = frozenset({Fault.ERROR_BEFORE})
        model_client = server.client()
        failure_of(await listen(model_client, ask()))
        await seen(model, lambda: probes(model))
        model.always = frozenset()
        await seen(model, lambda: any(each.ended == "finished" and each.body
                                      for each in probes(model)))  # fmt: skip

    with stand_in() as model:
        run(settings(model), body)
        assert probes(model)[-1].body["modalities"] == ["text"]


def probes(model: StandIn) -> list[Request]:
    return [each for each in model.chats if b'"hi"' in each.raw]


def test_who_runs_dry_first_is_answered_first():
    async def body(server: ModelRouter) -> None:
        now = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            waits = [0.0, now + 30, now + 10, now + 20]
            for number, until in enumerate(waits):
                question = ask(ChatMessage("user", f"number {number}"), playing_until=until)
                tasks.create_task(listen(server.client(), question))
                await asyncio.sleep(0)

    with stand_in(first_chunk_ms=20) as model:
        run(settings(model), body)
        texts = [chat.body["messages"][0]["content"][0]["text"] for chat in model.chats]
        overlapping = [
            chat for chat, after in zip(model.chats, model.chats[1:], strict=False)
            if chat.ended_at is None or chat.ended_at > after.began_at
        ]  # fmt: skip
    assert texts == ["number 0", "number 2", "number 3", "number 1"]
    assert not overlapping


def test_a_session_that_would_wait_too_long_is_told():
    async def body(server: ModelRouter) -> None:
        model.faults.append(Fault.STALL_FIRST)
        running = asyncio.create_task(listen(server.client(), ask()))
        await seen(model, lambda: model.chats)
        error = failure_of(await listen(server.client(), ask()))
        assert error.code == "model_busy"
        assert str(error) == "The model is busy; try again in about 4 s."
        running.cancel()
        await asyncio.wait([running])
        await sure(server, ask())

    with stand_in() as model:
        run(settings(model, longest_wait_ms=1_000), body)


def test_a_wait_that_was_estimated_too_short_ends_too():
    async def body(server: ModelRouter) -> None:
        model_client = server.client()
        for _ in range(60):
            await listen(model_client, ask())
        model.faults.append(Fault.STALL_FIRST)
        running = asyncio.create_task(listen(server.client(), ask()))
        await seen(model, lambda: len(model.chats) == 61)
        assert failure_of(await listen(server.client(), ask())).code == "model_busy"
        running.cancel()
        await asyncio.wait([running])

    with stand_in() as model:
        run(settings(model, longest_wait_ms=200), body)


def test_a_session_that_gave_up_waiting_does_not_hold_the_queue():
    async def body(server: ModelRouter) -> None:
        model.faults.append(Fault.STALL_FIRST)
        running = asyncio.create_task(listen(server.client(), ask()))
        await seen(model, lambda: model.chats)
        waiting = asyncio.create_task(listen(server.client(), ask()))
        last = asyncio.create_task(listen(server.client(), ask()))
        await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        assert isinstance((await last)[-1], Ended)
        assert len(model.chats) == 2

    with stand_in() as model:
        run(settings(model), body)


def test_a_replica_makes_as_many_replies_at_once_as_it_can():
    async def body(server: ModelRouter) -> None:
        model_client = server.client()
        await listen(model_client, ask())
        model.faults.extend([Fault.STALL_FIRST] * 2)
        first = asyncio.create_task(listen(server.client(), ask()))
        await seen(model, lambda: len(model.chats) == 2)
        assert not model_client.is_busy()
        second = asyncio.create_task(listen(server.client(), ask()))
        await seen(model, lambda: len(model.chats) == 3)
        assert model_client.is_busy()
        third = asyncio.create_task(listen(server.client(), ask()))
        await asyncio.sleep(0)
        second.cancel()
        assert isinstance((await third)[-1], Ended)
        assert len(model.chats) == 4
        first.cancel()
        await asyncio.wait([first, second])

    with stand_in(at_once=4) as model:
        run(settings(model, replies_at_once=2), body)


def test_one_of_several_processes_takes_its_share_of_the_seats():
    async def whole() -> None:
        server = ModelRouter(settings(model, replies_at_once=3), Place(1, 2))
        model_client = server.client()
        await listen(model_client, ask())
        model.faults.append(Fault.STALL_FIRST)
        other = asyncio.create_task(listen(server.client(), ask()))
        await seen(model, lambda: len(model.chats) == 2)
        assert model_client.is_busy()
        other.cancel()
        await asyncio.wait([other])
        await server.close()

    with stand_in(at_once=3) as model:
        asyncio.run(whole())


def test_a_reply_that_was_aborted_is_over_before_its_session_has_another():
    async def body(server: ModelRouter) -> None:
        model_client = server.client()
        model.faults.append(Fault.STALL_FIRST)
        aborted = asyncio.create_task(listen(model_client, ask()))
        await seen(model, lambda: model.chats)
        again = asyncio.create_task(listen(model_client, ask()))
        await sure(server, ask())
        assert len(model.chats) == 2
        aborted.cancel()
        assert isinstance((await again)[-1], Ended)

    with stand_in(at_once=4) as model:
        run(settings(model, replies_at_once=4), body)


@pytest.mark.parametrize("is_kept", [False, True])
def test_an_early_start_gives_its_seat_to_a_turn_that_is_over(is_kept: bool):
    async def body(server: ModelRouter) -> None:
        model.faults.extend([Fault.STALL_FIRST] * 2)
        running = asyncio.create_task(listen(server.client(), ask()))
        await seen(model, lambda: model.chats)
        hesitant, wanted = server.client(), asyncio.Event()
        early = EarlyStart(wanted.set)
        prepared = asyncio.create_task(listen_early(hesitant, early))
        await seen(model, lambda: len(model.chats) == 2)
        if is_kept:
            hesitant.keep(early)
        urgent = asyncio.create_task(listen(server.client(), ask()))
        await asyncio.sleep(0)
        assert wanted.is_set() != is_kept
        prepared.cancel()
        assert isinstance((await urgent)[-1], Ended)
        running.cancel()
        await asyncio.wait([running, prepared])

    with stand_in(at_once=4) as model:
        run(settings(model, replies_at_once=2), body)


async def listen_early(model_client: ModelClient, early: EarlyStart) -> list[Output]:
    async with aclosing(model_client.reply(ask(), early)) as outputs:
        return [output async for output in outputs]


def test_a_replica_that_fails_has_all_its_seats_free_again():
    async def body(server: ModelRouter) -> None:
        async with asyncio.TaskGroup() as tasks:
            failing = [tasks.create_task(listen(server.client(), ask())) for _ in range(5)]
        assert {failure_of(await each).code for each in failing} == {"model_failed"}
        model.always = frozenset({Fault.STALL_FIRST})
        running = [asyncio.create_task(listen(server.client(), ask())) for _ in range(3)]
        await seen(model, lambda: len(talks()) == 2 * 5 + 3)
        for each in running:
            each.cancel()
        await asyncio.wait(running)

    def talks() -> list[Request]:
        return [each for each in model.chats if b'"hi"' not in each.raw]

    with stand_in(always={Fault.ERROR_BEFORE}, at_once=4) as model:
        run(settings(model, replies_at_once=3), body)


def test_the_reply_is_limited_by_client_configuration_and_room():
    def limits(context: int, most: int | None) -> Any:
        question = AskModel("resp_1", [ChatMessage("user", pcm=SPEECH, key="k")], "audio", most)
        with stand_in() as model:
            run(settings(model, context_tokens=context), lambda server: sure(server, question))
        return json.loads(model.chats[0].raw)["sampling_params_list"][0]["max_tokens"]

    assert limits(8_192, None) == 3_200
    assert limits(8_192, 50) == 50
    assert limits(1_000, None) == 1_000 - 19 - 2 - 8
