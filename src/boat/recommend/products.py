"""What a snapshot says of products, beside the sessions."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from boat import snapshot


def read(folder: Path) -> pd.DataFrame:
    """The catalogue of the snapshot in `folder`: by product id its `category` (a path, or empty), `price` (or NaN), and
    whether it is `described` by a vector.

    Of a product that several shops sell, the first shop's.
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
