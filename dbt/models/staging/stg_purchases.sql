select
    event_id,
    shop,
    {{ json_text('extra', 'transaction_id') }} as transaction_id,
    try_cast({{ json_text('extra', 'tax') }} as double) as tax,
    try_cast({{ json_text('extra', 'shipping') }} as double) as shipping
from {{ source('raw', 'events') }}
where event_type = 'purchase'
