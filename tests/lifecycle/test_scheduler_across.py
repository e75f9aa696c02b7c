"""The scheduler's policy, across its rules: who leaves, unloads or retires, and what comes too late."""

from homeport.lifecycle.scheduler import Grant, Policy, Refuse, Scheduler, Start, Terms
from tests.lifecycle.history import tell


class TestAcross:
    def test_cancel_in_the_queue(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  request 2 b |
            2  leave 2     |
            3  ready a     | grant 1
            4  leave 1     |
               a is ready
        """)

    def test_cancel_in_the_queue_of_one_that_crashed_with_requests_in_flight(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  ready a     | grant 1
            2  crash a     |
            3  request 2 b | start b
            4  ready b     | grant 2
            5  request 3 a |
            6  request 4 b |
            7  leave 3     | grant 4
               a is failed, in flight 1
        """)

    def test_cancel_while_it_starts(self) -> None:
        tell("""
            model a
            0  request 1 a | start a
            2  leave 1     |
            3  ready a     |
               a is ready, in flight 0
            4  leave 1     |
        """)

    def test_retire_while_it_starts(self) -> None:
        tell("""
            model a
            0  request 1 a | start a
            1  retire a    | refuse 1 gone, stop a gone
            2  ready a     |
            3  stopped a   |
               a is forgotten
            4  stopped a   |
        """)

    def test_retire_one_that_is_stopped(self) -> None:
        tell("""
            budget 1
            model a need 1
            model b need 1
            0  request 1 b | start b
            0  request 2 a |
            1  retire a    | refuse 2 gone
               a is forgotten
            2  request 3 a | refuse 3 gone
            3  load a      |
            4  unload a    |
            5  retire a    |
            6  ready a     |
            7  measured a 5 |
            8  crash a     |
        """)

    def test_retire_and_back(self) -> None:
        tell("""
            model a
            0  request 1 a | start a
            1  ready a     | grant 1
            2  retire a    |
            3  load a      |
            3  add a       |
            4  request 2 a | grant 2
            5  leave 1     |
            6  leave 2     |
               a is ready
        """)

    def test_retire_one_that_waits_for_its_restart(self) -> None:
        tell("""
            model a
            0  load a           | start a
            1  ready a          |
            2  crash a retry 10 |
            3  retire a         | stop a gone
            4  stopped a        |
               a is forgotten
        """)

    def test_retire_one_that_then_fails(self) -> None:
        tell("""
            model a
            0  request 1 a | start a
            1  ready a     | grant 1
            2  retire a    |
            3  crash a     |
               a is forgotten
            4  leave 1     |
        """)

    def test_unload_while_it_starts_for_nobody(self) -> None:
        tell("""
            model a
            0  load a    | start a
            1  unload a  | stop a asked
            2  ready a   |
            3  crash a   |
            4  stopped a |
               a is stopped
        """)

    def test_unload_while_it_starts_for_somebody(self) -> None:
        """Who came before is served, who comes afterwards is served after that."""
        tell("""
            model a
            0  request 1 a | start a
            1  unload a    |
            2  request 2 a |
            3  ready a     | grant 1
            4  unload a    |
            5  leave 1     | stop a asked
            6  stopped a   | start a
            7  ready a     | grant 2
               a is ready
        """)

    def test_unload_and_load_starts_afresh(self) -> None:
        tell("""
            model a
            0  request 1 a | start a
            1  ready a     | grant 1
            2  unload a    |
            3  load a      |
            4  load a      |
            5  leave 1     | stop a asked
            6  stopped a   | start a
        """)

    def test_unload_withdraws_a_load(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  load b      |
            2  unload b    |
            3  ready a     | grant 1
            4  leave 1     |
               a is ready
        """)

    def test_unload_of_one_that_yields(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a     | start a
            1  ready a limit 1 | grant 1
            2  request 2 a     |
            3  unload a        |
            4  count 3 a       |
            5  request 4 b     |
            6  leave 1         | grant 2
            7  leave 2         | stop a asked
            8  stopped a       | start a
        """)

    def test_events_that_come_too_late(self) -> None:
        tell("""
            model a
            0  ready a      |
            1  measured a 5 |
            2  stopped a    |
            3  crash a      |
            4  load a       | start a
            5  stopped a    |
            6  leave 99     |
               a is starting, holds 0
        """)

    def test_the_default_is_still_being_stopped(self) -> None:
        tell("""
            budget 10
            return 60
            model a need 6
            model b need 6
            0   default a   |
            0   load a      | start a
            1   ready a     |
            3   request 2 b | stop a evicted
            4   leave 2     |
                wake never
            9   stopped a   |
                wake 63
        """)

    def test_nothing_is_limited_unless_it_is_said(self) -> None:
        scheduler = Scheduler()
        for number in range(20):
            assert scheduler.add(str(number), Terms(need_bytes=2**40), 0.0) == []
            assert scheduler.request(number, str(number), 0.0) == [Start(str(number))]

    def test_models_that_nobody_knows(self) -> None:
        scheduler = Scheduler(Policy())
        assert scheduler.request(1, "a", 0.0) == [Refuse(1, "gone")]
        assert scheduler.next_wake(0.0) is None
        assert scheduler.snapshot() == {}

    def test_a_repr_for_the_night(self) -> None:
        scheduler = Scheduler()
        scheduler.add("a", Terms(), 0.0)
        scheduler.request(1, "a", 0.0)
        scheduler.ready("a", 1.0, limit=1)
        scheduler.request(2, "a", 2.0)
        assert repr(scheduler) == "<Scheduler a: ready <Queue 1 waiting, 1 in flight>>"
        assert scheduler.leave(1, 3.0) == [Grant(2)]
