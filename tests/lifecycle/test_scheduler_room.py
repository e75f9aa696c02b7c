"""The scheduler's policy: what can never fit, and for what room is held (rules 5 and 6)."""

from tests.lifecycle.history import tell


class TestRule5WhatCannotFit:
    def test_larger_than_the_budget(self) -> None:
        tell("""
            budget 10
            model a need 11
            0  request 1 a | refuse 1 cannot_fit
            1  load a      |
               a is stopped
            2  policy budget 11 |
        """)

    def test_exactly_the_budget(self) -> None:
        tell("""
            budget 10
            model a need 10
            0  request 1 a | start a
        """)

    def test_beside_a_pinned_one(self) -> None:
        tell("""
            budget 10
            model a need 6 pinned
            model b need 5
            model c need 4
            0  load a      | start a
            1  request 1 b | refuse 1 cannot_fit
            2  request 2 c | start c
            3  ready a     |
            4  request 3 b | refuse 3 cannot_fit
        """)

    def test_excluded_by_a_pinned_one(self) -> None:
        tell("""
            group g
            model a group g pinned
            model b group g
            0  load a      | start a
            1  request 1 b | refuse 1 cannot_fit
        """)

    def test_a_pinned_one_that_is_asked_for_first_excludes_those_that_wait(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6 pinned
            model c need 6
            0  request 1 a | start a
            1  request 2 b |
            2  request 3 c |
            3  ready a     | grant 1
            4  leave 1     | stop a evicted
            5  stopped a   | start b, refuse 3 cannot_fit
        """)

    def test_a_pinned_one_that_is_unloaded_makes_room(self) -> None:
        tell("""
            budget 10
            model a need 6 pinned
            model b need 6
            0  load a      | start a
            1  ready a     |
            2  unload a    | stop a asked
            3  request 1 b |
            4  stopped a   | start b
        """)

    def test_but_not_before_its_requests_are_done(self) -> None:
        tell("""
            budget 10
            model a need 6 pinned
            model b need 6
            0  request 1 a | start a
            1  ready a     | grant 1
            2  unload a    |
            3  request 2 b |
            4  leave 1     | stop a asked
            5  stopped a   | start b
        """)

    def test_a_smaller_budget(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 8
            0  request 1 a     | start a
            1  ready a         | grant 1
            2  request 2 b     |
            3  policy budget 7 | refuse 2 cannot_fit
            4  policy budget 9 |
            5  request 3 b     |
        """)


class TestRule6Reservations:
    def test_from_the_start_until_the_process_is_gone(self) -> None:
        tell("""
            budget 10
            model a need 6
            0  load a       | start a
               a is starting, holds 6
            1  ready a      |
            2  measured a 4 |
               a is ready, holds 4
            3  unload a     | stop a asked
               a is stopping, holds 4
            4  stopped a    |
               a is stopped, holds 0
        """)

    def test_less_than_was_said_makes_room(self) -> None:
        tell("""
            budget 10
            model a need 8
            model b need 4
            0  request 1 a  | start a
            1  ready a      | grant 1
            2  request 2 b  |
            3  measured a 6 | start b
        """)

    def test_more_than_was_said_makes_idle_ones_go(self) -> None:
        tell("""
            budget 10
            dwell 2
            model a need 3
            model b need 3
            model c need 3
            0  request 1 a  | start a
            0  request 2 b  | start b
            0  load c       | start c
            1  ready a      | grant 1
            2  ready b      | grant 2
            3  ready c      |
            4  leave 2      |
            4  measured a 8 | stop b evicted
               wake 5
            5  tick         | stop c evicted
            6  stopped b    |
            6  stopped c    |
            7  leave 1      |
            8  measured a 11 |
               a is ready
        """)

    def test_nobody_yields_to_mere_growth(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            0  request 1 a  | start a
            0  request 2 b  | start b
            1  ready a      | grant 1
            1  ready b      | grant 2
            2  measured a 7 |
            3  request 3 a  | grant 3
            3  request 4 b  | grant 4
            4  leave 2      |
            5  leave 4      | stop b evicted
        """)

    def test_a_new_need_counts_from_the_next_start(self) -> None:
        tell("""
            budget 10
            model a need 5
            0  load a       | start a
            1  add a need 7 |
               a is starting, holds 5
            2  unload a     | stop a asked
            3  stopped a    |
            4  load a       | start a
               a is starting, holds 7
        """)

    def test_one_that_crashed_for_good_gives_its_room_back(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  request 2 b |
            2  fail a      | refuse 1 failed, start b
        """)

    def test_one_that_will_be_started_again_keeps_it(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a     | start a
            1  ready a limit 1 | grant 1
            1  request 2 a     |
            2  request 3 b     |
            3  crash a retry 5 |
               a is backoff, holds 6
            4  leave 1         |
            9  ready a         | grant 2
            10 leave 2         | stop a evicted
        """)

    def test_but_not_for_younger_requests(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a     | start a
            1  ready a         | grant 1
            2  request 2 b     |
            3  request 3 a     |
            4  crash a retry 5 |
            5  leave 1         | stop a evicted
            6  stopped a       | start b
        """)

    def test_but_not_for_nobody(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  load a          | start a
            1  ready a         |
            2  crash a retry 5 |
            3  request 1 b     | stop a evicted
            4  ready a         |
            5  stopped a       | start b
        """)
