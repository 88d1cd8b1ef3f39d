{#- Order of events in a session, as a list for `order by`: time, event type on the way to the purchase, file and line,
    then `event_id`. -#}
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
