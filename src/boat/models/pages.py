"""What a shopper was at, as a name: a page, a search, or something done to a product.

A page is its URL, without what only tells how a shopper came there. `marts.recommend_examples` writes a search without
a URL as `search:WORDS`, and what was done to a product as `add:ID`, `remove:ID` or `purchase:ID`; an exported model
does so with the events it is given. The same expressions, in RE2's syntax, run in Arrow while a model learns and, in
`boat.models.graphs`, in TensorFlow when it is asked.
"""

import pyarrow as pa
import pyarrow.compute as pc

from boat.models.sessions import SEARCH

_CAME_BY = (
    "utm_[^=&]*|gclid|gclsrc|dclid|gbraid|wbraid|gad_[^=&]*|srsltid|_ga|_gl|fbclid|msclkid|ttclid|twclid|li_fat_id|"
    "igshid|epik|yclid|mc_cid|mc_eid|_hsenc|_hsmi"
)
"""Parameters of campaigns and clicks: each shopper has others."""
CUTS = (
    (r"#([^/!].*)?$", ""),  # a place in the page; `#/` and `#!` begin the addresses of pages made by scripts
    (rf"([?&])((?:{_CAME_BY})=[^&]*(?:&|$))+", r"\1"),
    (r"[?&]+$", ""),
    (rf"^({SEARCH})\s+", r"\1"),
    (rf"^({SEARCH}.*?)\s+$", r"\1"),
)
ACTIONS = ("add", "remove", "purchase")


def named(urls: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The pages of URLs; a page is its own. The case of a search's words does not matter."""
    for pattern, left in CUTS:
        urls = pc.replace_substring_regex(urls, pattern, left)
    return pc.if_else(pc.starts_with(urls, SEARCH), pc.utf8_lower(urls), urls)
