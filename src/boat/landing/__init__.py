"""Read and validate landing files of every kind.

Event files are Parquet (`.parquet`), CSV (`.csv`, `.tsv`: commas, semicolons, tabs or bars, double quotes, UTF-8, one
header line) or JSON (`.ndjson`, `.jsonl`: one object per line; `.json`: the same, or one array of objects). Text files
can be compressed (`.gz`). Columns and values are read by `boat.events`; `docs/events.md` explains it. Other columns are
JSON in `extra`; a column `extra` must have JSON objects.

`products.parquet` (or `.csv`, `.ndjson` …) is a catalogue: `product_id`, and if known `product_name`, `shop`,
`category`, `price`; other columns go to `extra`. The files of the Coveo Data Challenge are recognised by their names
(`browsing_train.csv`, `search_train.csv`, `sku_to_content.csv`), with optional names of products in
`product_names.csv` (`product_sku_hash,product_name`).

Files are in a folder, or in a bucket under `s3://BUCKET/PREFIX`.

Files of known exports (Google Analytics 4, Segment, Snowplow and public data sets) are recognised, or a layout is named
for them: `boat.landing.layouts` and `docs/exports.md`.

A file without rows is valid: an hour without shoppers.

The collector's files are recognised by their names (`20240101T100000-0a1b2c3d.ndjson`), its dead letters by their
folder, `.dead-letter`. Dead letters, and quarantined rows of other files, go to `raw.dead_letters`.
"""

from boat.landing.bucket import is_bucket
from boat.landing.dead_letters import BadRows, OnBadRows, Reason
from boat.landing.discovery import discover
from boat.landing.files import FileKind, LandingFile
from boat.landing.preview import Preview, preview

__all__ = [
    "BadRows",
    "FileKind",
    "LandingFile",
    "OnBadRows",
    "Preview",
    "Reason",
    "discover",
    "is_bucket",
    "preview",
]
