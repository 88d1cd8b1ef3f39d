select
    shop,
    product_id,
    product_name,
    category,
    price,
    {{ json_text('extra', 'description_vector') }} as description_vector,
    load_id,
    source_file,
    source_line
from {{ source('raw', 'products') }}
