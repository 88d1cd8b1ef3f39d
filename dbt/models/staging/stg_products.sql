select
    shop,
    product_id,
    product_name,
    category,
    price,
    load_id,
    source_file,
    source_line
from {{ source('raw', 'products') }}
