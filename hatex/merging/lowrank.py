"""Arithmetic on low-rank updates B A, without ever building what need not be dense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """The matrix B A. A has shape (r, in), B has shape (out, r); scaling and weight are already in B."""

    A: Tensor
    B: Tensor

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    def dense(self) -> Tensor:
        """The matrix itself, shape (out, in)."""
        return self.B @ self.A


class Truncated(NamedTuple):
    """The best rank-r part of a matrix, and squared Frobenius norms of that part and of the whole."""

    factors: Factors
    kept: float
    total: float


def concatenate(parts: Sequence[Factors]) -> Factors:
    """The exact sum of updates; its rank is the sum of ranks."""
    return Factors(torch.cat([part.A for part in parts]), torch.cat([part.B for part in parts], dim=1))


def squared_norm(factors: Factors) -> float:
    """Squared Frobenius norm of B A, from r x r Gram matrices in double precision."""
    A, B = factors.A.double(), factors.B.double()
    return max(0.0, float(((B.T @ B) * (A @ A.T)).sum()))


def squared_distance(left: Factors, right: Factors) -> float:
    """Squared Frobenius norm of the difference of two updates."""
    return squared_norm(concatenate([left, Factors(right.A, -right.B)]))


def truncate_factors(factors: Factors, rank: int) -> Truncated:
    """Truncated SVD of B A by QR of its factors (double precision); nothing larger than r x r is
    decomposed.
    """
    Qb, Rb = torch.linalg.qr(factors.B.double())
    Qa, Ra = torch.linalg.qr(factors.A.double().T)
    U, S, Vh = torch.linalg.svd(Rb @ Ra.T)
    return _cut(Qb @ U, S, Vh @ Qa.T, rank, total=float(S.square().sum()))


def truncate_dense(matrix: Tensor, rank: int, generator: torch.Generator) -> Truncated:
    """Truncated SVD of a dense matrix by randomised subspace iteration (Halko, Martinsson and Tropp 2011).

    Exact (up to rounding) where the matrix has no more than `rank` + 8 singular values above zero.
    """
    total = float(matrix.square().sum(dtype=torch.float64))
    width = min(rank + 8, *matrix.shape)
    Q = torch.randn(matrix.shape[1], width, generator=generator, dtype=matrix.dtype)
    for _ in range(3):
        Q = torch.linalg.qr(matrix @ Q).Q
        Q = torch.linalg.qr(matrix.T @ Q).Q
    Q = torch.linalg.qr(matrix @ Q).Q
    U, S, Vh = torch.linalg.svd(Q.T @ matrix, full_matrices=False)
    return _cut(Q @ U, S, Vh, rank, total=total)


def pad(factors: Factors, rank: int) -> Factors:
    """The same matrix with zero columns and rows up to `rank`, so that all modules of an adapter agree."""
    missing = rank - factors.rank
    A = torch.nn.functional.pad(factors.A, (0, 0, 0, missing))
    return Factors(A, torch.nn.functional.pad(factors.B, (0, missing)))


def _cut(U: Tensor, S: Tensor, Vh: Tensor, rank: int, *, total: float) -> Truncated:
    """Split the leading singular values evenly between both factors: neither over- nor underflows in bf16."""
    S = S[:rank]
    root = S.sqrt()
    A, B = (root[:, None] * Vh[:rank]).float(), (U[:, :rank] * root).float()
    return Truncated(Factors(A, B), float(S.double().square().sum()), total)
