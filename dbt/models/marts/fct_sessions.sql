{{ config(materialized='incremental', incremental_strategy='by_session') }}

with events as (
    select * from {{ changed_or_all_events(ref('fct_session_events')) }}
),

sessions as (
    select
        session_key,
        shop,
        min(session_id) as session_id,
        min(client_id) as client_id,
        min(event_time) as started_at,
        max(event_time) as ended_at,
        cast(min(event_time) as date) as session_date,
        count(*) as event_count,
        count(case when event_type = 'pageview' then 1 end) as pageview_count,
        count(case when event_type = 'detail' then 1 end) as detail_count,
        count(case when event_type = 'add' then 1 end) as add_count,
        count(case when event_type = 'remove' then 1 end) as remove_count,
        count(case when {{ is_buy() }} then 1 end) as purchase_count,
        -- Lines of one order carry one stamp.
        count(distinct case when {{ is_buy() }} then event_time end) as transaction_count,
        count(distinct product_id) as product_count,
        min(case when {{ is_buy() }} then event_time end) as first_purchase_at,
        cast(coalesce(sum(case when event_type = 'purchase' then price * coalesce(quantity, 1) end), 0) as double)
            as revenue,
        count(case when {{ is_buy() }} then 1 end) > 0 as is_purchase
    from events
    group by session_key, shop
)

select * from sessions
