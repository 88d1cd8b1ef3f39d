{#- Events of one type, with the columns that every such view has and some that belong to the type. -#}
{% macro events_of_type(event_type, columns) -%}
    select
        event_id,
        session_key,
        shop,
        client_id,
        position,
        event_time,
        {{ columns | join(',\n        ') }}
    from {{ ref('fct_session_events') }}
    where event_type = '{{ event_type }}'
{%- endmacro %}
