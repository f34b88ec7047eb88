"""Uploads to tables, by media type. A new format is a new row in PARSERS."""

from collections.abc import Callable, Mapping

from app.datasets.csv_table import parse_csv
from app.datasets.json_table import parse_json
from app.datasets.table import ParsedTable, TableLimits

__all__ = ["PARSERS", "ParsedTable", "TableLimits", "parse_csv", "parse_json"]

PARSERS: Mapping[str, Callable[[bytes, TableLimits], ParsedTable]] = {
    "text/csv": parse_csv,
    "application/json": parse_json,
}
