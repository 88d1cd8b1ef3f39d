{{ config(meta={
    'clock_ahead_minutes': var('clock_ahead_minutes'),
    'clock_late_days': var('clock_late_days'),
    'earliest_event_time': var('earliest_event_time'),
    'largest_amount': var('largest_amount'),
    'largest_quantity': var('largest_quantity'),
}) }}

with logged as (
    select
        event_id,
        shop,
        session_id,
        client_id,
        {{ believed_time() }} as event_time,
        received_at,
        event_type,
        product_id,
        url,
        query,
        {{ in_range('price', var('largest_amount')) }} as price,
        {{ in_range('quantity', var('largest_quantity')) }} as quantity,
        extra,
        load_id,
        source_file,
        source_line
    from {{ source('raw', 'events') }}
)

select * from logged
where {{ counts() }}
