"""The scheduler's policy: who has to go, and when (rule 4, and groups)."""

from tests.lifecycle.history import tell


class TestRule4Eviction:
    def test_a_victim_serves_what_is_older_than_the_wish_and_nothing_younger(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  load a          | start a
            1  ready a limit 1 |
            2  request 1 a     | grant 1
            3  request 2 a     |
            4  request 3 b     |
            5  request 4 a     |
            6  count 5 a       |
            7  leave 1         | grant 2
            8  leave 2         | stop a evicted
            9  stopped a       | start b
            10 ready b         | grant 3
            11 leave 3         | stop b evicted
            12 stopped b       | start a
            13 ready a         | grant 4, grant 5
        """)

    def test_what_waited_when_it_became_ready_is_served_before_it_yields(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a     | start a
            1  request 2 b     |
            2  request 3 a     |
            3  ready a limit 1 | grant 1
            4  request 4 a     |
            5  leave 1         | grant 3
            6  leave 3         | stop a evicted
        """)

    def test_nobody_is_stopped_before_it_has_dwelled(self) -> None:
        tell("""
            budget 10
            dwell 2
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  request 2 b |
            5  ready a     | grant 1
               wake 7
            6  request 3 a | grant 3
            6  leave 1     |
            6  leave 3     |
               a is ready
            7  tick        | stop a evicted
            8  stopped a   | start b
        """)

    def test_a_victim_that_dwells_does_not_yield(self) -> None:
        tell("""
            budget 10
            dwell 2
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  request 2 b |
            5  ready a     | grant 1
            6  request 3 a | grant 3
            7  tick        |
            7  request 4 a |
            8  leave 1     |
            9  leave 3     | stop a evicted
        """)

    def test_models_asked_for_in_turn_change_places_once_for_all_that_came_meanwhile(self) -> None:
        judge = tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a  | start a
            0  request 2 b  |
            0  request 3 a  |
            0  request 4 b  |
            0  request 5 a  |
            0  request 6 b  |
            1  ready a      | grant 1, grant 3, grant 5
            2  leave 1      |
            2  request 7 a  |
            3  leave 3      |
            3  request 8 a  |
            4  leave 5      | stop a evicted
            5  stopped a    | start b
            6  ready b      | grant 2, grant 4, grant 6
            7  leave 2      |
            7  leave 4      |
            7  leave 6      | stop b evicted
            8  stopped b    | start a
            9  ready a      | grant 7, grant 8
        """)
        assert judge.starts == ["a", "b", "a"]

    def test_two_busy_victims_are_stopped_together(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 8
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            1  ready b     | grant 2
            2  request 3 c |
            3  leave 1     |
               a is draining, in flight 0
            4  request 4 a |
            5  leave 2     | stop b evicted, stop a evicted
            6  stopped a   |
            7  stopped b   | start c
        """)

    def test_idle_ones_go_before_busy_ones(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 5
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            1  ready b     | grant 2
            2  leave 2     |
            3  request 3 c | stop b evicted
            4  request 4 a | grant 4
        """)

    def test_of_idle_ones_the_least_recently_used_goes(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 5
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            1  ready b     | grant 2
            2  leave 2     |
            3  leave 1     |
            4  request 3 b | grant 3
            5  leave 3     |
            6  request 4 c | stop a evicted
        """)

    def test_of_idle_ones_what_counts_is_the_end_of_their_use(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 5
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            1  ready b     | grant 2
            2  leave 2     |
            3  leave 1     |
            6  request 4 c | stop b evicted
        """)

    def test_of_busy_ones_the_one_that_granted_longest_ago_yields(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 5
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            2  ready b     | grant 2
            3  request 3 a | grant 3
            4  request 4 c |
               b is draining
               a is ready
        """)

    def test_also_where_it_was_granted_after_waiting(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 5
            0  request 1 a     | start a
            0  request 2 b     | start b
            0  request 3 a     |
            1  ready a limit 1 | grant 1
            2  ready b         | grant 2
            3  leave 1         | grant 3
            4  request 4 c     |
               b is draining
               a is ready
        """)

    def test_of_those_that_nobody_used_the_one_that_came_first_goes(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 5
            0  load a      | start a
            0  load b      | start b
            1  ready b     |
            2  ready a     |
            6  request 4 c | stop b evicted
        """)

    def test_a_model_that_starts_is_not_stopped_for_another(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  leave 1     |
            2  request 2 b |
               a is starting
               wake 902
            9  ready a     | stop a evicted
        """)

    def test_nobody_yields_while_another_victim_still_starts(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 8
            0  request 1 a | start a
            1  ready a     | grant 1
            2  request 2 b | start b
            3  request 3 c |
            4  request 4 a | grant 4
            5  ready b     | grant 2
            6  request 5 a |
            7  leave 1     |
            7  leave 4     |
            8  leave 2     | stop b evicted, stop a evicted
        """)

    def test_who_yielded_goes_on_where_the_wish_is_withdrawn(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  ready a     | grant 1
            2  request 2 b |
            3  request 3 a |
            4  leave 2     | grant 3
               a is ready, in flight 2
        """)

    def test_another_victim_is_taken_where_it_becomes_idle_first(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 5
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            1  ready b     | grant 2
            2  request 3 c |
               a is draining
            3  request 4 a |
            4  leave 2     | stop b evicted, grant 4
            5  stopped b   | start c
        """)

    def test_one_that_leaves_anyway_makes_the_room(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 5
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            1  ready b     | grant 2
            2  unload b    |
            3  request 3 c |
            4  request 4 a | grant 4
            5  leave 2     | stop b asked
            6  stopped b   | start c
        """)


class TestGroups:
    def test_members_one_at_a_time(self) -> None:
        tell("""
            group g
            model a group g
            model b group g
            model c
            0  request 1 a | start a
            0  request 2 c | start c
            1  ready a     | grant 1
            2  request 3 b |
            3  leave 1     | stop a evicted
            4  stopped a   | start b
        """)

    def test_members_together(self) -> None:
        tell("""
            group g together
            model a group g
            model b group g
            0  request 1 a | start a
            0  request 2 b | start b
        """)

    def test_groups_apart_hold_in_both_directions(self) -> None:
        tell("""
            group g together apart h
            group h together
            model a group g
            model b group g
            model c group h
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            1  ready b     | grant 2
            2  request 3 c |
            3  leave 1     |
            4  leave 2     | stop a evicted, stop b evicted
            5  stopped a   |
            6  stopped b   | start c
            7  ready c     | grant 3
            8  request 4 a |
            9  leave 3     | stop c evicted
            10 stopped c   | start a
        """)
