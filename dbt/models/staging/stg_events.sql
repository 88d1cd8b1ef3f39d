{{ config(meta={'clock_tolerance_minutes': var('clock_tolerance_minutes')}) }}

select
    event_id,
    shop,
    session_id,
    client_id,
    -- Nothing happens after it was received: a clock that far ahead, or in another zone, is not believed.
    case
        when event_time > {{ dbt.dateadd('minute', var('clock_tolerance_minutes'), 'received_at') }} then received_at
        else event_time
    end as event_time,
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
