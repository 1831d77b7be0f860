"""The board between a conversation and its screen: what is shown, and when."""

from client.board import Board, Line
from client.jitter import Heard
from client.meter import meter, sparkline
from client.view import Status


def speaking(spoken: float) -> Status:
    return Status("speaking", 0.0, 0.1, spoken=spoken)


SILENT = Status("listening", 0.0, 0.0)


def test_the_agents_words_appear_as_they_are_heard():
    board = Board()
    board.status(speaking(0.0))
    board.partial("agent", "one two ")
    board.partial("agent", "three four")
    assert board.take().agent == "one"
    board.status(speaking(0.5))
    assert board.take().agent == "one two three"
    board.caption("agent", "One two three four.")
    assert board.take().lines == []
    board.status(speaking(1.0))
    assert board.take().agent == "One two three four."
    board.status(SILENT)
    news = board.take()
    assert news.lines == [Line("agent", "One two three four.")]
    assert news.agent == ""


def test_an_interrupted_answer_ends_at_the_word_that_was_heard():
    board = Board()
    board.partial("agent", "one two three four")
    board.status(speaking(0.3))
    board.interrupted(Heard("item", 1000))
    board.caption("agent", "One two three four.")
    board.status(SILENT)
    assert board.take().lines == [Line("agent", "one two —")]


def test_a_caption_that_came_before_the_interruption_does_not_swallow_the_next_one():
    board = Board()
    board.status(speaking(0.3))
    board.partial("agent", "one two three four")
    board.caption("agent", "One two three four.")
    board.interrupted(Heard("item", 1000))
    board.caption("agent", "Next.")
    board.status(SILENT)
    assert board.take().lines == [Line("agent", "One two —"), Line("agent", "Next.")]


def test_the_next_answer_does_not_mix_with_one_that_is_still_shown():
    board = Board()
    board.status(speaking(0.9))
    board.partial("agent", "one")
    board.caption("agent", "One.")
    board.partial("agent", "two")
    news = board.take()
    assert (news.lines, news.agent) == ([Line("agent", "One.")], "two")


def test_the_users_words_are_shown_until_their_caption_comes():
    board = Board()
    board.partial("user", "how ")
    board.partial("user", "are")
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
