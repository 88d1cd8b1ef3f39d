with purchases as (
    select
        event_id,
        shop,
        trim({{ json_text('extra', 'transaction_id') }}) as transaction_id,
        try_cast({{ json_text('extra', 'tax') }} as double) as tax,
        try_cast({{ json_text('extra', 'shipping') }} as double) as shipping
    from {{ ref('stg_events') }}
    where event_type = 'purchase'
)

select
    event_id,
    shop,
    case when not {{ is_placeholder('transaction_id') }} then transaction_id end as transaction_id,
    {{ in_range('tax', var('largest_amount')) }} as tax,
    {{ in_range('shipping', var('largest_amount')) }} as shipping
from purchases
