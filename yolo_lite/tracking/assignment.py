"""Assign rows to columns at the least total cost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import InputError

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def assign(costs: npt.ArrayLike, *, limit: float = float("inf")) -> Places:
    """Return the pairs of rows and columns whose total cost is least; each row and column is in at most one pair.

    Without a limit, the smaller side is assigned completely. A pair that costs `limit` or more is left out, and every
    row or column without a partner counts as if it had cost the limit.

    Args:
        costs: [N, M]; may be infinite if there is a finite limit.
        limit: the cost at which a pair is no longer worth making.

    Returns:
        int64 [K, 2], (row, column) in the order of the rows.

    Raises:
        InputError: if costs are not a matrix, are NaN, or are infinite without a limit.

    Example:
        >>> assign([[1, 2], [1, 9]]).tolist()  # 2 + 1 is less than 1 + 9
        [[0, 1], [1, 0]]
        >>> assign([[1, 2], [5, 9]], limit=4).tolist()
        [[0, 0]]

    Source: Crouse 2016, "On implementing 2D rectangular assignment algorithms" (shortest augmenting paths).
    """
    matrix = np.asarray(costs, np.float64)
    if matrix.ndim != 2:
        raise InputError(f"costs must be a matrix [N, M], got {matrix.ndim} dimensions")
    clipped = np.minimum(matrix, limit)
    if np.isnan(matrix).any() or not np.isfinite(clipped).all():
        raise InputError("costs must be numbers, and finite unless there is a finite limit")
    if matrix.shape[0] > matrix.shape[1]:
        rows = _columns_of_rows(np.ascontiguousarray(clipped.T))
        columns = np.argsort(rows)
        pairs = np.stack([rows[columns], columns], 1)
    else:
        columns = _columns_of_rows(clipped)
        pairs = np.stack([np.arange(len(columns)), columns], 1)
    worth = matrix[pairs[:, 0], pairs[:, 1]] < limit
    return pairs[np.flatnonzero(worth)]


def _columns_of_rows(costs: Floats) -> Places:
    """Return the column of each row for a matrix with at least as many columns as rows.

    `row_prices` and `column_prices` are dual variables: no cost is below the sum of its two prices, and the costs of
    assigned pairs are equal to it. Rows whose cheapest column is still free are assigned at once.
    """
    count, width = costs.shape
    column_of, row_of = np.full(count, -1), np.full(width, -1)
    if not count:
        return column_of
    row_prices, column_prices = costs.min(1), np.zeros(width)
    for row, column in enumerate(costs.argmin(1).tolist()):
        if row_of[column] < 0:
            column_of[row], row_of[column] = column, row
    for row in np.flatnonzero(column_of < 0).tolist():
        _augment(row, costs, prices=(row_prices, column_prices), column_of=column_of, row_of=row_of)
    return column_of


def _augment(start: int, costs: Floats, *, prices: tuple[Floats, Floats], column_of: Places, row_of: Places) -> None:
    """Assign one more row along the shortest path of alternating pairs, and update the prices, all in place."""
    row_prices, column_prices = prices
    distances, before = np.full(costs.shape[1], np.inf), np.full(costs.shape[1], start)
    open_columns = np.ones(costs.shape[1], bool)
    row, length = start, 0.0
    while True:
        through = length + costs[row] - row_prices[row] - column_prices
        shorter = open_columns & (through < distances)
        distances[shorter], before[shorter] = through[shorter], row
        column = int(np.where(open_columns, distances, np.inf).argmin())
        length = float(distances[column])
        open_columns[column] = False
        if row_of[column] < 0:
            break
        row = int(row_of[column])
    visited = ~open_columns
    visited[column] = False
    row_prices[start] += length
    row_prices[row_of[visited]] += length - distances[visited]
    column_prices[visited] -= length - distances[visited]
    while True:
        row = int(before[column])
        row_of[column], column_of[row], column = row, column, int(column_of[row])
        if row == start:
            return
