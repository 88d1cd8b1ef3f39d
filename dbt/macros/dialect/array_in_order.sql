{#- Values of a group as an array, in an order. Null values are not allowed: Snowflake omits them. -#}
{% macro array_in_order(value, order) -%}
    {{ return(adapter.dispatch('array_in_order')(value, order)) }}
{%- endmacro %}

{% macro default__array_in_order(value, order) -%}
    array_agg({{ value }}) within group (order by {{ order }})
{%- endmacro %}

{% macro duckdb__array_in_order(value, order) -%}
    array_agg({{ value }} order by {{ order }})
{%- endmacro %}
