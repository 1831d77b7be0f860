"""The screen_state between a conversation and its screen: what is shown, and when."""

from client.terminal.meter import meter, sparkline
from client.terminal.screen_state import Line, ScreenState
from client.terminal.view import Status


def test_the_agents_words_are_shown_as_they_are_heard_and_then_as_a_line():
    screen_state = ScreenState()
    screen_state.status(Status("speaking", 0.0, 0.1, saying="one two"))
    assert screen_state.take().agent == "one two"
    screen_state.caption("agent", "One two three.")
    news = screen_state.take()
    assert (news.lines, news.agent) == ([Line("agent", "One two three.")], "")


def test_an_interrupted_answer_ends_in_a_dash():
    screen_state = ScreenState()
    screen_state.caption("agent", "One two", cut=True)
    assert screen_state.take().lines == [Line("agent", "One two —")]
    assert screen_state.transcript().endswith("agent  One two —\n")


def test_the_users_words_are_shown_until_their_caption_comes():
    screen_state = ScreenState()
    screen_state.partial("how ")
    screen_state.partial("are")
    assert screen_state.take().user == "how are"
    screen_state.caption("user", "How are you?")
    news = screen_state.take()
    assert (news.user, news.lines) == ("", [Line("user", "How are you?")])
    assert screen_state.transcript().endswith("user  How are you?\n")


def test_meters_and_sparklines():
    assert meter(0.0, 3) == "   "
    assert meter(1.0, 3) == "███"
    assert meter(10 ** (-30 / 20), 2) == "█ "
    assert sparkline([]) == ""
    assert sparkline([0, 50, 100]) == "▁▄█"
