{#- Field of a JSON object that is stored as text, as text; null if it is missing. -#}
{% macro json_text(column, field) -%}
    {{ return(adapter.dispatch('json_text')(column, field)) }}
{%- endmacro %}

{% macro default__json_text(column, field) -%}
    cast(get_path(try_parse_json({{ column }}), '{{ field }}') as varchar)
{%- endmacro %}

{% macro duckdb__json_text(column, field) -%}
    json_extract_string({{ column }}, '$.{{ field }}')
{%- endmacro %}
