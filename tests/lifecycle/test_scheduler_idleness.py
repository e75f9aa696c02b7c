"""The scheduler's policy: models that nobody uses, and the way back to the default (rule 7)."""

import pytest

from tests.lifecycle.history import tell


class TestRule7Idleness:
    def test_ttl_counts_from_the_end_of_the_last_request(self) -> None:
        tell("""
            model a ttl 30
            0  request 1 a | start a
            5  ready a     | grant 1
            6  request 2 a | grant 2
            50 leave 1     |
               wake never
            60 leave 2     |
               wake 90
            90 tick        | stop a idle
        """)

    def test_a_request_stops_the_clock(self) -> None:
        tell("""
            model a ttl 30
            0  request 1 a | start a
            5  ready a     | grant 1
            10 leave 1     |
            20 request 2 a | grant 2
               wake never
            39 leave 2     |
               wake 69
        """)

    def test_a_load_counts_from_ready(self) -> None:
        tell("""
            model a ttl 30
            0  load a  | start a
               wake never
            9  ready a |
               wake 39
            20 load a  |
            39 tick    | stop a idle
            40 stopped a |
               a is stopped
        """)

    def test_a_request_that_left_while_it_started(self) -> None:
        tell("""
            model a ttl 30
            0  request 1 a | start a
            5  leave 1     |
               wake never
            9  ready a     |
               wake 39
        """)

    def test_pinned_ones_stay(self) -> None:
        tell("""
            model a ttl 30 pinned
            0  load a  | start a
            9  ready a |
               wake never
        """)

    def test_the_default_comes_back_after_it_was_evicted(self) -> None:
        tell("""
            budget 10
            return 60
            model a need 6
            model b need 6
            0   default a   |
            0   request 1 a | start a
            1   ready a     | grant 1
            2   leave 1     |
            3   request 2 b | stop a evicted
            4   stopped a   | start b
            5   ready b     | grant 2
                wake never
            50  leave 2     |
                wake 110
            60  request 3 b | grant 3
            70  leave 3     |
            110 tick        |
                wake 130
            130 tick        | stop b evicted
            131 stopped b   | start a
            132 ready a     |
                wake never
        """)

    def test_the_default_comes_back_to_room_that_is_free(self) -> None:
        tell("""
            budget 10
            return 60
            model a need 6
            model b need 6 ttl 20
            0   default a   |
            0   load a      | start a
            1   ready a     |
            3   request 2 b | stop a evicted
            4   stopped a   | start b
            5   ready b     | grant 2
            6   leave 2     |
                wake 26
            26  tick        | stop b idle
            27  stopped b   |
                wake 63
            63  tick        | start a
        """)

    def test_the_default_waits_for_those_who_want_something(self) -> None:
        tell("""
            budget 10
            return 5
            model a need 6
            model b need 6
            model c need 6
            0   default a   |
            0   load a      | start a
            1   ready a     |
            3   request 2 b | stop a evicted
            4   request 3 c |
            5   stopped a   | start b
            6   ready b     | grant 2
            60  leave 2     | stop b evicted
            99  stopped b   | start c
            100 ready c     | grant 3
                c is ready
                wake never
        """)

    @pytest.mark.parametrize("how", ["3 unload a | stop a asked", "3 tick | stop a idle"])
    def test_a_default_that_was_not_evicted_stays_away(self, how: str) -> None:
        tell(f"""
            return 60
            model a ttl {3 if "idle" in how else 999}
            0   default a   |
            0   load a      | start a
            0   ready a     |
            {how}
            4   stopped a   |
                wake never
        """)

    def test_a_default_that_was_unloaded_after_that_stays_away_too(self) -> None:
        tell("""
            budget 10
            return 60
            model a need 6
            model b need 6
            0   default a   |
            0   load a      | start a
            1   ready a     |
            3   request 2 b | stop a evicted
            4   stopped a   | start b
            5   ready b     | grant 2
            6   leave 2     |
                wake 66
            7   unload a    |
                wake never
        """)

    def test_the_default_is_not_forgotten_over_a_wish_that_is_refused(self) -> None:
        tell("""
            budget 10
            return 60
            model a need 6
            model b need 6
            model c need 11
            0   default a   |
            0   load a      | start a
            1   ready a     |
            3   request 2 b | stop a evicted
            4   stopped a   | start b
            5   ready b     | grant 2
            6   leave 2     |
            7   request 3 c | refuse 3 cannot_fit
                wake 66
        """)

    def test_no_default_that_cannot_fit_any_more(self) -> None:
        tell("""
            budget 10
            return 60
            model a need 6
            model b need 6
            0   default a        |
            0   load a           | start a
            1   ready a          |
            3   request 2 b      | stop a evicted
            4   stopped a        | start b
            5   ready b          | grant 2
            6   leave 2          |
                wake 66
            7   add b pinned     |
                wake never
            8   default none     |
        """)

    def test_a_pinned_default_is_never_away(self) -> None:
        tell("""
            budget 10
            return 60
            model a need 6 pinned
            model b need 6
            0   default a   |
            0   load a      | start a
            1   ready a     |
            3   request 2 b | refuse 2 cannot_fit
                a is ready
                wake never
        """)
