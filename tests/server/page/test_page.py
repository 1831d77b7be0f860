"""The page in a real browser, against a scripted server on a real socket."""

import base64
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import expect

from agent.audio import RATE, SAMPLE_BYTES, Samples, milliseconds, read_wav, samples_in
from client.sound.clip import end_of_speech
from tests.agent.test_words import CASES
from tests.drivers.page import CHROMIUM, Caption, Chromium, Permission, TalkPage
from tests.drivers.scripted_server import AMPLITUDE, LARGEST_STEP, Peer, ScriptedServer

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]

QUESTION = Path(__file__).parents[2] / "data" / "weather_question.wav"


def spans_ms(sound: npt.NDArray[np.int16]) -> list[float]:
    """How long each span of sound lasts; 10 ms of silence separate two."""
    sounding = np.flatnonzero(sound)
    gaps = np.flatnonzero(np.diff(sounding) > samples_in(10))
    starts = np.concatenate([sounding[:1], sounding[gaps + 1]])
    ends = np.concatenate([sounding[gaps], sounding[-1:]])
    return [1000 * float(length) / RATE for length in ends - starts + 1]


def envelope(pcm: bytes) -> npt.NDArray[np.float64]:
    """The level of every 20 ms."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    frames = samples[: len(samples) // 480 * 480].reshape(-1, 480)
    return np.sqrt((frames**2).mean(axis=1))


def loudest(pcm: bytes) -> int:
    return int(np.abs(np.frombuffer(pcm, "<i2").astype(int)).max())


def loud_frames(peer: Peer, count: int) -> Iterator[bool]:
    """Of so many frames of the microphone, whether each is loud."""
    for _ in range(count):
        yield loudest(base64.b64decode(peer.expect("input_audio_buffer.append")["audio"])) > 1000


def played(talk: TalkPage) -> Samples:
    return np.frombuffer(talk.played(), "<i2")


@contextmanager
def call(
    server: ScriptedServer,
    browser: Chromium,
    *,
    token: str = "",
    permission: Permission = "unasked",
) -> Generator[tuple[TalkPage, Peer]]:
    """Open the page and call, with a microphone that is silent."""
    with browser.page(server.url, permission=permission) as talk:
        talk.press_talk()
        peer = server.greet(token=token)
        talk.wait_for_phase("listening")
        yield talk, peer


def test_all_that_the_agent_says_is_played_once_and_captioned(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, peer):
        peer.begin("one")
        peer.speak("one", 200, "Good ")
        peer.speak("one", 40, "morning")
        peer.end("one")
        talk.wait_for_phase("agent")
        talk.wait_for_phase("listening")
        talk.wait_for_silence()
        assert spans_ms(played(talk)) == pytest.approx([240], abs=0.1)
        assert talk.captions() == [Caption("Agent", "Good morning", interrupted=False)]
        talk.press_talk()
        talk.wait_for_phase("idle")


def test_a_cut_ends_at_the_sample_that_the_server_is_told_and_late_sound_is_dropped(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, peer):
        peer.begin("one")
        peer.speak("one", 8000)
        talk.wait_for_phase("agent")
        peer.hear_onset()
        peer.speak("one", 1000, "late")
        peer.end("one", "cancelled")
        truncate = peer.expect("conversation.item.truncate")
        talk.wait_for_silence()
        peer.send({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 100})
        peer.say("two", 400)
        talk.wait_for_phase("agent")
        talk.wait_for_phase("listening")
        talk.wait_for_silence()

        sound = played(talk)
        assert truncate["item_id"] == "item_one"
        assert spans_ms(sound) == pytest.approx([truncate["audio_end_ms"], 400], abs=1)
        assert np.abs(np.diff(sound.astype(int))).max() <= LARGEST_STEP
        assert talk.captions() == [
            Caption("Agent", "", interrupted=True),
            Caption("Agent", "", interrupted=False),
        ]


def test_a_chunk_that_comes_too_late_makes_a_pause_without_a_click(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, peer):
        peer.begin("one")
        peer.speak("one", 200)
        talk.wait_for_phase("agent")
        talk.wait_for_silence()
        # It goes on once it is all there.
        peer.speak("one", 100)
        peer.speak("one", 60)
        peer.end("one")
        talk.wait_for_phase("listening")
        talk.wait_for_silence()

        sound = played(talk)
        assert spans_ms(sound) == pytest.approx([200, 160], abs=0.1)
        assert np.abs(np.diff(sound.astype(int))).max() <= LARGEST_STEP


@pytest.mark.realtime
def test_the_agent_lowers_its_voice_waits_and_goes_on_at_the_sample_where_it_stopped(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser, token="one") as (talk, peer):
        peer.begin("one")
        peer.speak("one", 2000)
        peer.end("one")
        talk.wait_for_phase("agent")
        reports = [peer.expect("x_mimo.playout")]
        peer.send({"type": "x_mimo.duck", "response_id": "one"})
        reports += [peer.expect("x_mimo.playout") for _ in range(3)]
        peer.send({"type": "x_mimo.hold", "response_id": "one"})
        talk.wait_for_silence()
        peer.send({"type": "x_mimo.restore", "response_id": "one"})
        talk.wait_for_phase("listening")
        talk.wait_for_silence()
        while reports[-1]["audio_end_samples"] != samples_in(2000):
            reports.append(peer.expect("x_mimo.playout"))

        sound = played(talk)
        spans = spans_ms(sound)
        assert len(spans) == 2
        assert sum(spans) == pytest.approx(2000, abs=0.2)
        assert np.abs(np.diff(sound.astype(int))).max() <= LARGEST_STEP
        loudness = envelope(sound.tobytes()) * np.sqrt(2) / AMPLITUDE
        assert np.count_nonzero(np.abs(loudness - 10 ** (-15 / 20)) < 0.005) >= 8
        assert np.count_nonzero(np.abs(loudness - 1) < 0.005) >= 30
        assert {report["item_id"] for report in reports} == {"item_one"}


def test_a_server_without_our_extensions_is_asked_again_without_them(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        talk.press_talk()
        peer = server.accept()
        peer.send({"type": "session.created", "session": {"id": "sess_1", "model": "a tone"}})
        update = peer.expect("session.update")["session"]
        ours = ("duck", "marks", "playout", "resume", "echo_cancelled")
        assert update["x_mimo"] == dict.fromkeys(ours, True)
        for param, left in (
            ("session.x_mimo.resume", {each: True for each in ours if each != "resume"}),
            ("session.x_mimo", None),
        ):
            error = {"code": "unknown_parameter", "param": param, "message": "No."}
            peer.send({"type": "error", "error": error})
            assert peer.expect("session.update")["session"].get("x_mimo") == left
        peer.say("one", 400)
        talk.wait_for_phase("agent")
        assert talk.page.locator("#problem").is_hidden()


def test_after_a_lost_connection_the_agent_goes_on_where_it_was(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser, token="first") as (talk, peer):
        peer.begin("one")
        peer.speak("one", 600, "All of ")
        peer.send({"type": "rate_limits.updated", "event_id": "event_7"})
        talk.wait_for_phase("agent")
        peer.cut_line()
        again = server.accept()
        assert again.query == {"resume": ["first"], "after": ["event_7"]}
        again.greet(token="second")
        start = {"item_id": "item_one", "audio_start_samples": samples_in(400)}
        again.send({"type": "x_mimo.resumed", **start})
        again.speak("one", 800, "it", from_ms=400)
        again.end("one")
        talk.wait_for_phase("listening")
        talk.wait_for_silence()
        sound = played(talk)
        assert sum(spans_ms(sound)) == pytest.approx(1200, abs=0.2)
        assert np.abs(np.diff(sound.astype(int))).max() <= LARGEST_STEP
        assert talk.captions() == [Caption("Agent", "All of it", interrupted=False)]


TEXT = "One two three four five six seven eight nine ten."


def heard_words(captions: list[Caption]) -> int:
    """How many words of the text the only caption shows; it is cut after a whole one."""
    [caption] = captions
    assert caption.interrupted
    assert TEXT.startswith(caption.text)
    assert (caption.text + " " in TEXT) or not caption.text
    return len(caption.text.split())


@pytest.mark.parametrize("how", ["barge-in", "escape", "hang up", "replaced"])
def test_an_interrupted_answer_shows_the_words_that_were_heard(
    server: ScriptedServer, browser: Chromium, how: str
):
    with call(server, browser, token="first") as (talk, peer):
        peer.begin("one")
        # A word for each second; then text whose sound is still to come.
        for number, word in enumerate(TEXT.split()[:6]):
            peer.speak("one", 1000, f"{word} ", from_ms=1000 * number)
        peer.speak("one", 0, "seven eight nine ten.")
        while (report := peer.expect("x_mimo.playout"))["audio_end_samples"] < samples_in(2200):
            pass
        match how:
            case "barge-in":
                peer.hear_onset()
                peer.end("one", "cancelled")
            case "escape":
                talk.page.keyboard.press("Escape")
            case "hang up":
                talk.press_talk()
                talk.wait_for_phase("idle")
            case _:
                peer.cut_line()
                server.accept().refuse(4004, "no such session")
                server.greet("sess_2")
        talk.wait_for_interruption()
        assert 2 <= heard_words(talk.captions()) <= 5, report


def test_an_answer_that_was_never_heard_is_not_shown(server: ScriptedServer, browser: Chromium):
    with call(server, browser, token="first") as (talk, peer):
        peer.begin("one")
        peer.speak("one", 0, "Unheard")
        talk.wait_for_entry(1)
        peer.hear_onset()
        peer.end("one", "cancelled")
        talk.page.locator("#log .entry").wait_for(state="detached")


HEARD = """
async ({ pieces, received, heard }) => {
  const { Pieces } = await import("/page/heard.js");
  const answer = new Pieces();
  let text = "";
  for (const [samples, more] of pieces) {
    answer.add(samples, text);
    text += more;
  }
  return answer.heard(text, received, heard);
}
"""


def test_words_heard_are_told_as_the_server_tells_them_in_any_script(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        for case in CASES:
            assert talk.page.evaluate(HEARD, case._asdict()) == case.kept


def come_back(talk: TalkPage, server: ScriptedServer) -> Peer:
    """Let a reloaded page call again; the browser may let it make no sound before a click."""
    while (peer := server.accepted(0.3)) is None:
        if "only after a click" in talk.page.locator("#problem").inner_text():
            talk.press_talk()
            return server.accept()
    return peer


def test_a_reload_goes_on_with_the_captions_and_with_what_was_not_heard(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser, token="first") as (talk, peer):
        peer.say("zero", 40, "Well.")
        peer.begin("one")
        peer.speak("one", 8000, "A long answer")
        talk.wait_for_phase("agent")
        talk.page.reload()
        again = come_back(talk, server)
        assert again.query == {"resume": ["first"]}
        again.greet(token="second")
        start = {"item_id": "item_one", "audio_start_samples": samples_in(7000)}
        again.send({"type": "x_mimo.resumed", **start})
        again.speak("one", 1000, from_ms=7000)
        again.end("one")
        talk.wait_for_phase("listening")
        talk.wait_for_silence()
        assert spans_ms(played(talk)) == pytest.approx([1000], abs=0.1)
        words = [caption.text for caption in talk.captions()]
        assert words == ["Well.", "A long answer"]
        while again.expect("x_mimo.playout")["audio_end_samples"] != samples_in(8000):
            pass


def test_a_session_that_is_gone_is_replaced_and_the_page_says_so(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser, token="first") as (talk, peer):
        peer.say("one", 2_000, "Before")
        talk.wait_for_phase("agent")
        talk.wait_for_phase("listening")
        peer.cut_line()
        server.accept().refuse(4004, "no such session")
        other = server.accept()
        assert other.query == {}
        other.greet("sess_2")
        talk.wait_for_problem("no longer has the conversation above")
        assert talk.page.locator("#log hr").count() == 1
        other.say("two", 2_000, "After")
        talk.wait_for_phase("agent")
        assert [caption.text for caption in talk.captions()] == ["Before", "After"]


def test_a_blocked_microphone_is_said_and_one_can_type(server: ScriptedServer, browser: Chromium):
    with browser.page(server.url, permission="denied") as talk:
        talk.press_talk()
        talk.wait_for_problem("Microphone access is blocked")
        talk.type("Hello?")
        peer = server.greet()
        create = peer.expect("conversation.item.create")
        peer.expect("response.create")
        content = [{"type": "input_text", "text": "Hello?"}]
        item = {"type": "message", "role": "user", "content": content}
        assert create["item"] == item | {"id": create["item"]["id"]}


def test_who_began_by_typing_turns_the_microphone_on_with_a_button(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        browser.say(read_wav(QUESTION.read_bytes(), 48_000))
        talk.type("Hello?")
        peer = server.greet()
        peer.expect("response.create")
        peer.say("one", 2_000, "Hello.")
        talk.wait_for_phase("waiting")
        assert not talk.sent_of("input_audio_buffer.append")
        button = talk.page.get_by_role("button", name="Turn on microphone")
        button.click()
        assert any(loud_frames(peer, 200))
        talk.wait_for_phase("listening")
        assert button.is_hidden()


def written(peer: Peer) -> tuple[str, str]:
    """Id and text of the next message, for which an answer is asked."""
    item = peer.expect("conversation.item.create")["item"]
    peer.expect("response.create")
    return item["id"], item["content"][0]["text"]


@pytest.mark.parametrize("is_resumed", [True, False])
def test_what_is_typed_while_reconnecting_is_shown_at_once_and_sent(
    server: ScriptedServer, browser: Chromium, is_resumed: bool
):
    with call(server, browser, token="first") as (talk, peer):
        server.refusal = 503
        peer.cut_line()
        talk.wait_for_problem("Reconnecting…")
        talk.type("Are you back?")
        expect(talk.page.locator("#log .unsent")).to_have_text("You Are you back?")
        server.refusal = None
        again = server.accept()
        # A server that was busy for a while has not forgotten the session.
        assert again.query["resume"] == ["first"]
        if not is_resumed:
            again.refuse(4004, "no such session")
            again = server.accept()
        again.greet("sess_1" if is_resumed else "sess_2")
        item, text = written(again)
        assert text == "Are you back?"
        content = [{"type": "input_text", "text": text}]
        added = {"id": item, "role": "user", "content": content}
        again.send({"type": "conversation.item.added", "item": added})
        expect(talk.page.locator("#log .unsent")).to_have_count(0)
        assert [caption.text for caption in talk.captions()] == [text]


def test_what_was_typed_and_never_sent_is_marked(server: ScriptedServer, browser: Chromium):
    with call(server, browser, token="first") as (talk, peer):
        server.refusal = 503
        peer.cut_line()
        talk.wait_for_problem("Reconnecting…")
        talk.type("Are you back?")
        talk.page.locator("#log .unsent").wait_for()
        talk.press_talk()
        mark = "(it) => getComputedStyle(it, '::after').content"
        assert "not sent" in talk.page.locator("#log .lost span").evaluate(mark)


def test_sound_that_waits_for_a_connection_leaves_room_for_what_is_typed(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        talk.page.evaluate(
            """async () => {
              const { Connection } = await import("/page/connection.js");
              const connection = new Connection({ began() {} }, { key: "" });
              connection.send({ type: "conversation.item.create" });
              for (let n = 0; n < 500; n++) {
                connection.send({ type: "input_audio_buffer.append", n });
              }
            }"""
        )
        peer = server.accept()
        peer.send({"type": "session.created", "session": {"id": "sess_1"}})
        peer.expect("conversation.item.create")
        assert peer.expect("input_audio_buffer.append")["n"] == 500 - 313


def test_the_page_shows_which_model_answers_and_not_what_it_was_called(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        talk.press_talk()
        peer = server.accept()
        peer.send({"type": "session.created", "session": {"id": "sess_1", "model": "gpt-realtime"}})
        peer.expect("session.update")
        granted = {"answered_by": "embedded/SmolLM2-135M"}
        peer.send({"type": "session.updated", "session": {"id": "sess_1", "x_mimo": granted}})
        expect(talk.page.locator("#model")).to_have_text("embedded/SmolLM2-135M")


def test_the_page_outlives_its_server(server: ScriptedServer, browser: Chromium):
    with call(server, browser) as (talk, _):
        server.stop()
        talk.wait_for_problem("The connection to the server was lost")
        talk.wait_for_phase("reconnecting")
        talk.press_talk()
        talk.wait_for_phase("idle")
        talk.press_talk()
        talk.wait_for_problem("The server can't be reached")
        talk.wait_for_phase("idle")


def test_below_a_folder_everything_is_found(browser: Chromium):
    server = ScriptedServer(folder="/voice/")
    try:
        with call(server, browser, token="first") as (talk, peer):
            peer.say("one", 2_000, "Hello.")
            talk.wait_for_phase("agent")
            peer.cut_line()
            server.greet(token="second")
            talk.wait_for_phase("listening")
            assert [caption.text for caption in talk.captions()] == ["Hello."]
            # Style sheets, too.
            assert talk.page.locator("#talk").evaluate("(it) => it.offsetHeight") > 80
    finally:
        server.stop()


@pytest.mark.parametrize("status", [426, 400, 502, 200])
def test_a_proxy_that_passes_no_websocket_on_is_named(
    server: ScriptedServer, browser: Chromium, status: int
):
    server.refusal = status
    with browser.page(server.url) as talk:
        talk.press_talk()
        talk.wait_for_problem("does not pass WebSocket connections on")
        talk.wait_for_phase("idle")
        server.refusal = 503
        talk.press_talk()
        talk.wait_for_problem("is busy")


def test_a_page_of_an_address_that_is_not_allowed_says_what_the_operator_has_to_do(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        talk.press_talk()
        server.accept().refuse(3000, "invalid_request_error.origin_not_allowed")
        talk.wait_for_problem("allowed_origins")
        talk.wait_for_problem(server.url.rstrip("/"))
        assert talk.page.locator("#key-form").is_hidden()


def test_a_server_that_wants_a_key_gets_the_one_that_is_typed_and_it_is_kept(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        talk.press_talk()
        server.accept().refuse(3000, "invalid_request_error.invalid_api_key")
        talk.wait_for_problem("requires an API key")
        talk.page.keyboard.type("secret")
        talk.page.keyboard.press("Enter")
        peer = server.greet()
        assert peer.subprotocols == "realtime, openai-insecure-api-key.secret"
        talk.page.reload()
        talk.press_talk()
        assert "secret" in server.greet().subprotocols


def test_a_key_in_the_address_is_used_and_taken_out_of_sight(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(f"{server.url}#key=secret") as talk:
        assert talk.page.url == server.url
        talk.press_talk()
        assert "secret" in server.greet().subprotocols


def test_while_the_space_bar_is_held_the_page_listens_and_the_agent_gives_way(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        talk.page.get_by_text("Settings").click()
        talk.page.get_by_label("Push to talk").check()
        talk.press_talk()
        peer = server.accept()
        peer.send({"type": "session.created", "session": {"id": "sess_1", "model": "a tone"}})
        update = peer.expect("session.update")["session"]
        assert update["audio"]["input"]["turn_detection"] is None
        peer.say("one", 8000)
        talk.wait_for_phase("agent")
        assert not talk.sent_of("input_audio_buffer.append")

        talk.page.keyboard.down("Space")
        peer.expect("conversation.item.truncate")
        talk.wait_for_phase("user")
        for _ in range(12):
            peer.expect("input_audio_buffer.append")
        talk.page.keyboard.up("Space")
        peer.expect("input_audio_buffer.commit")
        peer.expect("response.create")
        talk.wait_for_phase("thinking")
        peer.say("two", 200)
        talk.wait_for_phase("waiting")

        # A slip of the finger asks nothing.
        talk.page.keyboard.press("Space")
        peer.expect("input_audio_buffer.clear")
        assert len(talk.sent_of("input_audio_buffer.commit")) == 1


def test_escape_and_the_button_make_the_agent_fall_silent(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, peer):
        for response, interrupt in (
            ("one", lambda: talk.page.keyboard.press("Escape")),
            ("two", talk.page.get_by_role("button", name="Interrupt").click),
        ):
            peer.begin(response)
            peer.speak(response, 8000)
            talk.wait_for_phase("agent")
            interrupt()
            peer.expect("response.cancel")
            assert peer.expect("conversation.item.truncate")["item_id"] == f"item_{response}"
            peer.end(response, "cancelled")
            talk.wait_for_phase("listening")


def test_another_microphone_is_heard_at_once_and_remembered(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser, permission="granted") as (talk, peer):
        browser.say(read_wav(QUESTION.read_bytes(), 48_000))
        talk.choose_microphone(1)
        chosen = talk.page.locator("#microphone").input_value()
        assert chosen
        assert any(loud_frames(peer, 200))
        talk.page.reload()
        talk.page.wait_for_function("() => document.querySelector('#microphone').value !== ''")
        assert talk.page.locator("#microphone").input_value() == chosen


def test_the_server_is_asked_to_mind_echoes_while_the_browser_does_not(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        # What a browser does that can't cancel them, with all but the first alternative.
        talk.page.evaluate(
            """() => {
              const { getUserMedia } = MediaDevices.prototype;
              MediaDevices.prototype.getUserMedia = function ({ audio }) {
                const isFirst = audio.deviceId === undefined;
                const echoCancellation = isFirst ? false : audio.echoCancellation;
                return getUserMedia.call(this, { audio: { ...audio, echoCancellation } });
              };
            }"""
        )
        talk.press_talk()
        peer = server.accept()
        peer.send({"type": "session.created", "session": {"id": "sess_1", "model": "a tone"}})
        assert "echo_cancelled" not in peer.expect("session.update")["session"]["x_mimo"]
        talk.wait_for_phase("listening")
        talk.choose_microphone(1)
        assert peer.expect("session.update")["session"]["x_mimo"]["echo_cancelled"] is True


def test_a_remembered_microphone_that_is_gone_is_no_trouble(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        choices = """localStorage.setItem("mimo-live.choices", '{"microphone": "unplugged"}')"""
        talk.page.evaluate(choices)
        talk.press_talk()
        server.greet().expect("input_audio_buffer.append")
        talk.wait_for_phase("listening")


@pytest.mark.realtime
@pytest.mark.parametrize("separate_rates", [False, True])
def test_what_is_said_into_the_microphone_is_sent_at_24_khz(
    server: ScriptedServer, browser: Chromium, separate_rates: bool
):
    # The microphone begins when it is opened, the call somewhat later.
    said = bytes(48_000) + read_wav(QUESTION.read_bytes(), 48_000)
    with browser.page(server.url, said=said, separate_rates=separate_rates) as talk:
        talk.press_talk()
        server.greet()
        heard = envelope(talk.wait_for_heard(3.5))
    said = envelope(read_wav(QUESTION.read_bytes()))
    windows = np.lib.stride_tricks.sliding_window_view(heard, len(said))
    # The browser evens out the level and removes noise: alike, not equal.
    assert max(np.corrcoef(window, said)[0, 1] for window in windows if window.any()) > 0.75


def listen_to_a_question(peer: Peer) -> tuple[int, float]:
    """Where its speech ends in what was sent, in milliseconds, and when that arrived."""
    frames: list[bytes] = []
    arrived: list[float] = []
    while not frames or max(map(loudest, frames)) < 1000 or max(map(loudest, frames[-15:])) > 100:
        frames.append(base64.b64decode(peer.expect("input_audio_buffer.append")["audio"]))
        arrived.append(time.monotonic())
    end = end_of_speech(np.frombuffer(b"".join(frames), np.int16))
    return milliseconds(end), arrived[end * SAMPLE_BYTES // len(frames[0])]


@pytest.mark.realtime
def test_the_latency_shown_is_from_the_last_sound_of_speech_to_the_first_of_the_answer(
    server: ScriptedServer, browser: Chromium
):
    said = bytes(96_000) + read_wav(QUESTION.read_bytes(), 48_000)
    with browser.page(server.url, said=said) as talk:
        talk.press_talk()
        peer = server.greet(token="first")
        end_ms, ended_at = listen_to_a_question(peer)
        peer.begin("one")
        marks = {"speech_end_ms": end_ms, "first_sound_ms": 1}
        peer.send({"type": "x_mimo.marks", "response_id": "one", **marks})
        least_s = time.monotonic() - ended_at
        peer.speak("one", 2000)
        peer.expect("x_mimo.playout")
        most_s = time.monotonic() - ended_at
        words = talk.page.locator("#latency").inner_text().split()
        assert words[:2] + words[3:] == ["answered", "in", "s"]
        # A frame of the microphone, and the loudspeaker's delay.
        assert least_s - 0.05 <= float(words[2]) <= most_s + 0.3


RESAMPLE = """
async ([from, to, frequency]) => {
  const { Resampler } = await import("/page/resample.js");
  const resampler = new Resampler(from, to);
  const output = [];
  for (let start = 0; start < from; start += 100) {
    const quantum = Float32Array.from({ length: 100 }, (_, index) =>
      Math.sin((2 * Math.PI * frequency * (start + index)) / from),
    );
    output.push(...resampler.push(quantum));
  }
  return output;
}
"""


def test_resampling_keeps_a_tone_and_removes_what_24_khz_cannot_hold(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        for rate in (16_000, 44_100, 48_000):
            output = np.array(talk.page.evaluate(RESAMPLE, [rate, RATE, 1000]))
            expected = np.sin(2 * np.pi * 1000 * np.arange(len(output)) / RATE)
            assert len(output) == pytest.approx(RATE, abs=60)
            # The filter's first taps still see the silence before the tone.
            np.testing.assert_allclose(output[200:], expected[200:], atol=0.001)
        for rate in (44_100, 48_000):
            output = np.array(talk.page.evaluate(RESAMPLE, [rate, RATE, 14_000]))
            assert np.abs(output[200:]).max() < 0.01


def test_a_machine_without_microphone_is_told_so(server: ScriptedServer, browser: Chromium):
    with browser.deaf_page(server.url) as talk:
        talk.press_talk()
        talk.wait_for_problem("No microphone was found")
        talk.wait_for_phase("idle")
