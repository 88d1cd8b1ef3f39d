select
    event_id,
    shop,
    session_id,
    client_id,
    event_time,
    received_at,
    event_type,
    product_id,
    url,
    query,
    price,
    quantity,
    extra,
    load_id,
    source_file,
    source_line
from {{ source('raw', 'events') }}
