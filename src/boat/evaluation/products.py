"""What a snapshot says of products, beside the sessions."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from boat import snapshot


def read(folder: Path) -> pd.DataFrame:
    """The catalogue of the snapshot in `folder`: `category` (a path, or empty) and `price` (or NaN) by product id.

    Of a product that several shops sell, the first shop's.
    """
    columns = ["product_id", "category", "price"]
    rows: pd.DataFrame = pq.read_table(folder / snapshot.PRODUCTS, columns=columns).to_pandas()
    table = rows.drop_duplicates("product_id").set_index("product_id")
    return table.assign(category=table["category"].fillna("").astype(str), price=table["price"].astype(float))
