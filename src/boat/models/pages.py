"""URLs as names of pages: without what only tells how a shopper came there.

The same expressions, in RE2's syntax, run in Arrow while a model learns and, in `boat.models.graphs`, in TensorFlow
when it is asked.
"""

import pyarrow as pa
import pyarrow.compute as pc

_CAME_BY = (
    "utm_[^=&]*|gclid|gclsrc|dclid|gbraid|wbraid|gad_[^=&]*|srsltid|_ga|_gl|fbclid|msclkid|ttclid|twclid|li_fat_id|"
    "igshid|epik|yclid|mc_cid|mc_eid|_hsenc|_hsmi"
)
"""Parameters of campaigns and clicks: each shopper has others."""
CUTS = (
    (r"#([^/!].*)?$", ""),  # a place in the page; `#/` and `#!` begin the addresses of pages made by scripts
    (rf"([?&])((?:{_CAME_BY})=[^&]*(?:&|$))+", r"\1"),
    (r"[?&]+$", ""),
)


def named(urls: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The pages of URLs; a page is its own."""
    for pattern, left in CUTS:
        urls = pc.replace_substring_regex(urls, pattern, left)
    return urls
