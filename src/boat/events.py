"""The event contract: the one schema that loaders, generator, dbt sources and tests share.

An event is one thing a shopper did. `session_id` or `client_id` must be there; times are UTC without a zone.
What a file holds beside these columns is kept as JSON in `extra`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

SCHEMA_VERSION = 1

EventType = Literal["pageview", "detail", "add", "remove", "purchase", "click", "search"]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)
SYNONYMS = {
    "view": "detail",
    "view_item": "detail",
    "page_view": "pageview",
    "cart": "add",
    "addtocart": "add",
    "add_to_cart": "add",
    "remove_from_cart": "remove",
    "transaction": "purchase",
    "select_item": "click",
    "view_search_results": "search",
}
"""What Google Analytics 4 and public data sets call them."""
PRODUCT_EVENT_TYPES = ("detail", "add", "remove", "purchase", "click")
"""Event types that cannot be without a product."""


@dataclass(frozen=True)
class Column:
    """One column of the contract.

    Attributes:
        name: Its name in files and tables.
        type: Its SQL type, understood by DuckDB and Snowflake alike.
        required: Whether a file must hold the column and each row a value.
        text: What it means, for documentation.
    """

    name: str
    type: Literal["varchar", "timestamp", "double", "integer"]
    required: bool
    text: str


COLUMNS = (
    Column("event_id", "varchar", False, "unique in a shop; made from the event's content where a file has none"),
    Column("shop", "varchar", False, "which shop; `shop` where a file has none"),
    Column("session_id", "varchar", False, "session as the shop counts it; this or `client_id` is needed"),
    Column("client_id", "varchar", False, "browser or customer; cut into sessions at gaps of 30 minutes"),
    Column("event_time", "timestamp", True, "when it happened, UTC"),
    Column("received_at", "timestamp", False, "when the collector took it, UTC"),
    Column("event_type", "varchar", True, f"one of {', '.join(get_args(EventType))}; `view` means `detail` …"),
    Column("product_id", "varchar", False, "needed for all types but `pageview` and `search`"),
    Column("url", "varchar", False, "page address or its hash"),
    Column("query", "varchar", False, "what was searched for"),
    Column("price", "double", False, "of one piece"),
    Column("quantity", "double", False, "pieces"),
)
