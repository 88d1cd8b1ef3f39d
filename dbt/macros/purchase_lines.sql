{#- Lines of orders, each once: a query over purchase events of `fct_session_events` and what `stg_purchases` says of them. An
    order is known by its number; without one, its lines are those of one session and stamp. -#}
{% macro purchase_lines(events, purchases) -%}
    select
        events.event_id,
        events.shop,
        events.session_key,
        events.client_id,
        events.event_time,
        events.product_id,
        events.price,
        events.quantity,
        purchases.transaction_id,
        purchases.tax,
        purchases.shipping,
        case when purchases.transaction_id is null then events.session_key end as unnumbered_session,
        case when purchases.transaction_id is null then events.event_time end as unnumbered_time
    from {{ events }} as events
    inner join {{ purchases }} as purchases
        on events.shop = purchases.shop
        and events.event_id = purchases.event_id
    -- A shopper who opens the confirmation page again sends a numbered order again.
    qualify
        purchases.transaction_id is null
        or row_number() over (
            partition by
                events.shop, purchases.transaction_id, events.product_id, events.price, events.quantity
            order by events.event_time, events.event_id
        ) = 1
{%- endmacro %}
