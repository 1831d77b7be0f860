"""Who goes next at a replica, who gives way, and how long the others wait."""

import pytest
from hypothesis import given, settings, strategies as st

from agent.model.admission import TYPICAL_S, Admission, EarlyStart, Ticket


def nothing() -> None:
    pass


def someone(queue: Admission, dry_at: float) -> Ticket:
    """Let another session ask."""
    return queue.enter(dry_at, object())


def prepared(queue: Admission, dry_at: float) -> tuple[Ticket, EarlyStart]:
    """Let another session ask in a pause."""
    early = EarlyStart(nothing)
    return queue.enter(dry_at, object(), early), early


def begun(queue: Admission, now: float) -> list[Ticket]:
    """Those whose turn it is."""
    found: list[Ticket] = []
    while (ticket := queue.advance(now)) is not None:
        found.append(ticket)
    return found


def test_who_runs_dry_first_goes_first():
    queue = Admission()
    first = someone(queue, 10.0)
    assert begun(queue, 10.0) == [first]
    late, soon, same = someone(queue, 30.0), someone(queue, 20.0), someone(queue, 20.0)
    assert begun(queue, 11.0) == []
    order: list[Ticket] = []
    running = first
    for now in (14.0, 18.0, 22.0):
        queue.leave(running, now)
        [running] = begun(queue, now)
        order.append(running)
    assert order == [soon, same, late]


def test_who_gives_up_is_passed_over():
    queue = Admission()
    running = someone(queue, 0.0)
    begun(queue, 0.0)
    gone, stays = someone(queue, 1.0), someone(queue, 2.0)
    queue.leave(gone, 3.0)
    queue.leave(running, 4.0)
    assert begun(queue, 4.0) == [stays]


def test_as_many_run_as_there_are_seats_and_the_next_takes_the_first_that_is_free():
    queue = Admission(3)
    first, second, third, fourth = (someone(queue, each) for each in range(4))
    assert begun(queue, 0.0) == [first, second, third]
    queue.leave(second, 1.0)
    assert begun(queue, 1.0) == [fourth]


def test_a_session_waits_for_the_end_of_its_own_reply_and_holds_up_nobody():
    queue, session = Admission(2), object()
    aborted = queue.enter(0.0, session)
    begun(queue, 0.0)
    again, other = queue.enter(0.0, session), someone(queue, 5.0)
    assert begun(queue, 1.0) == [other]
    queue.leave(aborted, 2.0)
    assert begun(queue, 2.0) == [again]


def test_the_wait_is_the_rest_of_the_running_reply_and_those_ahead():
    queue = Admission()
    assert queue.wait_s(0.0, 0.0) == 0.0
    someone(queue, 0.0)
    begun(queue, 0.0)
    someone(queue, 1.0)
    someone(queue, 9.0)
    assert queue.wait_s(5.0, 1.0) == TYPICAL_S - 1 + TYPICAL_S
    assert queue.wait_s(9.5, 1.0) == TYPICAL_S - 1 + 2 * TYPICAL_S
    assert queue.wait_s(0.5, 100.0) == 0.0


def test_seats_share_the_wait():
    queue = Admission(2)
    someone(queue, 0.0)
    begun(queue, 0.0)
    assert queue.wait_s(0.0, 1.0) == 0.0
    someone(queue, 0.0)
    begun(queue, 1.0)
    rests = [TYPICAL_S - 2, TYPICAL_S - 1]
    for ahead in range(6):
        assert queue.wait_s(0.0, 2.0) == rests[ahead % 2] + ahead // 2 * TYPICAL_S
        someone(queue, 0.0)


def test_only_an_early_start_waits_for_an_early_start():
    queue = Admission(2)
    _, early = prepared(queue, 0.0)
    someone(queue, 0.0)
    begun(queue, 0.0)
    assert queue.wait_s(1.0, 1.0) == 0.0
    assert queue.wait_s(1.0, 1.0, is_early=True) == TYPICAL_S - 1
    early.is_kept = True
    assert queue.wait_s(1.0, 1.0) == TYPICAL_S - 1


def test_the_estimate_follows_the_replies():
    queue = Admission()
    for start in range(0, 600, 20):
        ticket = someone(queue, start)
        begun(queue, start)
        queue.leave(ticket, start + 10.0)
    someone(queue, 600.0)
    begun(queue, 600.0)
    assert abs(queue.wait_s(600.0, 600.0) - 10.0) < 0.1


def test_who_gave_way_says_nothing_about_how_long_replies_take():
    queue = Admission(2)
    ticket, _ = prepared(queue, 0.0)
    someone(queue, 0.0)
    begun(queue, 0.0)
    someone(queue, 0.0)
    assert queue.displace() is ticket.early
    queue.leave(ticket, 0.1)
    begun(queue, 0.1)
    assert queue.wait_s(9.0, 0.0) == TYPICAL_S


def test_the_youngest_early_start_gives_way_to_a_turn_that_is_over():
    queue = Admission(3)
    someone(queue, 0.0)
    old, young = prepared(queue, 0.0), prepared(queue, 0.0)
    begun(queue, 0.0)
    assert queue.displace() is None
    urgent = someone(queue, 5.0)
    assert begun(queue, 1.0) == []
    assert queue.displace() is young[1]
    assert queue.displace() is None
    queue.leave(young[0], 1.1)
    assert begun(queue, 1.1) == [urgent]
    someone(queue, 5.0)
    assert queue.displace() is old[1]


def test_an_early_start_that_is_kept_stays_and_takes_the_seat_of_one_that_is_not():
    queue = Admission(2)
    kept, other, waits = prepared(queue, 0.0), prepared(queue, 0.0), prepared(queue, 0.0)
    begun(queue, 0.0)
    kept[1].is_kept = True
    assert queue.displace() is None
    waits[1].is_kept = True
    assert queue.displace() is other[1]


def test_a_session_that_waits_for_itself_takes_nobodys_seat():
    queue, session = Admission(2), object()
    queue.enter(0.0, session)
    prepared(queue, 0.0)
    begun(queue, 0.0)
    queue.enter(0.0, session)
    assert queue.displace() is None


def test_one_seat_is_never_taken_back():
    queue = Admission()
    early, _ = prepared(queue, 0.0)
    assert begun(queue, 0.0) == [early]
    waits, prepares = someone(queue, 9.0), prepared(queue, 1.0)[0]
    assert queue.displace() is None
    assert queue.wait_s(0.0, 1.0) == TYPICAL_S - 1
    queue.leave(early, 2.0)
    assert begun(queue, 2.0) == [prepares]
    queue.leave(prepares, 3.0)
    assert begun(queue, 3.0) == [waits]


class House:
    """A replica at work, beside plain lists of who ought to be where."""

    def __init__(self, seats: int):
        self.seats = seats
        self.queue = Admission(seats)
        self.waiting: list[Ticket] = []
        self.running: list[Ticket] = []
        self.leaving: list[Ticket] = []
        self.now = 0.0

    def ask(self, session: int, dry_in_s: int, in_a_pause: bool) -> None:
        early = EarlyStart(nothing) if in_a_pause else None
        self.waiting.append(self.queue.enter(self.now + dry_in_s, session, early))

    def keep(self, which: int) -> None:
        staying = [each for each in self.waiting + self.running if each not in self.leaving]
        early = [each.early for each in staying if each.early and not each.early.is_kept]
        if early:
            early[which % len(early)].is_kept = True

    def leave(self, ticket: Ticket) -> None:
        for each in (self.waiting, self.running, self.leaving):
            if ticket in each:
                each.remove(ticket)
        self.queue.leave(ticket, self.now)

    def leave_one(self, some: list[Ticket], which: int) -> None:
        if some:
            self.leave(some[which % len(some)])

    def fail(self) -> None:
        """All replies end, and whoever waits goes elsewhere."""
        for ticket in [*self.running, *self.waiting]:
            self.leave(ticket)

    def may_give_way(self, ticket: Ticket) -> bool:
        return self.seats > 1 and ticket.early is not None and not ticket.early.is_kept

    def ready(self) -> list[Ticket]:
        talking = {each.session for each in self.running}
        return [each for each in self.waiting if each.session not in talking]

    def urgent(self) -> list[Ticket]:
        return [each for each in self.ready() if not self.may_give_way(each)]

    def settle(self) -> None:
        """Have those begin and those give way who are to, and see that it is right."""
        self.now += 1.0
        while (ticket := self.queue.advance(self.now)) is not None:
            before = self.urgent() or self.ready()
            assert ticket in before
            assert (ticket.dry_at, ticket.number) == min((t.dry_at, t.number) for t in before)
            self.waiting.remove(ticket)
            self.running.append(ticket)
        assert len(self.running) <= self.seats
        assert len({each.session for each in self.running}) == len(self.running)
        assert len(self.running) == self.seats or not self.ready()

        def staying() -> list[Ticket]:
            early = filter(self.may_give_way, self.running)
            return [each for each in early if each not in self.leaving]

        while (early := self.queue.displace()) is not None:
            assert len(self.urgent()) > len(self.leaving)
            youngest = staying()[-1]
            assert youngest.early is early
            self.leaving.append(youngest)
        assert len(self.urgent()) <= len(self.leaving) or not staying()


Move = tuple[str, int, int]
"""What happens, whose reply it is about, and when a listener runs dry."""
SELDOM = ("give up", "fail", "nothing")
OFTEN = ("ask", "prepare", "prepare", "keep", "end", "obey")


def play(house: House, move: Move) -> None:
    match move:
        case "ask" | "prepare" as kind, session, dry_in_s:
            house.ask(session, dry_in_s, in_a_pause=kind == "prepare")
        case "keep", which, _:
            house.keep(which)
        case "end", which, _:
            house.leave_one(house.running, which)
        case "obey", which, _:
            house.leave_one(house.leaving, which)
        case "give up", which, _:
            house.leave_one(house.waiting, which)
        case "fail", _, _:
            house.fail()
        case _:
            pass


@settings(max_examples=150)
@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.sampled_from(3 * OFTEN + SELDOM), st.integers(0, 7), st.integers(0, 3)),
        min_size=15,
        max_size=40,
    ),
)
def test_seats_are_never_too_many_never_lost_and_everybody_has_one_in_turn(
    seats: int, moves: list[Move]
):
    house = House(seats)
    for move in moves:
        play(house, move)
        house.settle()
    while house.running:
        house.leave(house.running[0])
        house.settle()
    assert not house.waiting
    for session in range(seats + 1):
        house.ask(session, 0, in_a_pause=False)
    house.settle()
    assert len(house.running) == seats


def test_a_seat_is_left_once():
    queue = Admission(2)
    ticket = someone(queue, 0.0)
    begun(queue, 0.0)
    queue.leave(ticket, 1.0)
    with pytest.raises(ValueError, match="not in list"):
        queue.leave(ticket, 1.0)
