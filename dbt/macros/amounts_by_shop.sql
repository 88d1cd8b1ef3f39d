{#- Sum of the absolute amounts of each shop. Rounding errors of its sums are compared with it, because large purchases
    and returns can leave a small sum. -#}
{% macro amounts_by_shop() -%}
    select shop, sum(amount) as amount
    from (
        select shop, abs(price * coalesce(quantity, 1)) as amount
        from {{ ref('fct_session_events') }}
        where event_type = 'purchase'
        union all
        select shop, abs(tax) + abs(shipping) as amount
        from {{ ref('fct_transactions') }}
    ) as amounts
    group by shop
{%- endmacro %}
