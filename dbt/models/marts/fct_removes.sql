{{ config(materialized='view') }}

with events as (
    select * from {{ ref('fct_session_events') }}
),

removes as (
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
    where event_type = 'remove'
)

select * from removes
