{#- An order is known by its number; without one, its lines are those of one session and stamp. -#}
{% set order_key = 'shop, transaction_id, unnumbered_session, unnumbered_time' %}

with events as (
    select * from {{ ref('fct_session_events') }}
    where event_type = 'purchase'
),

purchases as (
    select * from {{ ref('stg_purchases') }}
),

sent_first as (
    {{ purchase_lines('events', 'purchases') }}
),

numbered as (
    select
        *,
        row_number() over (
            partition by {{ order_key }} order by event_time, source_file, source_line, event_id
        ) as line_number
    from sent_first
),

transactions as (
    select
        shop,
        transaction_id,
        min(case when line_number = 1 then session_key end) as session_key,
        min(case when line_number = 1 then client_id end) as client_id,
        min(event_time) as purchased_at,
        count(case when coalesce(quantity, 1) > 0 then 1 end) as line_count,
        cast(coalesce(sum(price * coalesce(quantity, 1)), 0) as double) as revenue,
        coalesce(max(tax), 0) as tax,
        coalesce(max(shipping), 0) as shipping
    from numbered
    group by {{ order_key }}
)

select * from transactions
