"""The board between a conversation and its screen: what is shown, and when."""

from client.terminal.meter import meter, sparkline
from client.terminal.screen_state import Board, Line
from client.terminal.view import Status


def test_the_agents_words_are_shown_as_they_are_heard_and_then_as_a_line():
    board = Board()
    board.status(Status("speaking", 0.0, 0.1, saying="one two"))
    assert board.take().agent == "one two"
    board.caption("agent", "One two three.")
    news = board.take()
    assert (news.lines, news.agent) == ([Line("agent", "One two three.")], "")


def test_an_interrupted_answer_ends_in_a_dash():
    board = Board()
    board.caption("agent", "One two", cut=True)
    assert board.take().lines == [Line("agent", "One two —")]
    assert board.transcript().endswith("agent  One two —\n")


def test_the_users_words_are_shown_until_their_caption_comes():
    board = Board()
    board.partial("how ")
    board.partial("are")
    assert board.take().user == "how are"
    board.caption("user", "How are you?")
    news = board.take()
    assert (news.user, news.lines) == ("", [Line("user", "How are you?")])
    assert board.transcript().endswith("user  How are you?\n")


def test_meters_and_sparklines():
    assert meter(0.0, 3) == "   "
    assert meter(1.0, 3) == "███"
    assert meter(10 ** (-30 / 20), 2) == "█ "
    assert sparkline([]) == ""
    assert sparkline([0, 50, 100]) == "▁▄█"
