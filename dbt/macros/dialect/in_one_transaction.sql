{#- Statements that take effect together; DuckDB's models each have a transaction of their own already. -#}
{% macro in_one_transaction(dml) -%}
    {{ return(adapter.dispatch('in_one_transaction')(dml)) }}
{%- endmacro %}

{% macro default__in_one_transaction(dml) -%}
    {{ return(dml) }}
{%- endmacro %}

{% macro snowflake__in_one_transaction(dml) -%}
    {{ return(snowflake_dml_explicit_transaction(dml)) }}
{%- endmacro %}
