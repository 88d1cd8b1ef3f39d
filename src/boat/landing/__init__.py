"""Landing files into the raw log: one code path for every kind of file.

Event files are Parquet (`.parquet`), CSV (`.csv`, `.tsv`: commas, semicolons, tabs or bars, double quotes, UTF-8, one
header line) or JSON (`.ndjson`, `.jsonl`: an object a line; `.json`: the same, or one array of objects). Text files may
be compressed (`.gz`). Columns and values are understood as `boat.events` says; `docs/events.md` explains it. Any other
column is kept as JSON in `extra`; a column `extra` must hold JSON objects.

`products.parquet` (or `.csv`, `.ndjson` …) is a catalogue: `product_id`, and if known `product_name`, `shop`,
`category`, `price`; others go to `extra`. The files of the Coveo Data Challenge are known by their names
(`browsing_train.csv`, `search_train.csv`, `sku_to_content.csv`), with `product_names.csv`
(`product_sku_hash,product_name`) beside them for readable names.

They lie in a folder, or in a bucket under `s3://BUCKET/PREFIX`.

Files of known exports (Google Analytics 4, Segment, Snowplow and public data sets) are recognised, or a layout is named
for them: `boat.landing.layouts` and `docs/exports.md`.

A file without rows is fine: an hour without shoppers.

The collector's files are known by their names (`20240101T100000-0a1b2c3d.ndjson`), its dead letters by their folder,
`.dead-letter`. Those, and bad rows of other files where they are to be kept apart, go to `raw.dead_letters`.
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
