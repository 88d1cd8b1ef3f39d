select
    shop,
    product_id,
    product_name,
    category,
    {{ in_range('price', var('largest_amount')) }} as price,
    {{ json_text('extra', 'description_vector') }} as description_vector,
    load_id,
    source_file,
    source_line
from {{ source('raw', 'products') }}
where shop is not null and product_id is not null
