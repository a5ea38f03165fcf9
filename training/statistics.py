"""Confidence intervals for measured rates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000


def cluster_interval(
    outcomes: npt.NDArray[np.bool_], clusters: npt.NDArray[np.int64], seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % cluster-bootstrap interval of the mean of ``outcomes`` (n,).

    Trials of one alphabet (or run, or person) are correlated; treating them as independent would make the interval too
    narrow. ``clusters`` (n,) is the cluster of each trial; whole clusters are drawn with replacement.
    """
    _, member = np.unique(clusters, return_inverse=True)
    right = np.bincount(member, weights=outcomes)
    total = np.bincount(member)
    n_clusters = len(total)
    draws = np.random.default_rng(seed).multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=RESAMPLES)
    means = (draws @ right) / (draws @ total)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
