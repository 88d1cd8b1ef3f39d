{{ config(materialized='view') }}

with events as (
    select * from {{ ref('fct_session_events') }}
),

adds as (
    select
        event_id,
        session_key,
        shop,
        client_id,
        position,
        event_time,
        product_id,
        price,
        quantity
    from events
    where event_type = 'add'
)

select * from adds
