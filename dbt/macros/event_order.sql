{#- The one order of events in a session: time, then the shopper's way to the purchase, then `event_id` as a last resort.
    A list for `order by`. -#}
{% macro event_order() -%}
    event_time,
    case event_type
        when 'pageview' then 1
        when 'search' then 2
        when 'click' then 3
        when 'detail' then 4
        when 'add' then 5
        when 'remove' then 6
        when 'purchase' then 7
    end,
    event_id
{%- endmacro %}
