{#- Number of entries of a JSON list that is kept as text; null where there is none. -#}
{% macro json_length(text) -%}
    {{ return(adapter.dispatch('json_length')(text)) }}
{%- endmacro %}

{% macro default__json_length(text) -%}
    cast(array_size(try_parse_json({{ text }})) as bigint)
{%- endmacro %}

{% macro duckdb__json_length(text) -%}
    cast(json_array_length({{ text }}) as bigint)
{%- endmacro %}
