{{ config(materialized='view') }}

with events as (
    select * from {{ ref('fct_session_events') }}
),

pageviews as (
    select
        event_id,
        session_key,
        shop,
        client_id,
        position,
        event_time,
        url,
        seconds_since_previous
    from events
    where event_type = 'pageview'
)

select * from pageviews
