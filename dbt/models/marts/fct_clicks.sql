{{ config(materialized='view') }}

with events as (
    select * from {{ ref('fct_session_events') }}
),

clicks as (
    select
        event_id,
        session_key,
        shop,
        client_id,
        position,
        event_time,
        product_id,
        url
    from events
    where event_type = 'click'
)

select * from clicks
