{#- The one order of events in a session: time, then the shopper's way to the purchase, then the place in the files, then
    `event_id` as a last resort. A list for `order by`. -#}
{% macro event_order() -%}
    event_time,
    case event_type
        {% for name in event_types() -%}
        when '{{ name }}' then {{ loop.index }}
        {% endfor -%}
    end,
    source_file,
    source_line,
    event_id
{%- endmacro %}
