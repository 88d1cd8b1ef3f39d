"""Names of the pages that a shopper is on: a page, a search, or an action on a product.

A page is named by its URL without campaign parameters. `marts.recommend_examples` writes a search without a URL as
`search:WORDS`, and an action as `add:ID`, `remove:ID` or `purchase:ID`. An exported model does the same with the events
of a request. The same expressions, in RE2's syntax, run in Arrow during training and, in `boat.models.graphs`, in
TensorFlow.
"""

import pyarrow as pa
import pyarrow.compute as pc

from boat.models.sessions import SEARCH

_CAMPAIGN = (
    "utm_[^=&]*|gclid|gclsrc|dclid|gbraid|wbraid|gad_[^=&]*|srsltid|_ga|_gl|fbclid|msclkid|ttclid|twclid|li_fat_id|"
    "igshid|epik|yclid|mc_cid|mc_eid|_hsenc|_hsmi"
)
"""Parameters of campaigns and clicks, which differ between shoppers."""
CUTS = (
    (r"#([^/!].*)?$", ""),  # a position in the page; `#/` and `#!` begin the addresses of pages of scripts
    (rf"([?&])((?:{_CAMPAIGN})=[^&]*(?:&|$))+", r"\1"),
    (r"[?&]+$", ""),
    (rf"^({SEARCH})\s+", r"\1"),
    (rf"^({SEARCH}.*?)\s+$", r"\1"),
)
ACTIONS = ("add", "remove", "purchase")


def named(urls: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the page names of URLs. The case of the words of a search does not matter."""
    for pattern, left in CUTS:
        urls = pc.replace_substring_regex(urls, pattern, left)
    return pc.if_else(pc.starts_with(urls, SEARCH), pc.utf8_lower(urls), urls)
