"""Names of files are put in order, and their directories name columns."""

from __future__ import annotations

import os
import random

import pytest

from app.files.paths import natural_order, partition_of


def test_numbers_in_names_count_as_such():
    ordered = [
        "/a/1.csv", "/a/02.csv", "/a/2.csv", "/a/10.csv", "/a/B.csv", "/a/b.csv",
        "/a/d=2024-01-09/part-3", "/a/d=2024-01-9/part-2", "/a/d=2024-01-10/part-1",
        "/a/part-2-1.csv", "/a/part-2-10.csv", "/a/part-10-0.csv", "/b/0.csv",
    ]  # fmt: skip
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural_order) == ordered


def test_names_without_numbers_or_of_one_width_stay_as_they_were():
    names = ["/x/B", "/x/a/z", "/x/a.csv", "/x/b", "/x/part-00001", "/x/part-00002", "/x/é"]
    assert sorted(names, key=natural_order) == sorted(names, key=lambda name: name.split("/"))


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("/in/date=2024-01-01/region=eu/part-0.parquet", {"date": "2024-01-01", "region": "eu"}),
        ("/in/x=1.csv", {}),
        ("/in/=1/a.csv", {}),
        ("/in/x=/a.csv", {"x": ""}),
        ("/in/x=a=b/a.csv", {"x": "a=b"}),
        ("/in/x=__HIVE_DEFAULT_PARTITION__/a.csv", {"x": None}),
        ("/in/sp%20ace=a%2Fb%3D%C3%A9/a.csv", {"sp ace": "a/b=é"}),
        ("/in/x=100%/a.csv", {"x": "100%"}),
        ("/in/x=1/y=2/x=3/a.csv", {"x": "3", "y": "2"}),
        (os.fsdecode(b"/in/x=\xff/a.csv"), {"x": "\ufffd"}),
    ],
)
def test_directories_name_columns(path, columns):
    assert partition_of(path) == columns
