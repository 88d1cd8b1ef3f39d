{#- Statements in one transaction. On DuckDB each model already has its own transaction. -#}
{% macro in_one_transaction(dml) -%}
    {{ return(adapter.dispatch('in_one_transaction')(dml)) }}
{%- endmacro %}

{% macro default__in_one_transaction(dml) -%}
    {{ return(dml) }}
{%- endmacro %}

{% macro snowflake__in_one_transaction(dml) -%}
    {{ return(snowflake_dml_explicit_transaction(dml)) }}
{%- endmacro %}
