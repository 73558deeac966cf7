"""A design in words: in short for the start of a run, and column by column."""

from __future__ import annotations

from collections.abc import Iterator

from app.contract import Category
from app.inspection.columns import ColumnLook
from app.inspection.design import Design

_MOST_NAMED = 6


def in_short(design: Design) -> list[str]:
    """Return a few lines: the numbers, the categories, the classes."""
    look, fixed = design.look, design.fixed
    categories = fixed.encoding.categories
    lines = []
    for what, names in (
        ("numbers", [name for name in fixed.features if name not in categories]),
        ("categories", [name for name in fixed.features if name in categories]),
    ):
        if names:
            shown = [_named(name, look.columns.get(name), categories.get(name)) for name in names]
            more = len(shown) - _MOST_NAMED
            rest = f" and {more} more" if more > 0 else ""
            lines.append(f"{len(names)} {what}: {', '.join(shown[:_MOST_NAMED])}{rest}")
    lines.append("classes: " + ", ".join(_classes(design)))
    return lines


def as_table(design: Design) -> list[str]:
    """Return a line for each feature, and those below them for the rows and the classes."""
    look = design.look
    n_rows = f"{look.n_rows:,}{'' if look.is_whole else ', the first'}"
    malformed = f", {look.n_malformed:,} of them none" if look.n_malformed else ""
    return [
        *_columns(design),
        "",
        f"rows     {n_rows}{malformed}",
        f"classes  {', '.join(_classes(design))}",
    ]


def _columns(design: Design) -> list[str]:
    rows = [("feature", "kind", "values", "missing", "example")]
    for name in design.fixed.features:
        column = design.look.columns.get(name)
        category = design.fixed.encoding.categories.get(name)
        if column is None:
            rows.append((name, "array", "", "", ""))
            continue
        kind = "number" if category is None else "category"
        example = "" if column.example is None else str(column.example)
        rows.append((name, kind, _values(column, category), _share(column), example[:30]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _named(name: str, column: ColumnLook | None, category: Category | None) -> str:
    if column is None:
        return name
    if category is not None:
        return f"{name} ({_values(column, category)})"
    return f"{name} ({_share(column)} missing)" if column.n_missing else name


def _values(column: ColumnLook, category: Category | None) -> str:
    if category is None:
        return f"{column.low:g} to {column.high:g}" if column.n_numbers else ""
    known, seen = len(category.vocabulary), len(column.counts)
    return f"{known:,}" if seen <= known else f"{known:,} of {seen:,}"


def _share(column: ColumnLook) -> str:
    if not column.n_missing:
        return ""
    share = column.n_missing / column.n_rows
    return "< 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")


def _classes(design: Design) -> Iterator[str]:
    counts = design.labels.labels
    for name in design.fixed.classes:
        yield f"{name} ({counts[name]:,})" if name in counts else name
