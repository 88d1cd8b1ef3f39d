select
    event_id,
    shop,
    {{ json_length(
        "coalesce(" ~ json_text('extra', 'product_skus_hash') ~ ", " ~ json_text('extra', 'results') ~ ")"
    ) }}
        as result_count
from {{ ref('stg_events') }}
where event_type = 'search'
