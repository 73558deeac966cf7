"""The steps of the commit protocol."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """What a batch has done, in order. The numbers are those of the commit protocol."""

    FENCED = "1 fenced"
    PREDICTIONS_WRITTEN = "3 predictions written"
    DEAD_LETTERS_WRITTEN = "3 dead letters written"
    FEEDBACK_RECORDED = "4 feedback recorded"
    LEARNED = "4 learned"
    SNAPSHOT_WRITTEN = "6 snapshot written"
    PUBLISHED = "7 published"
    FINALIZED = "8 finalized"
    CURRENT_WRITTEN = "8 HEAD.json written"
    LOGGED = "9 logged"


WRITTEN = {"predictions": Step.PREDICTIONS_WRITTEN, "dead_letters": Step.DEAD_LETTERS_WRITTEN}
"""The step that each part of what a batch writes completes."""
