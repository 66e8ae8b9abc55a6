"""The papers' schedule: a lower learning rate whenever the loss has stopped falling."""

from __future__ import annotations

from typing import Any

__all__ = ["Plateau"]

STEPS = 1000
"""Of which the mean loss counts; about an epoch of the papers' lists."""
FALL = 0.5
LEAST = 0.01
THRESHOLD = 1e-4
"""A loss is lower when it is so by more than this share."""


class Plateau:
    """`factor` falls by half after `patience` means in a row that weren't lower than the lowest; never if that is 0."""

    def __init__(self, patience: int) -> None:
        self.patience, self.factor = patience, 1.0
        self._sum, self._count, self._lowest, self._waited = 0.0, 0, float("inf"), 0

    def note(self, loss: float) -> None:
        """A step's loss."""
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count == STEPS:
            self._judge(self._sum / STEPS)
            self._sum, self._count = 0.0, 0

    def state(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"factor": self.factor, "lowest": self._lowest, "waited": self._waited}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; an empty one leaves everything as it is."""
        self.factor = state.get("factor", self.factor)
        self._lowest, self._waited = state.get("lowest", self._lowest), state.get("waited", self._waited)

    def _judge(self, mean: float) -> None:
        if mean < self._lowest * (1 - THRESHOLD):
            self._lowest, self._waited = mean, 0
            return
        self._waited += 1
        if self.patience and self._waited >= self.patience:
            self.factor, self._waited = max(FALL * self.factor, LEAST), 0
