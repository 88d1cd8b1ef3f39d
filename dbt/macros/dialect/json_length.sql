{#- Number of entries of a JSON list that is stored as text; null if it is not a list. -#}
{% macro json_length(text) -%}
    {{ return(adapter.dispatch('json_length')(text)) }}
{%- endmacro %}

{% macro default__json_length(text) -%}
    cast(array_size(try_parse_json({{ text }})) as bigint)
{%- endmacro %}

{% macro duckdb__json_length(text) -%}
    cast(
        case when json_valid({{ text }}) and json_type({{ text }}) = 'ARRAY' then json_array_length({{ text }}) end
        as bigint
    )
{%- endmacro %}
