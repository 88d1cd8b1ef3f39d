{#- Plain schema names (`marts`, not `analytics_marts`): readers outside dbt name them in full. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name | trim if custom_schema_name else target.schema }}
{%- endmacro %}
