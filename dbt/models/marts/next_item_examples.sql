{{ config(materialized='incremental', incremental_strategy='by_session') }}

with events as (
    select * from {{ session_events(ref('fct_session_events')) }}
    where event_type in ('detail', 'click', 'add', 'purchase')
),

sessions as (
    select * from {{ ref('fct_sessions') }}
),

beside_previous as (
    select
        *,
        lag(product_id) over (partition by session_key order by position) as previous_product_id
    from events
),

collapsed as (
    select
        *,
        row_number() over (partition by session_key order by position) as item_position,
        count(*) over (partition by session_key) as item_count
    from beside_previous
    where previous_product_id is null or product_id != previous_product_id
),

examples as (
    select
        collapsed.session_key,
        collapsed.shop,
        sessions.started_at,
        collapsed.item_position as position,
        collapsed.event_time,
        collapsed.event_type,
        collapsed.product_id
    from collapsed
    inner join sessions on collapsed.session_key = sessions.session_key
    where collapsed.item_count >= 2
)

select * from examples
