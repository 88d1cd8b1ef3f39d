{#- Lines of orders, each once, from purchase events of `fct_session_events` and their rows in `stg_purchases`. An order
    is identified by its number; without one, the lines of one session and time are an order. -#}
{% macro purchase_lines(events, purchases) -%}
    {% set line = 'shop, transaction_id, product_id, price, quantity' %}
    {% set in_file_order = 'source_file, source_line, event_id' %}
    select *
    from (
        select
            events.event_id,
            events.shop,
            events.session_key,
            events.client_id,
            events.event_time,
            events.product_id,
            events.price,
            events.quantity,
            events.source_file,
            events.source_line,
            purchases.transaction_id,
            purchases.tax,
            purchases.shipping,
            case when purchases.transaction_id is null then events.session_key end as unnumbered_session,
            case when purchases.transaction_id is null then events.event_time end as unnumbered_time,
            -- Equal lines that were sent together are separate pieces.
            row_number() over (
                partition by
                    events.shop, purchases.transaction_id, events.product_id, events.price, events.quantity,
                    events.session_key, events.event_time
                order by events.source_file, events.source_line, events.event_id
            ) as piece
        from {{ events }} as events
        inner join {{ purchases }} as purchases
            on events.shop = purchases.shop
            and events.event_id = purchases.event_id
    ) as lines
    -- A shopper who opens the confirmation page again sends an order with a number again.
    qualify
        transaction_id is null
        or row_number() over (partition by {{ line }}, piece order by event_time, {{ in_file_order }}) = 1
{%- endmacro %}
