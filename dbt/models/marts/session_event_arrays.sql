{{ config(materialized='view', contract={'enforced': false}) }}{# each warehouse has another name for an array #}

with events as (
    select * from {{ ref('fct_session_events') }}
    where event_type != 'purchase' or {{ is_buy() }}
),

sessions as (
    select
        session_key,
        shop,
        min(event_time) as started_at,
        count(*) as event_count,
        {{ array_in_order('event_type', 'position') }} as event_types,
        {{ array_in_order("coalesce(product_id, '')", 'position') }} as product_ids,
        {{ array_in_order("coalesce(" ~ page_or_search() ~ ", '')", 'position') }} as urls,
        {{ array_in_order(epoch_seconds('event_time'), 'position') }} as times
    from events
    group by session_key, shop
)

select * from sessions
