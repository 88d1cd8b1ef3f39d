{{ config(materialized='incremental', incremental_strategy='by_session') }}

with events as (
    select *, {{ page_or_search() }} as page
    from {{ changed_or_all_events(ref('fct_session_events')) }}
),

sessions as (
    select * from {{ ref('fct_sessions') }}
),

before_purchase as (
    select
        events.session_key,
        events.shop,
        sessions.started_at,
        events.position,
        events.event_time,
        events.event_type,
        events.product_id,
        events.page as url,
        sessions.is_purchase
    from events
    inner join sessions on events.session_key = sessions.session_key
    -- What carries the purchase's own stamp (the page that confirms it) gives the label away.
    where (sessions.first_purchase_at is null or events.event_time < sessions.first_purchase_at)
        and events.event_type != 'purchase' -- returns
)

select * from before_purchase
