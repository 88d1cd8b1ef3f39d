"""The products of a snapshot's catalogue."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from boat import snapshot


def read(folder: Path) -> pd.DataFrame:
    """Read the catalogue of the snapshot in `folder`. If several shops sell a product, the first shop's row counts.

    Returns:
        By product id: `category`, a path or empty; `price`, or NaN; and `described`, whether it has a description
        vector.
    """
    columns = ["product_id", "category", "price", "description_vector"]
    rows: pd.DataFrame = pq.read_table(folder / snapshot.PRODUCTS, columns=columns).to_pandas()
    table = rows.drop_duplicates("product_id").set_index("product_id")
    return pd.DataFrame(
        {
            "category": table["category"].fillna("").astype(str),
            "price": table["price"].astype(float),
            "described": table["description_vector"].notna(),
        }
    )
