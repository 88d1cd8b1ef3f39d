{#- Seconds from one timestamp to a later one, with fractions, as double. -#}
{% macro seconds_between(earlier, later) -%}
    {{ return(adapter.dispatch('seconds_between')(earlier, later)) }}
{%- endmacro %}

{% macro default__seconds_between(earlier, later) -%}
    cast(datediff(microsecond, {{ earlier }}, {{ later }}) as double) / 1000000
{%- endmacro %}

{% macro duckdb__seconds_between(earlier, later) -%}
    cast(epoch_us({{ later }}) - epoch_us({{ earlier }}) as double) / 1000000
{%- endmacro %}
