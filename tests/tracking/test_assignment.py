"""Assignment against brute force and SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from yolo_lite.errors import InputError
from yolo_lite.tracking.assignment import assign


def cheapest(costs: npt.NDArray[np.float64], limit: float) -> float:
    """Try every way to give each row a column or none; a row without one costs the limit."""
    count, width = costs.shape
    free = [-1] * count  # a row may stay without a column
    return min(
        sum(limit if column < 0 else costs[row, column] for row, column in enumerate(columns))
        for columns in set(itertools.permutations([*range(width), *free], count))
    )


def total(costs: npt.NDArray[np.float64], limit: float) -> float:
    pairs = assign(costs, limit=limit)
    return float(costs[pairs[:, 0], pairs[:, 1]].sum()) + limit * (len(costs) - len(pairs))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (2, 3), (3, 2), (4, 4)], ids=str)
@pytest.mark.parametrize("limit", [100.0, 5.0, 2.0])
def test_the_total_is_that_of_brute_force(shape: tuple[int, int], limit: float) -> None:
    generator = np.random.default_rng(0)
    for number in range(12):
        costs = generator.integers(0, 10, shape).astype(float) if number % 2 else generator.uniform(0, 10, shape)
        assert total(costs, limit) == pytest.approx(cheapest(costs, limit))


@pytest.mark.parametrize("shape", [(30, 30), (25, 60), (60, 25), (1, 50), (80, 79)], ids=str)
@pytest.mark.parametrize("kind", ["uniform", "ties", "negative"])
def test_the_total_is_that_of_scipy(shape: tuple[int, int], kind: str) -> None:
    solve = pytest.importorskip("scipy.optimize").linear_sum_assignment
    generator = np.random.default_rng(1)
    makers = {
        "uniform": lambda: generator.uniform(0, 1, shape),
        "ties": lambda: generator.integers(0, 4, shape).astype(float),
        "negative": lambda: generator.normal(0, 9, shape),
    }
    for _ in range(4):
        costs = makers[kind]()
        pairs = assign(costs)
        assert len(pairs) == min(shape)
        assert costs[pairs[:, 0], pairs[:, 1]].sum() == pytest.approx(costs[solve(costs)].sum())


def test_pairs_are_in_the_order_of_the_rows_and_use_nothing_twice() -> None:
    pairs = assign(np.random.default_rng(2).uniform(0, 1, (20, 12)), limit=0.3)
    assert (np.diff(pairs[:, 0]) > 0).all()
    assert len(set(pairs[:, 1].tolist())) == len(pairs)
    assert pairs.dtype == np.int64


def test_pairs_at_or_above_the_limit_are_left_out() -> None:
    assert assign([[0.5, 0.7], [0.9, 0.8]], limit=0.8).tolist() == [[0, 0]]
    assert assign([[np.inf, 0.1], [np.inf, 0.2]], limit=1).tolist() == [[0, 1]]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)], ids=str)
def test_nothing_is_assigned_to_nothing(shape: tuple[int, int]) -> None:
    assert assign(np.zeros(shape)).shape == (0, 2)


def test_input_is_not_modified() -> None:
    costs = np.array([[3.0, 1.0], [2.0, 1.0]])
    before = costs.copy()
    assign(costs, limit=2)
    np.testing.assert_array_equal(costs, before)


@pytest.mark.parametrize("costs", [[1, 2], [[np.nan]], [[np.inf]]], ids=["vector", "nan", "infinite without a limit"])
def test_other_costs_are_refused(costs: list[object]) -> None:
    with pytest.raises(InputError, match="costs must be"):
        assign(costs)  # type: ignore[arg-type]
