"""The scheduler's policy, history by history (``tests.lifecycle.history`` has the language).

One class for each numbered rule of ``homeport.lifecycle.scheduler``. Here are the rules of whose turn
it is (1 to 3), and what those who wait are told of a failure (8). Beside this are
``test_scheduler_eviction`` (4, and groups), ``test_scheduler_room`` (5 and 6),
``test_scheduler_idleness`` (7), and ``test_scheduler_across`` with what lies across them.
"""

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
