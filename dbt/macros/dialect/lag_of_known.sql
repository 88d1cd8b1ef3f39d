{#- Newest value before a row that is not null; `over` is a window in brackets. -#}
{% macro lag_of_known(value, over) -%}
    {{ return(adapter.dispatch('lag_of_known')(value, over)) }}
{%- endmacro %}

{% macro default__lag_of_known(value, over) -%}
    lag({{ value }}) ignore nulls over {{ over }}
{%- endmacro %}

{% macro duckdb__lag_of_known(value, over) -%}
    lag({{ value }} ignore nulls) over {{ over }}
{%- endmacro %}
