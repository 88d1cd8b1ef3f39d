{{ config(materialized='view') }}

with events as (
    select * from {{ ref('fct_session_events') }}
),

details as (
    select
        event_id,
        session_key,
        shop,
        client_id,
        position,
        event_time,
        product_id,
        url,
        price
    from events
    where event_type = 'detail'
)

select * from details
