"""What requests take from a budget is given back once, when nothing needs it any more."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from yolo_lite.serve.limits import Budget, RefusedError


def begun() -> Future[Any]:
    """Return a future of something that is being worked on."""
    work: Future[Any] = Future()
    work.set_running_or_notify_cancel()
    return work


def test_a_share_is_given_back_when_its_block_ends() -> None:
    budget = Budget(10, "busy")
    with budget.share() as one, budget.share() as other:
        one.take(4)
        one.take(3)
        with pytest.raises(RefusedError, match="busy") as caught:
            other.take(4)
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        other.take(3)
        assert budget.left == 0
    assert budget.left == 10


def test_a_share_is_held_until_all_that_works_on_it_has_finished() -> None:
    budget, works = Budget(10, "busy"), [begun(), begun(), begun()]
    with budget.share() as share:
        share.take(4)
        for work in works:
            share.follow(work)
        works[1].set_result(1)
    assert budget.left == 6
    share.take(2)  # a thread that still works may need more
    works[2].set_exception(KeyError())
    assert budget.left == 4
    works[0].set_result(1)
    assert budget.left == 10


def test_a_share_is_not_held_for_what_was_cancelled() -> None:
    budget, work = Budget(10, "busy"), Future[Any]()
    with budget.share() as share:
        share.take(4)
        share.follow(work)
        assert work.cancel()
    assert budget.left == 10
