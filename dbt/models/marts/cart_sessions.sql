{{ config(materialized='view') }}

with events as (
    select * from {{ ref('fct_session_events') }}
),

carts as (
    select
        session_key,
        min(event_time) as added_at,
        min(position) as position
    from events
    where event_type = 'add'
    group by session_key
),

sessions as (
    select
        events.session_key,
        events.shop,
        min(events.client_id) as client_id,
        carts.added_at,
        carts.position as add_position,
        count(case when events.position > carts.position and events.event_type != 'purchase' then 1 end)
            as events_after_add,
        count(case when events.event_type = 'add' then 1 end) as add_count,
        count(case when events.event_type = 'remove' then 1 end) as remove_count,
        count(distinct case when events.event_type = 'add' then events.product_id end) as product_count,
        cast(
            coalesce(
                sum(
                    case events.event_type
                        when 'add' then events.price * coalesce(events.quantity, 1)
                        when 'remove' then -events.price * coalesce(events.quantity, 1)
                    end
                ), 0
            ) as double
        ) as cart_value,
        count(case when {{ is_buy() }} and events.position > carts.position then 1 end) > 0
            as is_purchase
    from events
    inner join carts on events.session_key = carts.session_key
    group by events.session_key, events.shop, carts.added_at, carts.position
)

select * from sessions
