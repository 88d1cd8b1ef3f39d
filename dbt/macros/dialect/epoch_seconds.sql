{#- Whole seconds since 1970 of a timestamp without a zone. -#}
{% macro epoch_seconds(timestamp) -%}
    {{ return(adapter.dispatch('epoch_seconds')(timestamp)) }}
{%- endmacro %}

{% macro default__epoch_seconds(timestamp) -%}
    date_part(epoch_second, {{ timestamp }})
{%- endmacro %}

{% macro duckdb__epoch_seconds(timestamp) -%}
    (epoch_us({{ timestamp }}) // 1000000)
{%- endmacro %}
