"""The scheduler's policy, history by history (``tests.lifecycle.history`` has the language).

One class for each numbered rule of ``homeport.lifecycle.scheduler``, then what lies across them.
"""

import pytest

from homeport.lifecycle.scheduler import Grant, Policy, Refuse, Scheduler, Start, Terms
from tests.lifecycle.history import tell


class TestRule1NothingIsCutOff:
    def test_a_busy_model_is_not_stopped_for_another(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  request 1 a | start a
            1  ready a     | grant 1
            2  request 2 b |
               a is draining, in flight 1
            9  leave 1     | stop a evicted
            10 stopped a   | start b
            11 ready b     | grant 2
        """)

    def test_a_token_count_is_in_flight_too(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            0  count 1 a   | start a
            1  ready a     | grant 1
            2  request 2 b |
            9  leave 1     | stop a evicted
        """)

    def test_unload_waits(self) -> None:
        tell("""
            model a
            0  request 1 a | start a
            1  ready a     | grant 1
            2  unload a    |
               a is draining
            9  leave 1     | stop a asked
            10 stopped a   |
               a is stopped, holds 0
        """)

    def test_retire_waits(self) -> None:
        tell("""
            model a
            0  request 1 a | start a
            1  ready a     | grant 1
            2  retire a    |
            3  request 2 a | refuse 2 gone
            9  leave 1     | stop a gone
            10 stopped a   |
               a is forgotten
        """)

    def test_ttl_and_dwell_do_not_stop_a_busy_one(self) -> None:
        tell("""
            model a ttl 5
            0  request 1 a | start a
            1  ready a     | grant 1
               wake never
            90 leave 1     |
               wake 95
        """)


class TestRule2OneQueueForEachModel:
    def test_those_who_came_while_it_started_are_granted_together(self) -> None:
        tell("""
            model a
            0  request 1 a | start a
            1  request 2 a |
            2  count 3 a   |
               a is starting, queued 3
            3  ready a     | grant 1, grant 2, grant 3
               a is ready, queued 0, in flight 3
            4  request 4 a | grant 4
        """)

    def test_as_many_as_it_computes_side_by_side(self) -> None:
        tell("""
            model a
            0  request 1 a     | start a
            1  request 2 a     |
            2  request 3 a     |
            3  ready a limit 2 | grant 1, grant 2
            4  request 4 a     |
            5  leave 2         | grant 3
            6  leave 3         | grant 4
            7  leave 1         |
            8  leave 4         |
            9  request 5 a     | grant 5
        """)

    def test_token_counts_take_no_slot(self) -> None:
        tell("""
            model a
            0  request 1 a     | start a
            1  request 2 a     |
            1  count 3 a       |
            2  ready a limit 1 | grant 1, grant 3
            3  count 4 a       | grant 4
            4  leave 3         |
            5  leave 1         | grant 2
               a is ready, in flight 2
        """)

    def test_a_full_queue_refuses(self) -> None:
        tell("""
            model a queue 2
            0  request 1 a     | start a
            1  request 2 a     |
            7  request 3 a     | refuse 3 queue_full retry 7
            8  leave 1         |
            9  request 4 a     |
            9  ready a limit 1 | grant 2
            10 request 5 a     |
            10 request 6 a     | refuse 6 queue_full retry 1
               a is ready, in flight 1, queued 2
        """)

    def test_what_is_granted_does_not_count_against_the_queue(self) -> None:
        tell("""
            model a queue 1
            0  load a          | start a
            1  ready a         |
            2  request 1 a     | grant 1
            3  request 2 a     | grant 2
            4  request 3 a     | grant 3
        """)

    def test_a_queue_for_nobody(self) -> None:
        tell("""
            model a queue 0
            0  request 1 a     | refuse 1 queue_full retry 1
            0  load a          | start a
            1  ready a         |
            2  request 2 a     | grant 2
        """)

    def test_nobody_waits_too_long(self) -> None:
        tell("""
            model a wait 10
            0  request 1 a   | start a
            4  request 2 a   |
               wake 10
            10 tick          | refuse 1 waited_too_long retry 10
            14 ready a       | refuse 2 waited_too_long retry 10
               a is ready, queued 0
               wake never
        """)

    def test_a_client_is_never_told_to_wait_for_ages(self) -> None:
        tell("""
            model a queue 1
            0   request 1 a | start a
            500 request 2 a | refuse 2 queue_full retry 60
        """)

    def test_a_model_is_idle_when_the_last_who_waited_has_given_up(self) -> None:
        """a has yielded to c, which waits for b as well; nobody else wants a."""
        tell("""
            budget 10
            model a need 5 wait 10 ttl 2
            model b need 5
            model c need 8
            0  request 1 a | start a
            0  request 2 b | start b
            1  ready a     | grant 1
            1  ready b     | grant 2
            2  request 3 c |
            3  leave 1     |
               wake 5
            4  request 4 a |
               wake 14
            14 tick        | refuse 4 waited_too_long retry 10
               wake 16
        """)


class TestRule3TheOldestWishFirst:
    def test_needy_models_start_in_the_order_of_their_oldest_requests(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            model c need 6
            0  request 1 a | start a
            1  request 2 c |
            2  request 3 b |
            3  ready a     | grant 1
            4  leave 1     | stop a evicted
            5  stopped a   | start c
            6  ready c     | grant 2
            7  leave 2     | stop c evicted
            8  stopped c   | start b
        """)

    def test_a_load_is_a_wish_like_a_request(self) -> None:
        tell("""
            budget 10
            model a need 6
            model b need 6
            model c need 6
            0  request 1 a | start a
            1  load b      |
            2  request 2 c |
            2  load b      |
            3  request 3 b |
            4  ready a     | grant 1
            5  leave 1     | stop a evicted
            6  stopped a   | start b
            7  ready b     | grant 3
            8  leave 3     | stop b evicted
        """)

    def test_two_starts_side_by_side(self) -> None:
        tell("""
            budget 10
            model a need 5
            model b need 5
            model c need 1
            0  request 1 a | start a
            0  request 2 b | start b
            0  request 3 c |
            3  ready b     | grant 2
            4  ready a     | grant 1
        """)

    def test_a_younger_one_goes_ahead_where_it_takes_nothing_from_the_older(self) -> None:
        tell("""
            budget 10
            model a need 4
            model big need 8
            model small need 2
            0  request 1 a     | start a
            1  ready a         | grant 1
            2  request 2 big   |
            3  request 3 small | start small
            4  ready small     | grant 3
            5  leave 1         | stop a evicted
            6  stopped a       | start big
        """)

    def test_a_younger_one_waits_where_it_would_take_the_room_of_the_older(self) -> None:
        """It would fit now: that is how small models starve big ones."""
        tell("""
            budget 10
            model a need 4
            model big need 8
            model small need 3
            0  request 1 a     | start a
            1  ready a         | grant 1
            2  request 2 big   |
            3  request 3 small |
            5  leave 1         | stop a evicted
            6  stopped a       | start big
            7  ready big       | grant 2
            8  leave 2         | stop big evicted
            9  stopped big     | start small
        """)

    def test_one_that_waits_for_the_older_does_not_hold_up_the_youngest(self) -> None:
        tell("""
            budget 10
            model a need 2
            model big need 9
            model middle need 5
            model small need 1
            0  request 1 a      | start a
            1  ready a          | grant 1
            2  request 2 big    |
            3  request 3 middle |
            4  request 4 small  | start small
        """)

    def test_a_younger_one_may_evict_whom_the_older_does_not_need_to_go(self) -> None:
        tell("""
            budget 10
            group one
            group two
            model a need 3 group one
            model b need 3 group two
            model a2 need 4 group one
            model b2 need 4 group two
            0  request 1 a  | start a
            0  request 2 b  | start b
            1  ready a      | grant 1
            1  ready b      | grant 2
            2  leave 2      |
            3  request 3 a2 |
            4  request 4 b2 | stop b evicted
            5  stopped b    | start b2
            6  leave 1      | stop a evicted
            7  stopped a    | start a2
        """)

    def test_a_younger_one_waits_for_the_victims_of_the_older_beside_which_it_will_fit(
        self,
    ) -> None:
        tell("""
            budget 10
            model a need 10
            model b need 5
            model c need 5
            0  request 1 a | start a
            1  ready a     | grant 1
            2  request 2 b |
            3  request 3 c |
            4  leave 1     | stop a evicted
            5  stopped a   | start b, start c
        """)

    def test_one_that_is_being_stopped_has_its_place_in_the_order_too(self) -> None:
        """a was asked for again before c, so c does not take the room that a will need."""
        tell("""
            budget 10
            model a need 4
            model b need 5
            model c need 4
            0  request 1 a  | start a
            1  ready a      | grant 1
            1  measured a 6 |
            2  request 2 b  |
            3  request 3 a  |
            4  leave 1      | stop a evicted
            5  request 4 c  |
               a is stopping, queued 1, holds 6
            6  stopped a    | start b, start a
            7  ready b      | grant 2
            8  leave 2      | stop b evicted
        """)


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


class TestRule8Failures:
    def test_a_failed_start_refuses_those_who_wait_and_the_next_tries_again(self) -> None:
        tell("""
            model a
            0  request 1 a    | start a
            1  request 2 a    |
            2  fail a         | refuse 1 failed, refuse 2 failed
               a is failed, holds 0
            3  request 3 a    | start a
               a is starting
        """)

    def test_a_start_that_will_be_tried_again_tells_when(self) -> None:
        tell("""
            model a
            0  request 1 a    | start a
            2  fail a retry 4 | refuse 1 failed retry 4
               a is backoff
            3  request 2 a    |
            6  ready a        | grant 2
        """)

    def test_those_who_wait_outlive_one_crash(self) -> None:
        tell("""
            model a
            0  request 1 a     | start a
            1  ready a limit 1 | grant 1
            2  request 2 a     |
            3  crash a retry 1 |
            3  leave 1         |
               a is backoff, queued 1
            4  fail a retry 2  | refuse 2 failed retry 2
        """)

    def test_a_crash_for_good(self) -> None:
        tell("""
            model a
            0  request 1 a     | start a
            1  ready a limit 1 | grant 1
            2  request 2 a     |
            3  crash a         | refuse 2 failed
               a is failed, in flight 1
            4  request 3 a     | start a
            5  ready a limit 1 |
            6  leave 1         | grant 3
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
