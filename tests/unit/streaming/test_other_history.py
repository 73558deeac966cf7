"""A checkpoint and a model that were not made together are known by what each says of the other."""

from __future__ import annotations

import pytest

from app.errors import UserError
from app.files.resuming.checkpoint import Checkpoint
from app.monitor.batch_log import BatchLog
from app.registry.version import ModelVersion
from app.streaming.lineage import refuse_other_history
from tests.unit.monitor.batches import record

QUERY = "query"
LEARNED = 9
CURRENT = ModelVersion(8, "ab", "v8.safetensors", "2024-01-01", "c8", applied={QUERY: LEARNED})


def refuse(tmp_path, planned, committed, current=CURRENT, made=None):
    log = BatchLog(tmp_path / "batches")
    if made is not None:
        log.write(record(query=QUERY, batch=committed, version=made))
    checkpoint = Checkpoint(tmp_path / "checkpoint", QUERY, planned, committed)
    refuse_other_history(checkpoint, current, log)


@pytest.mark.parametrize(("planned", "committed"), [(9, 9), (9, 8), (12, 11)])
def test_what_was_made_together_goes_on(tmp_path, planned, committed):
    refuse(tmp_path, planned, committed, made=CURRENT.version)


@pytest.mark.parametrize("planned", [8, None])
def test_an_older_copy_of_the_checkpoint_is_refused(tmp_path, planned):
    with pytest.raises(UserError, match=f"up to batch 9, and the checkpoint .* {planned}: it"):
        refuse(tmp_path, planned, planned)


def test_an_older_copy_of_the_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="made version 9, and the model here has version 8"):
        refuse(tmp_path, 12, 12, made=CURRENT.version + 1)


def test_a_model_that_is_gone_is_refused(tmp_path):
    with pytest.raises(UserError, match="the model here has no version"):
        refuse(tmp_path, 9, 9, None, made=3)


def test_a_query_that_was_not_started_has_no_history(tmp_path):
    refuse_other_history(Checkpoint(tmp_path), CURRENT, BatchLog(tmp_path / "batches"))
